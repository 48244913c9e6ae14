"""The columns that travel with IDs: apart from assignments, and only for lists that have them."""

from django.db import models

from .task import IdList


class DataChunk(models.Model):
    """The data of some of a list's IDs, in the order of the list, until each has its row.

    data: the compact JSON of each ID, joined by line feeds, which no compact JSON contains.
    """

    list = models.ForeignKey(IdList, on_delete=models.CASCADE, related_name="data_chunks", db_index=False)
    first_position = models.PositiveBigIntegerField()
    ids_count = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["list", "first_position"], name="data_chunk_once_in_a_list"),
        ]


class IdData(models.Model):
    """The data of one ID of one task: a JSON object, as it was read."""

    pk = models.CompositePrimaryKey("task_id", "user_id")
    task_id = models.BigIntegerField()
    user_id = models.BigIntegerField()
    data = models.TextField()
