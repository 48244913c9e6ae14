"""What must be there before anything runs, after the tables: the schedules and the first queue."""

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
    help = "Make the schedules and the default queue, where they aren't there or aren't right."

    def handle(self, *args, **options) -> None:
        at = store.now()
        if not models.Queue.objects.filter(name=DEFAULT_QUEUE).exists():
            # Of two that prepare at once one is first.
            with suppress(QueueTaken):
                operations.create(
                    name=DEFAULT_QUEUE, fields={"rpm": DEFAULT_RPM}, by=Actor.command_line(), at=at
                )
        schedules.ensure(at=at)
