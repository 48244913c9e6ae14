"""`manage.py demo`: invent data for a demonstration; with `--generate`, keep sending."""

import signal
import time
from datetime import timedelta

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, connection

from scheduling import demo, models, store
from scheduling.core import clock
from scheduling.jobqueue import cluster, tables

# How long the clusters take to start their first minute worker.
STARTING = timedelta(seconds=8)


class Command(BaseCommand):
    help = "Fill a fresh instance with a day of invented history; with --generate send some IDs every second."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--generate", action="store_true", help="go on sending until told to stop")

    def handle(self, *args: object, generate: bool, **options: object) -> None:
        if generate:
            self._generate()
        elif models.Task.objects.exists():
            self.stdout.write("There are tasks already, so nothing was invented.")
        else:
            self._populate()

    def _populate(self) -> None:
        began = time.monotonic()
        at = store.now()
        lists = demo.populate(at=at)
        # Run the current minute too: the clusters start only now, and its IDs would be late.
        demo.catch_up(at, at=store.now() + STARTING + clock.MINUTE)
        # Everything is written and run, so of the jobs that the lists queued only those of coming minutes stay.
        tables.QueuedJob.objects.filter(key=cluster.DEFAULT).delete()
        self.stdout.write(f"Invented a day of lists ({lists:,}) in {time.monotonic() - began:.0f} s.")

    def _generate(self) -> None:
        # The runner ends this process by either signal, and there is nothing to finish.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._leave())
        if not models.Queue.objects.filter(name="default").exists():
            raise CommandError("There is no queue yet: run `manage.py prepare` first.")
        demo.make_queues(at=store.now())
        while True:
            try:
                demo.generate()
            except (OperationalError, InterfaceError):
                connection.close()
                time.sleep(1)

    @staticmethod
    def _leave() -> None:
        raise SystemExit(0)
