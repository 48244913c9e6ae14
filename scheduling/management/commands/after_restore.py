"""`manage.py after_restore`: tells the installation that its database was restored from a backup, or copied."""

from django.core.management.base import BaseCommand

from operators.actor import Actor
from scheduling import activity, models, store


class Command(BaseCommand):
    help = (
        "Run this once after restoring a backup, or copying a database to another installation, and before "
        "starting it: requests get keys (webhook-id) that receivers have not seen."
    )

    def handle(self, *args: object, **options: object) -> None:
        with store.write():
            installation = models.Installation.draw_again()
            activity.record(Actor.command_line(), "drew_keys_again", installation, at=store.now())
        self.stdout.write("Requests have new keys now.")
