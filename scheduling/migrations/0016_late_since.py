from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('scheduling', '0015_tasks_by_reference'),
    ]

    operations = [
        migrations.AddField(
            model_name='bucket',
            name='late_since_bucket_id',
            field=models.BigIntegerField(blank=True, null=True),
        ),
    ]
