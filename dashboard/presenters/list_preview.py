"""What the preview of a list shows, as plain values."""

from copy import copy
from dataclasses import dataclass
from datetime import date, datetime

from django.utils import timezone

from dashboard import formatting
from dashboard.drawing import charts
from dashboard.drawing.spans import span_of, start_of
from scheduling import models
from scheduling.core import clock
from scheduling.core.errors import PastPeak, PlanRefused
from scheduling.dispatch import targets
from scheduling.handlers import columns
from scheduling.placement import reservations
from scheduling.placement.reservations import Start
from scheduling.reports import cards

# From this multiple of a queue's limit on, the number of IDs has to be typed.
DANGEROUS_PEAK = 2
# The time in which a longer list could be done at another limit.
AN_HOUR = 60
DAYS_SHOWN = 14


def other_start(start: Start) -> Start:
    """Return the start that was not chosen."""
    return Start.NEXT_WINDOW if start == Start.FIRST_FREE else Start.FIRST_FREE


def imagined(queue: models.Queue, rpm: int) -> models.Queue:
    """Return the queue with another rpm. It is never saved: the slider shows a preview only."""
    changed = copy(queue)
    changed.rpm, changed.headroom = rpm, min(queue.headroom, rpm - 1)
    return changed


@dataclass(frozen=True)
class Preview:
    """A draft with its choices, and the plan that it would get at `at`. other: the plan with the other start."""

    draft: models.IdList
    queue: models.Queue
    rpm: int
    plan: reservations.Plan
    other: reservations.Plan
    not_before: datetime | None
    deadline: datetime | None
    refusal: PlanRefused | None
    refusal_words: str
    at: datetime

    @property
    def is_what_if(self) -> bool:
        return self.rpm != self.queue.rpm

    @property
    def is_first_free(self) -> bool:
        """Return whether the list takes free places only, so that it adds to no peak."""
        return self.plan.start == Start.FIRST_FREE

    @property
    def over(self) -> int:
        """Return by how much the fullest minute exceeds the limit, if the list contributes to it."""
        if self.is_first_free:
            return 0
        most = 0
        for window in self.plan.windows:
            for k, (before, added) in enumerate(zip(window.before, window.added, strict=True)):
                most = max(most, before + added - self._capacity(window, k) if added else 0)
        return most

    def _capacity(self, window: reservations.WindowPlan, k: int) -> int:
        """Return what a minute of the plan may take at most."""
        if window.level is None:
            return self.rpm
        return window.level[k] + self.queue.headroom if window.level[k] else 0

    @property
    def days(self) -> list[tuple[date, int]]:
        """Return how many IDs are sent on which day, if that is more than one; the first two weeks of them."""
        counts: dict[date, int] = {}
        for window in self.plan.windows:
            day = timezone.localtime(clock.runs_at(window.starts_at)).date()
            counts[day] = counts.get(day, 0) + window.ids_count
        return list(counts.items())[:DAYS_SHOWN] if len(counts) > 1 else []

    @property
    def ends_at(self) -> datetime:
        return ends_at(self.plan)

    @property
    def other_ends_at(self) -> datetime:
        return ends_at(self.other)

    @property
    def lost_minute_seconds(self) -> float:
        """Return how long it would take to catch up at rpm if the fullest minute were missed."""
        return 60 * self.plan.peak_per_minute / self.rpm

    @property
    def why_not(self) -> str:
        """Return why the list can't be placed, even with a tick; empty if it can."""
        if self.missing_columns:
            return f"The queue's request needs the column {', '.join(self.missing_columns)}, and the list lacks it."
        return "" if self.may_insist else self.refusal_words

    @property
    def needed_columns(self) -> list[str]:
        """Return the columns that the queue's request needs."""
        return columns.needed(self.queue)

    @property
    def missing_columns(self) -> list[str]:
        """Return those of them that the list lacks."""
        return [name for name in self.needed_columns if name not in self.draft.about.get("data_columns", ())]

    @property
    def may_insist(self) -> bool:
        """Return whether a tick places it anyway."""
        return isinstance(self.refusal, PastPeak)

    @property
    def dangers(self) -> list[str]:
        """Return the reasons why placing it requires typing a number: the list is hardly intended."""
        found = []
        if not self.is_first_free and self.plan.peak_per_minute >= DANGEROUS_PEAK * self.queue.rpm:
            times = self.plan.peak_per_minute / self.queue.rpm
            found.append(
                f"The fullest minute has {times:,.0f} times the requests that the queue's limit allows."
            )
        if self.draft.about.get("fault_count", 0) > self.draft.ids_count:
            found.append("The list has more faults than IDs.")
        return found

    @property
    def cautions(self) -> list[str]:
        """Return what currently keeps the queue from starting at the planned pace, or IDs from being retried
        soon.
        """
        said = []
        if self.queue.paused:
            said.append("The queue is paused: nothing of this list is sent until it is resumed.")
        elif self.queue.brake_per_minute is not None:
            said.append(
                f"A brake limits the queue to {self.queue.brake_per_minute:,} a minute: until it is released, the list"
                " takes longer."
            )
        target = targets.target_of(self.queue)
        if target and (target.opened_at or (target.blocked_until and target.blocked_until > self.at)):
            said.append(f"Requests to {target.origin} are blocked: nothing is sent until it answers again.")
        if self.fills_the_queue:
            said.append(
                f"Until {formatting.minute_text(self.ends_at)} every minute is full, so IDs that fail or come late are"
                " sent after that. To send them sooner, reserve some requests per minute for them in the queue's"
                " settings."
            )
        return said

    @property
    def fills_the_queue(self) -> bool:
        """Return whether it takes all room of several quarter-hours, with nothing reserved for retries."""
        is_capped = self.is_first_free or self.queue.overflow == models.Overflow.CARRY_OVER
        return is_capped and len(self.plan.windows) > 2 and self.queue.headroom == 0

    @property
    def other_windows(self) -> int:
        return len(self.plan.windows) - 1

    @property
    def waits_for_a_later_window(self) -> bool:
        return not self.is_first_free and self.plan.windows[0].starts_at > clock.open_window_start(self.at)

    @property
    def rpm_for_an_hour(self) -> int | None:
        """Return the limit at which a longer list would be done within an hour."""
        if self.ends_at - self.at <= (AN_HOUR + clock.BUCKETS) * clock.MINUTE:
            return None
        needed = -(-self.draft.ids_count // AN_HOUR) + self.queue.headroom
        return needed if self.rpm < needed <= models.MAX_RPM else None

    def first_window(self) -> charts.Chart:
        """Draw the first quarter-hour by minute: what it contains, and on top of it this list."""
        window = self.plan.windows[0]
        minutes = [
            cards.Minute(minute, self._capacity(window, k), waiting=window.before[k])
            for k, minute in enumerate(clock.minutes(window.starts_at))
        ]
        return charts.plan_chart(minutes, window.added, now=clock.minute_start(self.at))

    def whole(self) -> charts.Chart | None:
        """Draw all of a list that takes several quarter-hours, by quarter-hours or longer spans."""
        if not self.other_windows:
            return None
        starts = [clock.runs_at(window.starts_at) for window in self.plan.windows]
        span = span_of(starts, at_least=clock.QUARTER)
        capacity = self.rpm * (span // clock.MINUTE)
        sums: dict[datetime, list[int]] = {}
        for at, window in zip(starts, self.plan.windows, strict=True):
            known = sums.setdefault(start_of(at, span), [0, 0])
            known[0] += sum(window.before)
            known[1] += sum(window.added)
        minutes = [cards.Minute(at, capacity, waiting=before) for at, (before, _) in sums.items()]
        return charts.plan_chart(minutes, [added for _, added in sums.values()], span=span)


def ends_at(plan: reservations.Plan) -> datetime:
    """Return when the plan's last minute ends. A list has an ID, so its plan has minutes."""
    assert plan.last_at is not None
    return plan.last_at + clock.MINUTE


def end_words(plan: reservations.Plan) -> str:
    """Return when the plan's last minute ends: the time, and the day if it isn't today."""
    return formatting.minute_text(ends_at(plan))


def changed_words(
    *,
    plan: reservations.Plan,
    rpm: int | None,
    first: datetime | None,
    first_window_at: datetime,
) -> str:
    """Return why a plan differs from the preview. rpm, first: as the preview had them; None if it had none."""
    if rpm not in (None, plan.rpm):
        return f"The queue's rpm is now {plan.rpm:,}"
    first = first if plan.start == Start.NEXT_WINDOW else None
    if first is not None and clock.quarter_start(first) - clock.QUARTER < first_window_at:
        return "The quarter-hour in the preview has closed in the meantime"
    return "Other lists came in in the meantime"


def previewed_otherwise(
    plan: reservations.Plan, *, peak: int | None, first: datetime | None, last: datetime | None
) -> str:
    """Return what the preview said, if something else was placed."""
    said: list[str] = []
    if peak not in (None, plan.peak_per_minute) and plan.start == Start.NEXT_WINDOW:
        said.append(f"{peak:,} a minute")
    if first is not None and first != plan.first_at:
        said.append(f"from {formatting.minute_text(first)}")
    if last is not None and last != plan.last_at:
        said.append(f"to {formatting.minute_text(last + clock.MINUTE)}")
    return ", ".join(said)


def is_worse(
    plan: reservations.Plan,
    *,
    peak: int | None,
    last: datetime | None,
    seen_at: datetime | None,
    at: datetime,
) -> bool:
    """Return whether a plan is fuller or later than its preview said.

    seen_at: when the preview was made: the first free places move with the clock, which doesn't count.
    """
    if plan.start == Start.NEXT_WINDOW and peak is not None and plan.peak_per_minute > peak:
        return True
    if last is None or plan.last_at is None:
        return False
    grace = clock.minute_start(at) - clock.minute_start(seen_at or at)
    return plan.last_at > last + (grace if plan.start == Start.FIRST_FREE else 0 * clock.MINUTE)
