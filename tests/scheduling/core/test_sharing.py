"""Queues at one target: no two use the same slot, and both limits hold in any 60 seconds."""

import random
from collections import Counter

import pytest

from scheduling.core import pacing, sharing
from scheduling.core.sharing import places, plan, shares


def random_parts(chance: random.Random, slots: int) -> tuple[int, ...]:
    """How many of the slots each of some queues has: often all of them together."""
    parts, remaining = [], slots
    for _ in range(chance.randint(1, 6)):
        parts.append(chance.choice([chance.randint(0, remaining), chance.randint(0, max(0, remaining // 3))]))
        remaining -= parts[-1]
    if chance.random() < 0.5:
        parts.append(remaining)
    return tuple(parts)


@pytest.mark.parametrize("seed", range(400))
def test_slots_are_different_and_lie_in_their_part_of_the_minute(seed):
    chance = random.Random(seed)
    slots = chance.choice([1, 2, 7, 60, 61, 600, 1_199, chance.randint(1, 3_000)])
    parts = random_parts(chance, slots)
    result = places(slots, parts)
    assert [len(item) for item in result] == list(parts)
    taken = [slot for item in result for slot in item]
    assert len(set(taken)) == len(taken)
    assert all(0 <= slot < slots for slot in taken)
    for number, part in enumerate(parts):
        if not part:
            continue
        of_queue = plan(slots, parts, number, part)
        offsets = [of_queue.offset_of(slot) for slot in range(part)]
        assert offsets == sorted(offsets)
        for j, offset in enumerate(offsets):
            # A start within the tolerance keeps to the queue's own slot and to the target's.
            assert of_queue.tolerance_of(j) > 0
            assert j * 60 / part <= offset < (j + 1) * 60 / part
            latest = offset + of_queue.tolerance_of(j)
            own_tolerance = max(60 / part, pacing.LEAST_TOLERANCE_SECONDS)
            assert latest <= j * 60 / part + own_tolerance + 1e-9
            assert latest <= result[number][j] * 60 / slots + of_queue.tolerance_seconds + 1e-9
        for offset in (0, 0.001, 30, 59.9, 60, *offsets[:5]):
            assert of_queue._first_slot_from(offset) == sum(item < offset for item in offsets)
        assert len(of_queue.slots_between(0, 60)) == part


@pytest.mark.parametrize("seed", range(60))
def test_starts_in_any_60_seconds_stay_within_both_limits(seed):
    """Minutes whose queues change, full of requests that start as late as they may, or at once."""
    chance = random.Random(seed)
    slots = chance.choice([5, 30, 60, 61, 240, 1_500])
    rpm = random_parts(chance, slots)
    starts: dict[int, list[float]] = {number: [] for number in range(len(rpm))}
    for minute in range(4):
        # A queue has its rpm, or less in a quiet minute.
        parts = tuple(item if chance.random() < 0.8 else chance.randint(0, item) for item in rpm)
        delay = chance.choice([0.0, 1.0, None])
        for number, part in enumerate(parts):
            of_queue = plan(slots, parts, number, part) if part else None
            for slot in range(part):
                late = chance.random() if delay is None else delay
                # The last moment itself is the next slot's.
                tolerance = of_queue.tolerance_of(slot) * (1 - 1e-9)
                starts[number].append(minute * 60 + of_queue.offset_of(slot) + late * tolerance)
    assert most_in_60_seconds([at for of in starts.values() for at in of]) <= (
        pacing.most_starts_in_60_seconds(slots)
    )
    for number, of_queue in starts.items():
        assert most_in_60_seconds(of_queue) <= pacing.most_starts_in_60_seconds(max(rpm[number], 1))


def most_in_60_seconds(starts: list[float]) -> int:
    starts, first, most = sorted(starts), 0, 0
    for number, at in enumerate(starts):
        while starts[first] <= at - 60:
            first += 1
        most = max(most, number - first + 1)
    return most


@pytest.mark.parametrize("seed", range(200))
def test_shares_give_each_its_ids_and_a_part_of_what_is_free(seed):
    chance = random.Random(seed)
    slots = chance.randint(1, 100)
    expected = []
    for _ in range(chance.randint(1, 6)):
        ids = chance.randint(0, 40)
        expected.append((ids, ids + chance.randint(0, 40)))
    parts = shares(slots, expected)
    total = sum(ids for ids, _ in expected)
    assert sum(parts) <= slots
    for part, (ids, most) in zip(parts, expected, strict=True):
        assert part <= most
        assert total > slots or part >= ids
        assert total <= slots or abs(part - ids * slots / total) < 1
    if total > slots or sum(most for _, most in expected) >= slots:
        assert sum(parts) == slots if total > slots else sum(parts) >= min(slots, total)


def test_queue_that_is_alone_keeps_its_own_slots():
    of_queue = plan(60, (20,), 0, 20)
    assert list(of_queue.offsets()) == [j * 3.0 for j in range(20)]
    assert Counter(of_queue.tolerance_of(slot) for slot in range(20)) == {1.0: 20}
    with pytest.raises(ValueError, match="61 slots are wanted of 60"):
        sharing.places(60, (30, 31))
