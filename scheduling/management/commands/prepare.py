"""What must be there before anything runs, after the tables: the schedules and the first queue."""

from django.core.management.base import BaseCommand

from scheduling import models, schedules, store

DEFAULT_QUEUE = "default"
DEFAULT_RPM = 120


class Command(BaseCommand):
    help = "Make the schedules and the default queue, where they aren't there or aren't right."

    def handle(self, *args, **options) -> None:
        at = store.now()
        models.Queue.objects.get_or_create(
            name=DEFAULT_QUEUE, defaults={"rpm": DEFAULT_RPM, "created_at": at}
        )
        schedules.ensure(at=at)
