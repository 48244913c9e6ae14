from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from operators import tokens
from operators.actor import Actor
from operators.errors import InvalidTokenName
from operators.models import Scope


class Command(BaseCommand):
    help = "Issue a token for a program and print it, and nothing else. It can't be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the token is for")
        parser.add_argument("--scope", choices=Scope.values, required=True)

    def handle(self, *, name: str, scope: str, **options: object) -> None:
        try:
            _, secret = tokens.issue(name=name, scope=scope, by=Actor.command_line(), at=timezone.now())
        except InvalidTokenName as error:
            raise CommandError(str(error)) from None
        self.stdout.write(secret)
