from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0013_rows_that_stay_in_their_page")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="reference",
            field=models.CharField(blank=True, db_default="", default="", max_length=200),
        ),
    ]
