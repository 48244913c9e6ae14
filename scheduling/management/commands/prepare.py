"""Prepares a migrated database: creates the schedules, the first queue and the random part of keys."""

from contextlib import suppress

from django.core.management.base import BaseCommand

from operators.actor import Actor
from scheduling import models, store
from scheduling.core.errors import QueueTaken
from scheduling.jobqueue import schedules
from scheduling.queues import operations

DEFAULT_QUEUE = "default"
DEFAULT_RPM = 120


class Command(BaseCommand):
    help = "Create or repair the schedules and the default queue."

    def handle(self, *args: object, **options: object) -> None:
        at = store.now()
        if not models.Queue.objects.filter(name=DEFAULT_QUEUE).exists():
            # Another process may prepare at the same time.
            with suppress(QueueTaken):
                operations.create(
                    name=DEFAULT_QUEUE, fields={"rpm": DEFAULT_RPM}, by=Actor.command_line(), at=at
                )
        models.Installation.current()
        schedules.ensure(at=at)
