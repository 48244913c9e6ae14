from django.db import migrations, models
from django.db.models import Q

from scheduling.store.operations import AddIndexConcurrently


class Migration(migrations.Migration):
    # So that the index is built while others write.
    atomic = False

    dependencies = [("scheduling", "0035_reasons_of_pauses_and_brakes")]

    operations = [
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                condition=Q(finished_at=None, cancelled_at=None)
                & (Q(held_at__isnull=False) | Q(deadline_at__isnull=False)),
                fields=["id"],
                name="task_to_watch",
            ),
        ),
    ]
