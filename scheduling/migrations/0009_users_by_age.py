from django.db import migrations, models

from scheduling.store.operations import AddIndexConcurrently


class Migration(migrations.Migration):
    # So that the index is built while others write.
    atomic = False

    dependencies = [("scheduling", "0008_random_part_of_keys")]

    operations = [
        AddIndexConcurrently(
            model_name="user",
            index=models.Index(fields=["created_at", "id"], name="user_by_age"),
        ),
    ]
