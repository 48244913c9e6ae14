"""Plans under carry_over: over many windows, beside what is there, and past the horizon."""

import random
import time
from itertools import accumulate

import pytest
from django.utils import timezone

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.core.errors import PastHorizon
from scheduling.placement import reservations
from tests.scheduling.lists_of_ids import NOON

pytestmark = pytest.mark.django_db


@pytest.fixture
def queue(db) -> models.Queue:
    return models.Queue.objects.create(name="slow", rpm=2, overflow="carry_over", created_at=timezone.now())


def fill_at_random(queue: models.Queue, windows: range, *, seed: int) -> dict[int, list[int]]:
    """Give some of the windows (offsets from the open one) a fill; return the fills by offset."""
    draw = random.Random(seed)
    first = keys.window_id(queue.pk, clock.open_window_start(NOON))
    chosen = {offset: [draw.randint(0, 3) for _ in range(15)] for offset in windows if draw.random() < 0.5}
    with store.write():
        store.create_windows([first + offset for offset in chosen], capacity=queue.rpm)
        for offset, fill in chosen.items():
            for k, count in enumerate(fill):
                bucket = models.Bucket.objects.filter(pk=keys.bucket_id(first + offset, k))
                bucket.update(filled_count=count, waiting_count=count)
    return chosen


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ids_count", [1, 29, 30, 31, 500])
def test_carry_over_plan_gives_each_id_the_first_bucket_with_room(queue, seed, ids_count):
    fills = fill_at_random(queue, range(12), seed=seed)
    plan = reservations.plan(queue, ids_count, at=NOON)
    # The rule itself, one ID after the other.
    expected: dict[int, list[int]] = {}
    remaining, offset = ids_count, 0
    while remaining:
        for k in range(15):
            room = max(0, queue.rpm - fills.get(offset, [0] * 15)[k])
            if taken := min(remaining, room):
                expected.setdefault(offset, [0] * 15)[k] = taken
                remaining -= taken
        offset += 1
    first = keys.window_id(queue.pk, clock.open_window_start(NOON))
    assert {window.window_id - first: list(window.added) for window in plan.windows} == expected
    assert [list(w.before) for w in plan.windows] == [fills.get(o, [0] * 15) for o in expected]
    sums = accumulate((sum(added) for added in expected.values()), initial=0)
    assert [window.first_position for window in plan.windows] == list(sums)[:-1]


@pytest.mark.parametrize("ids_count", [20_160 + 1, 10_000_000])
def test_list_that_takes_years_is_refused_quickly_with_its_end(queue, ids_count):
    began = time.process_time()
    plan = reservations.plan(queue, ids_count, at=NOON)
    with pytest.raises(PastHorizon):
        reservations.check(queue, plan, at=NOON)
    assert time.process_time() - began < 2
    windows = -(-ids_count // 30)
    ends_with = clock.runs_at(clock.open_window_start(NOON)) + (windows - 1) * clock.QUARTER
    assert ends_with <= plan.last_at < ends_with + clock.QUARTER


def test_list_that_just_fits_the_horizon_is_planned_completely(queue):
    # From noon on the horizon of 7 days ends with the window before noon.
    plan = reservations.plan(queue, 20_160 - 30, at=NOON)
    assert plan.ids_count == 20_160 - 30
    reservations.check(queue, plan, at=NOON)
