from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("operators", "0002_token_expiry_and_submit")]

    operations = [
        migrations.AddField(
            model_name="operator",
            name="oidc_subject",
            field=models.CharField(
                blank=True,
                help_text="Who signs in with this subject is this operator, and gets the role of the claim.",
                max_length=255,
                null=True,
                unique=True,
                verbose_name="OpenID Connect subject",
            ),
        ),
    ]
