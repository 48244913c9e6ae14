"""By which of the two rules an ID got its place: worked out when somebody asks, stored nowhere."""

from collections.abc import Sequence
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
class Given:
    """How an ID came by a place: when the list was accepted, by which rule, at how many requests a minute."""

    at: datetime
    rule: Rule
    rpm: int

    @property
    def sentence(self) -> str:
        """Why it was that minute."""
        if self.rule == Rule.CONSECUTIVE:
            return f"the first minute that held fewer than {self.rpm:,} (rule {self.rule})"
        return f"every minute held {self.rpm:,} or more, and this one the fewest (rule {self.rule})"


def of_place(task_id: int, user_id: int, bucket_id: int) -> Given | None:
    """Return how the task's ID got its place in a bucket, if a list put it there."""
    window_id, k = keys.window_of_bucket(bucket_id), keys.index_of_bucket(bucket_id)
    reserved = models.Reservation.objects.filter(
        task_id=task_id, window=window_id, kind=models.ReservationKind.RESERVE
    )
    # Of an edited task, several lists may have put IDs into this minute.
    candidates = [line for line in reserved.order_by("version") if line.deltas[k]]
    for line in reversed(candidates):
        rule = _of_bucket(line, k) if len(candidates) == 1 else None
        if rule is None:
            position = stored_lists.position_of(line.list_id, user_id)
            if position is None:
                continue
            rule = _at(line, position - line.first_position)
        return Given(line.made_at, rule, line.rpm)
    return None


def _of_bucket(line: models.Reservation, k: int) -> Rule | None:
    """The rule for all that a list put into a bucket; None where the first of them came by the other one."""
    before, after = line.fill_before[k], line.fill_before[k] + line.deltas[k]
    if after <= line.rpm:
        return Rule.CONSECUTIVE
    return Rule.DISPERSED if before >= line.rpm else None


def _at(line: models.Reservation, offset: int) -> Rule:
    fill: Sequence[int] = allocator.fill_after(line.fill_before, line.rpm, offset)
    return Rule.CONSECUTIVE if min(fill) < line.rpm else Rule.DISPERSED
