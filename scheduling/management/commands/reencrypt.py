"""`manage.py reencrypt`: encrypts the secrets in the database with the current key."""

from django.core.management.base import BaseCommand, CommandError

from operators.actor import Actor
from scheduling import store
from scheduling.queues import secrets_at_rest


class Command(BaseCommand):
    help = (
        "Encrypt the secrets of queues, channels, authenticator apps and receipts with the current key: after a key "
        "was replaced, and once after an update, when no host runs a release that stores them as plain text any more."
    )

    def handle(self, *args: object, **options: object) -> None:
        remaining = secrets_at_rest.reencrypt(by=Actor.command_line(), at=store.now())
        if remaining.unreadable:
            raise CommandError(
                f"No key decrypts secrets of: {', '.join(remaining.unreadable)}. They were left as they are."
                " Add the earlier key to SECRET_KEY_FALLBACKS, or enter them again.",
                returncode=1,
            )
        self.stdout.write("All secrets are encrypted with the current key.")
