"""What a cluster reports of its host: its clock, its way to the database, jobs that it can't read."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0020_data_of_ids")]

    operations = [
        migrations.AddField("heartbeat", "clock_offset_ms", models.IntegerField(blank=True, null=True)),
        migrations.AddField("heartbeat", "round_trip_ms", models.PositiveIntegerField(blank=True, null=True)),
        migrations.AddField("heartbeat", "foreign_job_at", models.DateTimeField(blank=True, null=True)),
    ]
