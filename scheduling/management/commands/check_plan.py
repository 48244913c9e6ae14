"""`manage.py check_plan`: check the plan on live data, and print each difference as two numbers."""

import sys

from django.core.management.base import BaseCommand

from scheduling import proof, store


class Command(BaseCommand):
    help = "Replay the log of reservations and compare counters with rows; exit code 1 if anything is wrong."

    def handle(self, *args: object, **options: object) -> None:
        differences = proof.check(store.now)
        for difference in differences:
            self.stdout.write(str(difference))
        if differences:
            self.stdout.write(f"{len(differences)} things do not hold.")
            sys.exit(1)
        self.stdout.write("The plan holds.")
