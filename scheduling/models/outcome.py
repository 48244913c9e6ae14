"""The outcomes of IDs, in the order in which they were committed."""

from django.db import models

from .fields import RowIdField


class OutcomeEntry(models.Model):
    """Some IDs of a queue that got their outcome in one transaction; the outcomes themselves are in their rows.

    Its key is the microsecond in which it was committed, or one more than the largest key there is: so keys are in
    the order of commits, and those of a restored or promoted database are larger than all that it gave before. See
    scheduling.store.outcomes.
    """

    id = RowIdField()
    queue_id = models.BigIntegerField()
    # The places of the IDs: from the first key to the last one, or only those in `keys` (8 bytes each, ascending).
    first_key = models.BigIntegerField()
    last_key = models.BigIntegerField()
    keys = models.BinaryField(null=True)

    class Meta:
        indexes = [models.Index(fields=["queue_id", "id"], name="outcome_by_queue")]


class FormerOutcome(models.Model):
    """The outcome that an ID had in a place that it has left since, as it is sent again. A place is used once."""

    id = RowIdField()
    user_id = models.BigIntegerField()
    task_id = models.BigIntegerField()
    status = models.SmallIntegerField()
    attempts = models.SmallIntegerField()
