"""`manage.py possible_repeats`: names the IDs that may have gone out twice around the moment of a failover."""

import csv
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_datetime

from scheduling import models
from scheduling.core import clock, keys
from scheduling.handlers.base import message_key
from scheduling.models import Status
from scheduling.store import blocks

LONGEST = timedelta(days=1)


class Command(BaseCommand):
    help = (
        "List the IDs that may have gone out twice around a failover to a standby that was behind (asynchronous"
        " replication): what the old primary may have sent and could not pass on, and what was sent again since."
        " CSV: queue, task, ID, webhook-id, what is known of it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("lost_from", type=_time, help="the last moment of which the standby knew, in UTC")
        parser.add_argument("promoted", type=_time, help="when it was promoted, in UTC: 2026-11-29T22:06:30")

    def handle(self, *, lost_from: datetime, promoted: datetime, **options: object) -> None:
        if not lost_from <= promoted <= lost_from + LONGEST:
            raise CommandError("The first time comes before the second, by a day at most.")
        rows = csv.writer(self.stdout)
        rows.writerow(["queue", "task", "id", "webhook_id", "known"])
        count = 0
        for row in possible_repeats(lost_from, promoted):
            rows.writerow(row)
            count += 1
        print(f"May have gone out twice: {count:,}.", file=sys.stderr)


def possible_repeats(lost_from: datetime, promoted: datetime) -> Iterator[tuple[Any, ...]]:
    """Yield (queue, task, ID, webhook-id, what is known).

    An ID whose slot lay in the time that was lost, and that is in the database as not started by the promotion, may
    have been started by the old primary.
    """
    installation = models.Installation.current()
    queues = dict(models.Queue.objects.values_list("pk", "name"))
    first, last = clock.minute_start(lost_from), clock.minute_start(promoted)
    minutes = [first + number * clock.MINUTE for number in range((last - first) // clock.MINUTE + 1)]
    for queue_id, queue in sorted(queues.items()):
        for minute in minutes:
            bucket_id = keys.bucket_at(queue_id, minute)
            for task_id, user_id, note in _of_bucket(bucket_id, minute, promoted):
                yield (
                    queue,
                    task_id,
                    user_id,
                    message_key(installation.key_part_of(task_id), task_id, user_id),
                    note,
                )


def _of_bucket(bucket_id: int, minute: datetime, promoted: datetime) -> Iterator[tuple[int, int, str]]:
    low, high = keys.range_of_bucket(bucket_id)
    known_by_then = max(0, round((promoted - minute).total_seconds() * 1000))
    rows = models.Assignment.objects.filter(pk__gte=low, pk__lte=high)
    columns = ("task_id", "user_id", "status", "started_after_ms")
    for _, task_id, user_id, status, started in blocks.values_in_blocks(rows, *columns):
        if status in (Status.WAITING, Status.IN_FLIGHT):
            yield task_id, user_id, "not sent yet: may go out a second time"
        elif started is not None and started >= known_by_then:
            yield task_id, user_id, "sent after the promotion: may have been sent before"
    moved = models.Move.objects.filter(from_bucket_id=bucket_id, moved_at__gte=promoted)
    for _, task_id, user_id in blocks.values_in_blocks(moved, "task_id", "user_id"):
        yield task_id, user_id, "moved after the promotion: may have been sent before"


def _time(text: str) -> datetime:
    at = parse_datetime(text)
    if at is None:
        raise ValueError(text)
    return at if at.tzinfo else at.replace(tzinfo=clock.EPOCH.tzinfo)
