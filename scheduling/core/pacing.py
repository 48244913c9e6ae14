"""When in its minute each request starts: the slots of a queue's minute.

A minute has C slots, C = the larger of its capacity and its number of IDs n. The j-th of the n (from 0)
starts at slot floor(j * C / n), at minute + slot * 60 / C seconds. What comes on top (probes, test requests,
what a stall or a dead worker left over) takes slots that are free. Each slot serves one start at most, and a
start that would be later than `tolerance_seconds` after its slot is not made. From that follows:

    no 60 seconds, wherever they begin, see more than rpm + 1 starts (+ rpm / 1,200 above rpm 1,200), as long
    as no minute holds more than rpm; no second sees more than ceil(C / 60) + 1 (+ C / 1,200 above 1,200).

Proof: what starts in [t, t + 60) has its slot in [t - tolerance, t + 60). Slots are 60 / C seconds apart,
over the borders of minutes too, so at most ceil(C + tolerance * C / 60) lie in there. The tolerance is one
slot (C + 1), or 50 ms where slots are shorter, and C / 1,200 slots last 50 ms. The same with 1 in place of
60. Where C changes from one minute to the next, the larger one counts: a start that is late by one slot is
made before its minute ends or with it, so the finer grid doesn't get the coarser one's tolerance on top.

The tests try it on sequences of minutes with capacities that change, free slots taken at will and delays up
to the tolerance. Up to rpm 1,200 the first bound is reached there, so it can't be promised lower.

Pure. Offsets are seconds from the start of the minute, 0 <= offset < 60.
"""

from collections.abc import Iterator
from dataclasses import dataclass

MINUTE_SECONDS = 60
# Above this many slots a minute, a slot is shorter than the least tolerance.
_FINE = 1_200
LEAST_TOLERANCE_SECONDS = 0.05


