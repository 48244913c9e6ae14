"""`manage.py verify_receipts FILE`: check a signed file of receipts, and print what it states."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from scheduling.core.receipt_chain import Broken
from scheduling.reports import receipt_files, receipt_verification


class Command(BaseCommand):
    help = "Check the signature, the chain and the statement of a file of receipts; exit code 1 if anything is wrong."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="a file that was exported here or by another installation")

    def handle(self, *args: object, **options: str) -> None:
        try:
            with open(options["file"], "rb") as file:
                statement, public_key = receipt_verification.verify(file)
        except OSError as error:
            raise CommandError(f"The file can't be read: {error.strerror}.") from None
        except Broken as error:
            raise CommandError(str(error)) from None
        is_own = public_key == receipt_files.public_key()
        self.stdout.write(statement["statement"])
        self.stdout.write(
            "The file holds, and this installation has signed it."
            if is_own
            else f"The file holds. Another installation has signed it, with this key:\n{public_key}"
        )
