"""The people whose IDs are in lists. Operators, who sign in, are stored elsewhere."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from .fields import RowIdField

MAX_ID = 2**63 - 1


class User(models.Model):
    """A person whose ID is in a list. The name stays empty until somebody sets it."""

    id = RowIdField(validators=[MinValueValidator(1), MaxValueValidator(MAX_ID)])
    name = models.CharField(max_length=200, blank=True, default="")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["name"], name="user_named", condition=~Q(name="")),
            # Newest first, page by page. Users of a list are added in this order, so it costs little.
            models.Index(fields=["created_at", "id"], name="user_by_age"),
        ]
        # Negative: it stands for an ID that is text.
        constraints = [models.CheckConstraint(condition=~Q(id=0), name="user_id_in_range")]

    def __str__(self) -> str:
        # Of one whose ID is text, nobody is told the number.
        return (self.name or "a user") if self.id < 0 else f"{self.id} {self.name}".rstrip()
