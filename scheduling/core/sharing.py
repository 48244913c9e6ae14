"""How queues share the slots of a minute at one target: each has slots of its own, and no two start at the same one.

A target's minute has as many slots as its rpm, evenly spaced, as a queue's minute has (`pacing`). A queue that gets m
of them has an m-th of the minute for each: it may use its j-th slot from j * 60/m to (j + 1) * 60/m seconds. So both
limits hold in any 60 seconds, the target's and the queue's, by the proof in `pacing`.

Which slots these are follows from the numbers alone: whichever slot of a queue must be used by the earliest time comes
first. For tasks of one unit that arrive at a steady rate this finds a slot in time for each, whenever they fit.

Pure. Source: docs/decisions.md, "Queues at one target send on one grid".
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import islice

from scheduling.core.pacing import LEAST_TOLERANCE_SECONDS, MINUTE_SECONDS, MinutePlan

# How much of a slot must remain for a start, in halves of a slot: at first all of it, in the end anything.
_MARGINS = (2, 1, 0)


def shares(slots: int, requests: Sequence[tuple[int, int]]) -> list[int]:
    """Return how many of a minute's slots each queue gets. wanted: its IDs, and the most slots that it may have.

    One for each ID, if they fit, and equal parts of what is free; otherwise in proportion.
    """
    total = sum(ids for ids, _ in requests)
    if total > slots:
        # The largest remainders get what rounding leaves.
        parts = [ids * slots // total for ids, _ in requests]
        by_remainder = sorted(range(len(requests)), key=lambda i: (-(requests[i][0] * slots % total), i))
        for i in islice(by_remainder, slots - sum(parts)):
            parts[i] += 1
        return parts
    parts, free = [ids for ids, _ in requests], slots - total
    by_room = sorted(range(len(requests)), key=lambda i: (requests[i][1] - requests[i][0], i))
    for number, i in enumerate(by_room):
        extra = max(0, min(requests[i][1] - requests[i][0], free // (len(requests) - number)))
        parts[i] += extra
        free -= extra
    return parts


@lru_cache(maxsize=64)
def places(slots: int, parts: tuple[int, ...]) -> tuple[Sequence[int], ...]:
    """Return which of a minute's slots each of some queues has, ascending. parts: how many each has."""
    for margin in _MARGINS:
        result = _places(slots, parts, margin)
        if result is not None:
            return result
    raise ValueError(f"{sum(parts)} slots are wanted of {slots}")


def _places(slots: int, parts: tuple[int, ...], margin: int) -> tuple[Sequence[int], ...] | None:
    """The earliest deadline first; None if one is missed. margin: see _MARGINS."""
    result = tuple(array("I") for _ in parts)
    coming = [(0, i, 0) for i, part in enumerate(parts) if part]
    heapify(coming)
    ready: list[tuple[int, int, int]] = []
    slot = 0
    while coming or ready:
        if not ready:
            slot = max(slot, coming[0][0])
        while coming and coming[0][0] <= slot:
            _, i, j = heappop(coming)
            heappush(ready, (_last(slots, parts[i], j, margin), i, j))
            if j + 1 < parts[i]:
                heappush(coming, (_first(slots, parts[i], j + 1, margin), i, j + 1))
        last, i, _ = heappop(ready)
        if slot > last:
            return None
        result[i].append(slot)
        slot += 1
    return result


def _first(slots: int, part: int, j: int, margin: int) -> int:
    """The first slot that leaves `margin` halves of it after j * slots / part."""
    if not margin:
        return j * slots // part
    return -((2 * part - margin * part - 2 * j * slots) // (2 * part))


def _last(slots: int, part: int, j: int, margin: int) -> int:
    """The last slot of which `margin` halves lie before (j + 1) * slots / part."""
    if not margin:
        return -(-(j + 1) * slots // part) - 1
    return (2 * (j + 1) * slots - margin * part) // (2 * part)


@dataclass(frozen=True, slots=True)
class SharedPlan(MinutePlan):
    """The slots of a queue's minute at a target with a budget.

    target_slots: how many the target's minute has. places: which of them the queue has.
    """

    target_slots: int
    places: Sequence[int]

    @property
    def tolerance_seconds(self) -> float:
        """How much later than its slot a start is made at most: see tolerance_of."""
        return max(MINUTE_SECONDS / self.target_slots, LEAST_TOLERANCE_SECONDS)

    def tolerance_of(self, slot: int) -> float:
        """How much later than its slot a start is still made: until the queue's slot or the target's ends."""
        own_end = self._own_offset(slot) + max(self.slot_seconds, LEAST_TOLERANCE_SECONDS)
        end = self.places[slot] * MINUTE_SECONDS / self.target_slots + self.tolerance_seconds
        return min(own_end, end) - self.offset_of(slot)

    def offset_of(self, slot: int) -> float:
        return max(self._own_offset(slot), self.places[slot] * MINUTE_SECONDS / self.target_slots)

    def _own_offset(self, slot: int) -> float:
        return self._slot(slot) * MINUTE_SECONDS / self.slot_count

    def _first_slot_from(self, offset_seconds: float) -> int:
        return bisect_left(range(self.slot_count), offset_seconds, key=self.offset_of)


def plan(slots: int, parts: tuple[int, ...], part: int, ids: int) -> SharedPlan:
    """Return the slots of one of the queues. parts: as for `places`. part: its number. ids: how many it sends."""
    count = parts[part]
    return SharedPlan(count, min(ids, count), slots, places(slots, parts)[part])
