from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0034_share_of_a_list")]

    operations = [
        migrations.AddField(
            model_name="queue",
            name="brake_reason",
            field=models.CharField(blank=True, db_default="", default="", max_length=200),
        ),
        migrations.AddField(
            model_name="queue",
            name="pause_reason",
            field=models.CharField(blank=True, db_default="", default="", max_length=200),
        ),
    ]
