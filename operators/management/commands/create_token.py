from datetime import timedelta

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from operators import tokens
from operators.actor import Actor
from operators.errors import InvalidTokenName
from operators.models import Scope


class Command(BaseCommand):
    help = "Issue a token for a program and print only the token. It can't be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the token is for")
        parser.add_argument("--scope", choices=Scope.values, required=True)
        parser.add_argument("--expires-days", type=int, metavar="N", help="refuse it after N days")
        parser.add_argument("--queue", default="", help="the only queue, for the scope submit")

    def handle(
        self, *, name: str, scope: str, expires_days: int | None, queue: str, **options: object
    ) -> None:
        at = timezone.now()
        try:
            _, secret = tokens.issue(
                name=name,
                scope=scope,
                by=Actor.command_line(),
                at=at,
                expires_at=None if expires_days is None else at + timedelta(days=expires_days),
                queue_name=queue,
            )
        except (InvalidTokenName, ValueError) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(secret)
