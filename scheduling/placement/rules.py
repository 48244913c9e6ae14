"""The rule by which an ID got its place: computed on request, and not stored."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from scheduling import models
from scheduling.core import allocator, keys
from scheduling.lists import stored_lists


class Rule(IntEnum):
    """The two rules of the allocator."""

    CONSECUTIVE = 1
    DISPERSED = 2


@dataclass(frozen=True)
class GivenPlace:
    """How an ID got a place: when its list was accepted, by which rule, at how many requests per minute."""

    at: datetime
    rule: Rule
    rpm: int
    is_first_free: bool = False
    # What the budget of the target left of the minute, if it has one.
    budget_left: int | None = None

    @property
    def sentence(self) -> str:
        """Say in a sentence why the ID got this minute."""
        if self.budget_left is None:
            return self._by_rule
        return f"{self._by_rule}; the target's budget left {self.budget_left:,} of it to the queue"

    @property
    def _by_rule(self) -> str:
        if self.is_first_free:
            return f"the first free place when the list was accepted (rule {self.rule})"
        if self.rule == Rule.CONSECUTIVE:
            return f"the first minute filled below {self.rpm:,} (rule {self.rule})"
        return f"every minute was filled to {self.rpm:,} or more, and this one the least (rule {self.rule})"


def of_places(user_id: int, buckets: Mapping[int, int]) -> dict[int, GivenPlace]:
    """Return how an ID got its places, by task, where a list put it there.

    buckets: task to the bucket of the ID in it.
    """
    result: dict[int, GivenPlace] = {}
    unclear: list[models.Reservation] = []
    for task_id, candidates in _reservations(buckets).items():
        # Of an edited task, several lists may have put IDs into this minute.
        rule = None
        if len(candidates) == 1:
            rule = _of_bucket(candidates[0], keys.index_of_bucket(buckets[task_id]))
        if rule is None:
            unclear += candidates
        else:
            result[task_id] = _place_of(candidates[0], rule, keys.index_of_bucket(buckets[task_id]))
    positions = stored_lists.positions_of(user_id, {line.list_id or 0 for line in unclear})
    # The newest list that has the ID put it there.
    for line in unclear:
        position = positions.get(line.list_id or 0)
        if position is not None:
            rule = _at(line, position - line.first_position)
            result[line.task_id or 0] = _place_of(
                line, rule, keys.index_of_bucket(buckets[line.task_id or 0])
            )
    return result


def _reservations(buckets: Mapping[int, int]) -> Mapping[int, list[models.Reservation]]:
    """Return the reservations that put IDs of a task into its bucket, by task, in chronological order."""
    windows = {task_id: keys.window_of_bucket(bucket_id) for task_id, bucket_id in buckets.items()}
    reserved = models.Reservation.objects.filter(
        task_id__in=buckets, window__in=set(windows.values()), kind=models.ReservationKind.RESERVE
    )
    lines: dict[int, list[models.Reservation]] = defaultdict(list)
    for line in reserved.order_by("version") if buckets else ():
        task_id = line.task_id or 0
        if line.window_id == windows[task_id] and line.deltas[keys.index_of_bucket(buckets[task_id])]:
            lines[task_id].append(line)
    return lines


def _place_of(line: models.Reservation, rule: Rule, k: int) -> GivenPlace:
    limit = line.limits[k] if line.limits else None
    return GivenPlace(line.made_at, rule, _capacity(line, k), line.is_first_free, limit)


def _capacity(line: models.Reservation, k: int) -> int:
    capacity: int = line.capacities[k] if line.capacities else line.rpm
    return capacity


def _of_bucket(line: models.Reservation, k: int) -> Rule | None:
    """The rule for all that a list put into a bucket; None where the first of them came by the other one."""
    before, after = line.fill_before[k], line.fill_before[k] + line.deltas[k]
    capacity = _capacity(line, k)
    if after <= capacity or line.is_first_free:
        return Rule.CONSECUTIVE
    return Rule.DISPERSED if before >= capacity else None


def _at(line: models.Reservation, offset: int) -> Rule:
    if line.is_first_free:
        return Rule.CONSECUTIVE
    fill: Sequence[int] = allocator.fill_after(line.fill_before, line.level, offset, line.limits)
    has_room = any(count < _capacity(line, k) for k, count in enumerate(fill))
    return Rule.CONSECUTIVE if has_room else Rule.DISPERSED
