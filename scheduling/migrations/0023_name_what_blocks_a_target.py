"""Rename two fields in Python alone: the columns, which the previous release reads, keep their names."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0022_targets_that_a_host_cannot_reach")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RenameField("target", "held_until", "blocked_until"),
                migrations.RenameField("target", "held_because", "block_reason"),
                migrations.AlterField(
                    "target",
                    "blocked_until",
                    models.DateTimeField(blank=True, db_column="held_until", null=True),
                ),
                migrations.AlterField(
                    "target",
                    "block_reason",
                    models.CharField(blank=True, db_column="held_because", default="", max_length=200),
                ),
            ]
        )
    ]
