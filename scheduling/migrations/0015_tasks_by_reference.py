from django.db import migrations, models

from scheduling.store.operations import AddIndexConcurrently


class Migration(migrations.Migration):
    # So that the index is built while others write.
    atomic = False

    dependencies = [("scheduling", "0014_reference_of_a_task")]

    operations = [
        AddIndexConcurrently(
            model_name="task",
            index=models.Index(
                condition=models.Q(("reference", ""), _negated=True),
                fields=["reference", "-id"],
                name="task_by_reference",
            ),
        ),
    ]