def most_starts_in_60_seconds(rpm: int) -> int:
    """Return how many starts any 60 seconds may see while no minute holds more than `rpm`."""
    return rpm + 1 + (rpm // _FINE if rpm > _FINE else 0)


def most_starts_in_a_second(slots: int) -> int:
    """Return how many starts any second may see while no minute has more than `slots` slots."""
    return -(-slots // MINUTE_SECONDS) + 1 + (slots // _FINE if slots > _FINE else 0)


@dataclass(frozen=True, slots=True)
class FreeSlot:
    """A slot that no ID of the plan uses; `cursor` is where the next search may begin."""

    slot: int
    cursor: int


@dataclass(frozen=True, slots=True)
class MinutePlan:
    """The slots of one queue's minute.

    capacity: requests that the minute takes, >= 1. n: IDs that it holds when it is sealed, >= 0; more than
    capacity where they were dispersed. Raises ValueError for anything else. An ID that is cancelled later
    leaves its slot unused: the others don't move.
    """

    capacity: int
    n: int

    def __post_init__(self) -> None:
        if type(self.capacity) is not int or self.capacity < 1:
            raise ValueError(f"capacity must be a whole number >= 1, not {self.capacity!r}")
        if type(self.n) is not int or self.n < 0:
            raise ValueError(f"n must be a whole number >= 0, not {self.n!r}")

    @property
    def slot_count(self) -> int:
        """C: how many slots the minute has."""
        return max(self.capacity, self.n)

    @property
    def free_count(self) -> int:
        """How many of the slots no ID of the plan uses."""
        return self.slot_count - self.n

    @property
    def slot_seconds(self) -> float:
        """How long a slot lasts."""
        return MINUTE_SECONDS / self.slot_count

    @property
    def tolerance_seconds(self) -> float:
        """How much later than its slot a start is still made: one slot, but at least 50 ms."""
        return max(self.slot_seconds, LEAST_TOLERANCE_SECONDS)

    def tolerance_of(self, slot: int) -> float:
        """How much later than this slot a start is still made."""
        return self.tolerance_seconds

    def offset_of(self, slot: int) -> float:
        """Return when the slot begins, in seconds from the start of the minute."""
        return self._slot(slot) * MINUTE_SECONDS / self.slot_count

    def slot_of(self, j: int) -> int:
        """Return the slot of the j-th ID, j from 0 to n - 1."""
        if not 0 <= j < self.n:
            raise ValueError(f"this minute has {self.n} IDs, none at {j}")
        return j * self.slot_count // self.n

    def offsets(self) -> Iterator[float]:
        """Yield, lazily, the offset of each ID of the plan in order."""
        return (self.offset_of(self.slot_of(j)) for j in range(self.n))

    def in_time(self, slot: int, offset_seconds: float) -> bool:
        """Whether a start of this slot may still be made at `offset_seconds`."""
        return offset_seconds <= self.offset_of(slot) + self.tolerance_of(slot)

    def slots_between(self, from_seconds: float, to_seconds: float) -> range:
        """Return the IDs of the plan, as a range of j, whose slots begin in `from <= offset < to`.

        Parts that follow each other hold every j once: the end of one is the beginning of the next.
        """
        return range(
            self._planned_before(self._first_slot_from(from_seconds)),
            self._planned_before(self._first_slot_from(to_seconds)),
        )

    def is_free(self, slot: int) -> bool:
        """Whether no ID of the plan uses the slot."""
        return self._planned_before(self._slot(slot)) == self._planned_before(slot + 1)

    def free_slot(self, index: int) -> int:
        """Return the slot that is the `index`-th free one, from 0 to free_count - 1."""
        if not 0 <= index < self.free_count:
            raise ValueError(f"this minute has {self.free_count} free slots, none at {index}")
        # Before slot s lie floor(s * free / C) free ones; this is the last s for which that is `index`.
        return -(-(index + 1) * self.slot_count // self.free_count) - 1

    def free_slot_after(self, offset_seconds: float, cursor: int = 0) -> FreeSlot | None:
        """Return the first free slot that begins at `offset_seconds` or later, or None if none is left.

        cursor: how many free slots, counted from the first, are given away or passed by already: 0 at first,
        then what the last answer said. The process that moves it by compare-and-set has the slot to itself.
        """
        index = max(cursor, self._free_before(self._first_slot_from(offset_seconds)))
        if index >= self.free_count:
            return None
        return FreeSlot(self.free_slot(index), index + 1)

    def free_between(self, from_seconds: float, to_seconds: float, cursor: int = 0) -> range:
        """Return the free slots that begin in `from <= offset < to`, as a range of indexes for free_slot.

        cursor: as for free_slot_after; none before it is given.
        """
        return range(
            max(cursor, self._free_before(self._first_slot_from(from_seconds))),
            max(cursor, self._free_before(self._first_slot_from(to_seconds))),
        )

    def slots(self, planned: range, free: range) -> "Slots":
        """Return the slots of these IDs of the plan (j) and of these free ones (indexes for free_slot)."""
        return Slots(self, planned, free)

    def _slot(self, slot: int) -> int:
        if not 0 <= slot < self.slot_count:
            raise ValueError(f"this minute has {self.slot_count} slots, none at {slot}")
        return slot

    def _planned_before(self, slot: int) -> int:
        # j * C // n < slot says the same as j < slot * n / C.
        return -(-slot * self.n // self.slot_count)

    def _free_before(self, slot: int) -> int:
        return slot - self._planned_before(slot)

    def _first_slot_from(self, offset_seconds: float) -> int:
        """Return the first slot that begins at `offset_seconds` or later; C where there is none."""
        slots = self.slot_count
        if offset_seconds <= 0:
            return 0
        if offset_seconds >= MINUTE_SECONDS:
            return slots
        # The product of floats may fall short of what offset_of says of a slot; that one is the measure, or
        # an ID at the border of two parts would be in both or in neither.
        slot = min(slots, int(offset_seconds * slots / MINUTE_SECONDS))
        while slot < slots and slot * MINUTE_SECONDS / slots < offset_seconds:
            slot += 1
        return slot


@dataclass(frozen=True, slots=True)
class Slots:
    """Slots that were taken together: those of a range of the plan's IDs, and a range of free ones.

    The order inside a minute is free, so both kinds stay ranges: the k-th of the IDs that take them gets the
    k-th planned slot, and those after these the free ones. A number of each, whatever their count.
    """

    plan: MinutePlan
    planned: range
    free: range

    def __len__(self) -> int:
        return len(self.planned) + len(self.free)

    def ascending(self) -> list[int]:
        """The slots in their order in the minute."""
        slots, n = self.plan.slot_count, self.plan.n
        planned = [j * slots // n for j in self.planned]
        return sorted([*planned, *map(self.plan.free_slot, self.free)]) if self.free else planned

    def lateness_ms(self, count: int, now_ms: int) -> dict[int, int]:
        """How many of the first `count` slots are how many ms past at `now_ms`; 0 for those to come.

        now_ms: after the minute's start. Costs what is past, and nothing for the rest.
        """
        late: dict[int, int] = {}
        in_time = count
        first = self.planned[:count]
        for slots in (
            map(self.plan.slot_of, first),
            map(self.plan.free_slot, self.free[: count - len(first)]),
        ):
            for slot in slots:
                past = now_ms - slot * 60_000 // self.plan.slot_count
                if past <= 0:
                    break
                late[past] = late.get(past, 0) + 1
                in_time -= 1
        return late | ({0: in_time} if in_time else {})
