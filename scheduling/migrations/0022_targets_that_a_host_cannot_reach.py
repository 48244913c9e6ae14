"""Which hosts could not connect to which targets, so that they leave those to others."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0021_what_a_host_reports")]

    operations = [
        migrations.CreateModel(
            name="Unreachable",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("origin", models.CharField(max_length=300)),
                ("host", models.CharField(max_length=200)),
                ("since", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("error", models.CharField(blank=True, default="", max_length=200)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("origin", "host"), name="unreachable_once"),
                ],
            },
        ),
    ]
