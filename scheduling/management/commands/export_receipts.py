"""`manage.py export_receipts --queue NAME ... --since TIME --until TIME`: write a signed file of receipts to stdout."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scheduling import store
from scheduling.core.errors import Refused
from scheduling.reports import receipt_files


class Command(BaseCommand):
    help = "Write the receipts of some queues, or of all, as a signed file. docs/receipts.md says how others check it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--queue", action="append", help="the name of a queue; may be repeated; default: all"
        )
        parser.add_argument("--since", required=True, type=_time, help="such as 2026-11-25T00:00:00Z")
        parser.add_argument("--until", required=True, type=_time, help="the end, not included")

    def handle(self, *args: object, **options: Any) -> None:
        at = store.now()
        try:
            queues = receipt_files.chosen_queues(options["queue"] or [], target=None)
            receipt_files.check_range(options["since"], options["until"], at=at)
            for line in receipt_files.write(queues, options["since"], options["until"], at=at):
                self.stdout.write(line.decode(), ending="")
        except Refused as error:
            raise CommandError(str(error)) from None


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.utcoffset() is None:
        raise ValueError(text)
    return at.astimezone(UTC)
