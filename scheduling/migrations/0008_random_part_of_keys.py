from django.db import migrations, models

import scheduling.models.installation


def draw(apps, schema_editor):
    """Draw the part; tasks that exist keep their keys."""
    last = apps.get_model("scheduling", "Task").objects.order_by("-pk").values_list("pk", flat=True).first()
    apps.get_model("scheduling", "Installation").objects.create(pk=1, last_task_without_part=last or 0)


class Migration(migrations.Migration):

    dependencies = [
        ("scheduling", "0007_checks_of_the_plan"),
    ]

    operations = [
        migrations.CreateModel(
            name="Installation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key_part", models.CharField(default=scheduling.models.installation.draw_key_part, max_length=16)),
                ("last_task_without_part", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.RunPython(draw, migrations.RunPython.noop),
    ]
