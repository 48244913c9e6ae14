"""`manage.py erase_person ID`: erases a person: name, text ID, data and kept responses."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from operators.actor import Actor
from scheduling import models, store
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
            "--id-type",
            choices=("integer", "text"),
            help="whether it is a number or text, where both are stored",
        )

    def handle(self, *args: object, **options: str) -> None:
        number = _number(options["id"], options["id_type"])
        if number is None:
            raise CommandError("There is no such ID.")
        try:
            cancelled = erasure.erase(number, by=Actor.command_line(), now=store.now)
        except Refused as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"Erased. Requests that were waiting and are cancelled: {cancelled:,}.")


def _number(written_id: str, id_type: str | None) -> int | None:
    """Return the number that stands for an ID as it is written, or None. Raises CommandError where two people fit."""
    number = None if id_type == "text" else id_tokens.read(written_id).id
    text = None if id_type == "integer" else id_tokens.read_text(written_id)[0]
    number_of_text = None if text is None else external_ids.number_of(text)
    if id_type is None and str(number) != text:
        # 007 is somebody else than 7, even once nobody has that ID any more.
        number = None
    if number is None or number_of_text is None:
        return number if number_of_text is None else number_of_text
    if external_ids.is_received(number) or models.User.objects.filter(pk=number).exists():
        raise CommandError(
            f"The number {number} and the text {text} are two people: say who, with --id-type integer or text."
        )
    return number_of_text
