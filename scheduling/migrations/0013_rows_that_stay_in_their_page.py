from django.db import migrations, models

from scheduling.store.operations import (
    AddIndexConcurrently,
    DropIndexOnPostgreSQL,
    RemoveIndexConcurrently,
    SetFillFactor,
)


class Migration(migrations.Migration):
    # So that indexes are built and dropped while others write.
    atomic = False

    dependencies = [("scheduling", "0012_previous_secret")]

    operations = [
        # First: the index that replaces the next one.
        AddIndexConcurrently(
            model_name="bucket",
            index=models.Index(
                fields=["id"], name="bucket_in_flight", condition=models.Q(in_flight_count__gt=0)
            ),
        ),
        RemoveIndexConcurrently(model_name="assignment", name="assignment_in_flight"),
        # On SQLite a statement of the previous release names it.
        DropIndexOnPostgreSQL(
            "assignment_failed",
            restore="CREATE INDEX CONCURRENTLY assignment_failed ON scheduling_assignment (id) WHERE status = 4",
        ),
        # A row has one version more for each of its two changes of status, until nobody can see the old one.
        SetFillFactor("scheduling_assignment", 50),
    ]
