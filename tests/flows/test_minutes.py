"""Real minutes on real clusters: every ID in its minute, at its slot, once."""

from datetime import datetime, timedelta

import pytest
from django.conf import settings

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.models import Status
from scheduling.reports import receipts
from tests.patience import wait_until
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import make_queue, place

from .clusters import wait_for_clusters

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.minutes]


def coming_minute(*, ahead_seconds: float = 12) -> datetime:
    """The start of the first minute that is at least so far away: a test needs a while to place its IDs."""
    return clock.minute_start(store.now() + timedelta(seconds=ahead_seconds)) + clock.MINUTE


def arm(*minutes: datetime) -> None:
    from scheduling.jobqueue import minute_jobs

    with store.write():
        minute_jobs.arm(minutes, at=store.now())


def over(minute: datetime) -> float:
    """Seconds until the minute is over, and a little more."""
    return (minute - store.now()).total_seconds() + 60 + 5


def started(queue: models.Queue, *minutes: datetime) -> list[float]:
    """When requests started, in seconds from the first minute on."""
    result = []
    for minute in minutes:
        first, last = keys.range_of_bucket(keys.bucket_at(queue.pk, minute))
        rows = models.Assignment.objects.filter(pk__gte=first, pk__lte=last, started_after_ms__isnull=False)
        offset = (minute - minutes[0]).total_seconds()
        result += [offset + ms / 1000 for ms in rows.values_list("started_after_ms", flat=True)]
    return sorted(result)


def test_ids_are_recorded_in_their_minute_at_their_slot(start_cluster):
    """Fifty queues, two clusters with two seats each minute, over the border of two minutes."""
    for _ in range(2):
        start_cluster("minutes")
    wait_for_clusters(2)
    first = coming_minute()
    second = first + clock.MINUTE
    busy = make_queue("busy", rpm=600)
    place(busy, {first: range(1, 601), second: range(601, 1201)}, at=store.now())
    others = [make_queue(f"q{n}", rpm=60) for n in range(49)]
    tasks = [place(queue, {first: range(n, n + 10)}, at=store.now()) for n, queue in enumerate(others, 1)]
    arm(first, second)
    wait_until(
        lambda: not models.Assignment.objects.exclude(status=Status.SUCCEEDED).exists(),
        "all IDs are recorded",
        seconds=over(second),
    )
    check_counters()
    times = started(busy, first, second)
    assert times[0] < 0.05
    assert all(abs(time - slot * 0.1) <= 0.1 for slot, time in enumerate(times))
    assert receipts.most_in_60_seconds({round(time * 1000): 1 for time in times}) <= 601
    assert len(times) == 1200
    for task in tasks:
        task.refresh_from_db()
        assert task.finished_at is not None
    assert models.Minute.objects.filter(started_at__isnull=False).count() == 2
    assert models.Minute.objects.first().seats == settings.SEATS
