"""Let secrets of queues be encrypted: an installation without queues begins with it, others have a command."""

from django.db import migrations, models

import scheduling.models.fields


def begin_where_new(apps, schema_editor):
    """Encrypt from the beginning where no host with an earlier release can have stored anything."""
    if not apps.get_model("scheduling", "Queue").objects.exists():
        apps.get_model("scheduling", "Installation").objects.update(encrypts_secrets=True)


class Migration(migrations.Migration):

    dependencies = [
        ("scheduling", "0029_tasks_by_deadline"),
    ]

    operations = [
        migrations.AddField(
            model_name="installation",
            name="encrypts_secrets",
            field=models.BooleanField(db_default=False, default=True),
        ),
        # The column stays as it is.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name="queue",
                    name="webhook_headers",
                    field=scheduling.models.fields.SecretsField(blank=True, default=dict),
                ),
            ]
        ),
        migrations.AlterField(
            model_name="queue",
            name="webhook_previous_secret",
            field=scheduling.models.fields.SecretField(blank=True, db_default="", default=""),
        ),
        migrations.AlterField(
            model_name="queue",
            name="webhook_secret",
            field=scheduling.models.fields.SecretField(blank=True, db_default="", default=""),
        ),
        migrations.AddField(
            model_name="queue",
            name="block_reason",
            field=models.CharField(blank=True, db_default="", default="", max_length=300),
        ),
        migrations.AddField(
            model_name="queue",
            name="blocked_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.RunPython(begin_where_new, migrations.RunPython.noop),
    ]
