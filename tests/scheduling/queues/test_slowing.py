"""What a brake or a pause would do is what it does."""

from datetime import timedelta

import pytest

from scheduling import models
from scheduling.core import clock, keys
from scheduling.queues import slowing
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db
# Minute by minute it is worked out the same.
ALWAYS = {"zone": "UTC", "open": ["mon-sun 00:00-24:00"]}
AT = MINUTE - timedelta(seconds=30)


def planned(counts: dict[int, int], **fields) -> models.Queue:
    queue = make_queue(**{"rpm": 10, **fields})
    ids = iter(range(1, 100_000))
    place(
        queue,
        {MINUTE + k * clock.MINUTE: [next(ids) for _ in range(n)] for k, n in counts.items()},
        at=BEFORE,
    )
    return queue


def simulated(counts: dict[int, int], *, limit, room, minutes=None) -> tuple[int, int | None]:
    """Minute by minute: IDs that get another one, and the last minute."""
    carried = moved = 0
    last, k = None, 0
    while k <= max(counts) or carried:
        planned_count = counts.get(k, 0)
        limited = minutes is None or k < minutes
        sent = min(planned_count, limit) if limited else planned_count
        free = 0 if limited and minutes is not None else max(0, room - sent)
        taken = min(carried, free)
        moved += planned_count - sent
        carried += planned_count - sent - taken
        last = k if sent + taken else last
        k += 1
        if k > 500:
            return moved, None
    return moved, last


@pytest.mark.parametrize(
    "counts", [{0: 10, 1: 10, 2: 10}, {0: 30}, {0: 3, 5: 25, 6: 1, 30: 4}, {2: 7, 9: 12}]
)
@pytest.mark.parametrize("per_minute", [0, 1, 4, 10, 50])
@pytest.mark.parametrize("hours", [None, ALWAYS])
def test_effect_of_a_brake_agrees_with_a_simulation(counts, per_minute, hours):
    queue = planned(counts, hours=hours)

    effect = slowing.effect_of_brake(queue, per_minute, at=AT)

    moved, last = simulated(counts, limit=per_minute, room=min(10, per_minute))
    end = None if last is None else MINUTE + (last + 1) * clock.MINUTE
    assert (effect.moved_count, effect.ends_after, effect.ids_count) == (moved, end, sum(counts.values()))
    assert effect.ends_before == MINUTE + (max(counts) + 1) * clock.MINUTE


@pytest.mark.parametrize("counts", [{0: 10, 1: 10, 2: 10}, {0: 3, 5: 25, 6: 1, 30: 4}, {20: 12}])
@pytest.mark.parametrize("minutes", [1, 5, 15])
def test_effect_of_a_pause_agrees_with_a_simulation(counts, minutes):
    queue = planned(counts)

    effect = slowing.effect_of_pause(queue, minutes, at=AT)

    moved, last = simulated(counts, limit=0, room=10, minutes=minutes)
    assert (effect.moved_count, effect.ends_after) == (moved, MINUTE + (last + 1) * clock.MINUTE)


def test_slowing_an_empty_queue_has_no_effect():
    effect = slowing.effect_of_brake(make_queue(rpm=10), 1, at=AT)

    assert (effect.ids_count, effect.moved_count, effect.ends_before, effect.ends_after) == (0, 0, None, None)


def test_effect_begins_at_the_first_minute_that_is_not_sealed():
    queue = planned({0: 10, 1: 10})

    effect = slowing.effect_of_brake(queue, 5, at=MINUTE - timedelta(seconds=1))

    assert effect.from_minute == MINUTE + clock.MINUTE
    assert (
        effect.ids_count
        == models.Bucket.objects.get(pk=keys.bucket_at(queue.pk, effect.from_minute)).waiting_count
    )


def test_effect_of_a_pause_passes_over_closed_minutes():
    opens_at = MINUTE + 5 * clock.MINUTE
    span = f"{MINUTE:%a} {MINUTE:%H:%M}-{MINUTE + 2 * clock.MINUTE:%H:%M}".lower()
    later = f"{opens_at:%a} {opens_at:%H:%M}-24:00".lower()
    queue = planned({0: 10, 1: 5}, hours={"zone": "UTC", "open": [span, later]})

    effect = slowing.effect_of_pause(queue, 2, at=AT)

    assert (effect.moved_count, effect.ends_after) == (15, opens_at + 2 * clock.MINUTE)
