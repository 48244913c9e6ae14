from django.core.management.base import BaseCommand
from django.utils import timezone

from operators import accounts
from operators.actor import Actor


class Command(BaseCommand):
    help = (
        "Create the first operator with a random password and print both, unless an operator already exists."
    )

    def handle(self, **options: object) -> None:
        if created := accounts.make_first(by=Actor.command_line(), at=timezone.now()):
            operator, password = created
            self.stdout.write(f"First operator: {operator.username}")
            self.stdout.write(f"Password (shown once): {password}")
