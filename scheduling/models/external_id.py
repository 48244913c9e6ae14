"""IDs that are text, and the number that stands for each of them."""

from django.db import models
from django.db.models import Q

from .fields import RowIdField


class ExternalId(models.Model):
    """An ID as its owner wrote it. id: from -1 down, so that it never is a number that anybody supplies.

    It is there from the moment at which a list with it is read, its user only once the list is accepted and written.
    """

    id = RowIdField()
    external_id = models.CharField(max_length=100)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["external_id"], name="external_id_once"),
            models.CheckConstraint(condition=Q(id__lt=0), name="external_id_has_a_negative_number"),
        ]
