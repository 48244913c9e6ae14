"""What the preview of a list shows, as plain values."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.utils import timezone

from dashboard import formatting
from dashboard.drawing import charts
from dashboard.drawing.spans import span_of, start_of
from scheduling import models
from scheduling.core import clock, stopping
from scheduling.core.errors import PastPeak, PlanRefused
from scheduling.dispatch import targets
from scheduling.handlers import columns
from scheduling.placement import canaries, holds, reservations, shapes
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
    # How it stops by itself: its error budget and its canary, as the form has them.
    stops: Mapping[str, Any] = field(default_factory=dict)
    canary: stopping.Canary | None = None

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
    def stops_words(self) -> str:
        """Return how it stops by itself, in sentences; empty if it doesn't."""
        sentences = []
        if self.canary is not None:
            count = min(self.canary.ids, self.plan.ids_count)
            ends_at = canaries.ends_at(self.queue, self.plan, count)
            assert ends_at is not None
            least = stopping.needed(count, self.canary.min_succeeded_percent)
            sentences.append(
                f"The first {formatting.plural(count, 'ID')} are sent until {formatting.minute_text(ends_at)}; the"
                f" others wait until {least:,} of them have succeeded."
            )
        if (percent := self.stops.get("max_failed_percent")) is not None:
            finished = self.stops.get("min_finished") or holds.MIN_FINISHED
            sentences.append(
                f"The list is put on hold if more than {percent:g} % have failed, once {finished:,} have finished."
            )
        return " ".join(sentences)

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
            names = ", ".join(self.missing_columns)
            return f"The queue's request needs the column {names}, which does not travel with the IDs of this list."
        return "" if self.may_insist else self.refusal_words

    @property
    def needed_columns(self) -> list[str]:
        """Return the columns that the queue's request needs."""
        return columns.needed(self.queue)

    @property
    def missing_columns(self) -> list[str]:
        """Return the ones that the list does not contain."""
        return [name for name in self.needed_columns if name not in self.draft.about.get("data_columns", ())]

    @property
    def may_insist(self) -> bool:
        """Return whether a tick places it anyway."""
        return isinstance(self.refusal, PastPeak)

    @property
    def dangers(self) -> list[str]:
        """Return the reasons why placing it requires typing a number: the list is hardly intended."""
        reasons = []
        if not self.is_first_free and self.plan.peak_per_minute >= DANGEROUS_PEAK * self.queue.rpm:
            times = self.plan.peak_per_minute / self.queue.rpm
            reasons.append(
                f"The fullest minute has {times:,.0f} times the requests that the queue's limit allows."
            )
        if self.draft.about.get("fault_count", 0) > self.draft.ids_count:
            reasons.append("The list has more faults than IDs.")
        return reasons

    @property
    def cautions(self) -> list[str]:
        """Return what currently keeps the queue from starting at the planned pace, or IDs from being retried
        soon.
        """
        sentences = []
        if self.queue.paused:
            sentences.append("The queue is paused: none of this list is sent until the queue is resumed.")
        elif self.queue.brake_per_minute is not None:
            sentences.append(
                f"A brake limits the queue to {self.queue.brake_per_minute:,} a minute: until it is released, the list"
                " takes longer."
            )
        target = targets.target_of(self.queue)
        if target and (target.opened_at or (target.blocked_until and target.blocked_until > self.at)):
            sentences.append(
                f"Requests to {target.origin} are blocked: nothing is sent until it answers again."
            )
        if self.queue.is_blocked(self.at):
            sentences.append(f"Requests of the queue are blocked: {self.queue.block_reason}.")
        if self.fills_the_queue:
            sentences.append(
                f"Until {formatting.minute_text(self.ends_at)} the list takes all that the queue may send, so IDs that"
                " fail or come late are sent after that. To send them sooner, reserve some requests per minute for"
                " them in the queue's settings."
            )
        return sentences

    @property
    def fills_the_queue(self) -> bool:
        """Return whether it takes all room of several quarter-hours, with nothing reserved for retries."""
        is_capped = self.is_first_free or self.queue.overflow == models.Overflow.CARRY_OVER
        takes_all = self.queue.headroom == 0 and self.plan.share is None
        return is_capped and takes_all and len(self.plan.windows) > 2

    @property
    def other_windows(self) -> int:
        return len(self.plan.windows) - 1

    @property
    def waits_for_a_later_window(self) -> bool:
        return not self.is_first_free and self.plan.windows[0].starts_at > clock.open_window_start(self.at)

    @property
    def rpm_for_an_hour(self) -> int | None:
        """Return the limit at which a longer list would be done within an hour, where only rpm keeps it from that."""
        is_limited = shapes.is_shaped(self.queue) or self.plan.share is not None
        if is_limited or self.ends_at - self.at <= (AN_HOUR + clock.BUCKETS) * clock.MINUTE:
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
            span_sums = sums.setdefault(start_of(at, span), [0, 0])
            span_sums[0] += sum(window.before)
            span_sums[1] += sum(window.added)
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
    differences: list[str] = []
    if peak not in (None, plan.peak_per_minute) and plan.start == Start.NEXT_WINDOW:
        differences.append(f"{peak:,} a minute")
    if first is not None and first != plan.first_at:
        differences.append(f"from {formatting.minute_text(first)}")
    if last is not None and last != plan.last_at:
        differences.append(f"to {formatting.minute_text(last + clock.MINUTE)}")
    return ", ".join(differences)


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
