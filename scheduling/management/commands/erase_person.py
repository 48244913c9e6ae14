"""`manage.py erase_person ID`: erases a person: name, text ID, data and kept responses."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from operators.actor import Actor
from scheduling import store
from scheduling.core import id_tokens
from scheduling.core.errors import Refused
from scheduling.lists import external_ids
from scheduling.tasks import erasure


class Command(BaseCommand):
    help = (
        "Erase a person: the name, the ID if it is text, the data and the kept responses are deleted, and whatever is "
        "waiting is cancelled. Rows keep only a number."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", help="the ID, as its owner wrote it")
        parser.add_argument(
            "--id-type", choices=("integer", "text"), default="integer", help="whether it is a number or text"
        )

    def handle(self, *args: object, **options: str) -> None:
        if options["id_type"] == "text":
            number = external_ids.number_of(id_tokens.read_text(options["id"])[0] or "")
        else:
            number = id_tokens.read(options["id"]).id
        if number is None:
            raise CommandError("There is no such ID.")
        try:
            cancelled = erasure.erase(number, by=Actor.command_line(), now=store.now)
        except Refused as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"Erased. Requests that were waiting and are cancelled: {cancelled:,}.")
