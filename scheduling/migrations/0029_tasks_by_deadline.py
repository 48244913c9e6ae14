from django.db import migrations, models

from scheduling.store.operations import AddIndexConcurrently


class Migration(migrations.Migration):
    # So that the index is built while others write.
    atomic = False

    dependencies = [("scheduling", "0028_alerts_and_events")]

    operations = [
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                condition=models.Q(("deadline_at__isnull", False)),
                fields=["deadline_at"],
                name="task_with_deadline",
            ),
        ),
    ]
