from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from operators import tokens
from operators.actor import Actor
from operators.errors import NamelessToken
from operators.models import Scope


class Command(BaseCommand):
    help = "Make a token for a program, and print it and nothing else. It can't be shown again."

    def add_arguments(self, parser) -> None:
        parser.add_argument("name", help="what the token is for")
        parser.add_argument("--scope", choices=Scope.values, required=True)

    def handle(self, *, name: str, scope: str, **options) -> None:
        try:
            _, secret = tokens.issue(name=name, scope=scope, by=Actor.command_line(), at=timezone.now())
        except NamelessToken as error:
            raise CommandError(str(error)) from None
        self.stdout.write(secret)
