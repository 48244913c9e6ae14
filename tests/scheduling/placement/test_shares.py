"""Lists that may take only a share of each minute, compared with a reference that places one ID at a time."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import clock
from scheduling.core.errors import BadFields
from scheduling.placement import reservations
from scheduling.placement.reservations import Start
from scheduling.queues import operations
from tests.scheduling import lists_of_ids
from tests.scheduling.lists_of_ids import check_counters, check_log, write_all

pytestmark = pytest.mark.django_db
BY = Actor.command_line()
AT = datetime(2026, 11, 27, 16, 20, tzinfo=UTC)
WORST_RATE = 1_000_000


def make(**fields) -> models.Queue:
    return operations.create(name="q", fields={"overflow": "carry_over", **fields}, by=BY, at=AT)


def fill() -> Counter[datetime]:
    result: Counter[datetime] = Counter()
    for bucket in models.Bucket.objects.filter(filled_count__gt=0):
        result[bucket.minute_at] = bucket.filled_count
    return result


def reference(queue: models.Queue, ids_count: int, first: datetime) -> Counter[datetime]:
    """One ID at a time: the first minute below the capacity of which this list has less than its share."""
    filled, own = fill(), Counter[datetime]()
    hours = set(range(9, 18)) if queue.hours else set(range(24))
    share = max(1, queue.rpm * queue.max_share_percent // 100)
    for _ in range(ids_count):
        minute = first
        while minute.hour not in hours or not (
            filled[minute] < queue.rpm - queue.headroom and own[minute] < share
        ):
            minute += clock.MINUTE
        filled[minute] += 1
        own[minute] += 1
    return own


@pytest.mark.parametrize("start", Start)
@pytest.mark.parametrize("seed", range(8))
def test_places_follow_the_share_one_by_one(seed, start, tmp_path, settings):
    settings.WRITE_RATE = WORST_RATE
    chance = random.Random(seed)
    hours = {"zone": "UTC", "open": ["mon-sun 09:00-18:00"]} if seed % 2 else None
    rpm = chance.randint(1, 40)
    queue = make(
        rpm=rpm, max_share_percent=chance.randint(1, 99), hours=hours, headroom=chance.randint(0, rpm - 1)
    )
    for number in range(6):
        count = chance.randint(1, 300)
        before = fill()
        if start == Start.NEXT_WINDOW:
            first = clock.runs_at(clock.open_window_start(AT))
        else:
            first = clock.first_writable_minute(AT, ids=count, unwritten=(), rate=WORST_RATE)
        expected = reference(queue, count, first)
        ids = range(number * 1_000 + 1, number * 1_000 + 1 + count)
        lists_of_ids.submit(ids, tmp_path, by=BY, at=AT, queue_name="q", start=start)
        assert fill() - before == expected
        write_all(AT)
    check_log()
    check_counters()
    assert proof.check(lambda: AT) == []


def test_short_list_does_not_wait_for_a_long_one(tmp_path):
    queue = make(rpm=60, max_share_percent=60)
    lists_of_ids.submit(range(1, 3_601), tmp_path, by=BY, at=AT, queue_name="q")
    plan = reservations.plan(queue, 24, at=AT)
    first = clock.runs_at(clock.open_window_start(AT))
    assert (plan.first_at, plan.last_at) == (first, first)


def test_plan_says_what_the_share_costs():
    queue = make(rpm=60, max_share_percent=60)
    plan = reservations.plan(queue, 3_600, at=AT)
    first = clock.runs_at(clock.open_window_start(AT))
    assert plan.last_at == first + timedelta(minutes=99)
    assert plan.share == reservations.ShareCost(60, 24, first + timedelta(minutes=59))
    assert plan.share.ends_at == first + timedelta(minutes=60)
    whole = operations.update(queue, {"max_share_percent": 100}, by=BY, now=lambda: AT)
    assert reservations.plan(whole, 3_600, at=AT).share is None


def test_share_is_refused_where_lists_disperse():
    with pytest.raises(BadFields) as refused:
        operations.create(name="d", fields={"max_share_percent": 50}, by=BY, at=AT)
    assert set(refused.value.reasons) == {"max_share_percent"}
    queue = make(max_share_percent=50)
    with pytest.raises(BadFields):
        operations.update(queue, {"overflow": "disperse"}, by=BY, now=lambda: AT)
