"""Where webhooks go: a target (scheme, host, port) is shared by its queues, and blocked for all of them.

A Retry-After or an open circuit breaker keeps the requests of all its queues back. They use up no attempt.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from django.db.models import Q, QuerySet

from scheduling import models, store
from scheduling.core import clock, retry
from scheduling.dispatch.messages import RequestResult
from scheduling.events import recording
from scheduling.handlers import ssrf
from scheduling.handlers.base import Outcome, truncate
from scheduling.models import HandlerKind

log = structlog.get_logger(__name__)

SUCCEEDED = retry.Verdict.SUCCEEDED


def origin_of_queue(queue: models.Queue) -> str | None:
    """Return the origin of a queue's target; None without one, or for an invalid address: its requests say that."""
    if queue.handler != HandlerKind.WEBHOOK:
        return None
    try:
        return ssrf.origin_of(queue.webhook_url)
    except ValueError:
        return None


def target_of(queue: models.Queue) -> models.Target | None:
    """Return the stored state of a queue's target; None without a target, or for one that has never failed."""
    origin = origin_of_queue(queue)
    return models.Target.objects.filter(origin=origin).first() if origin else None


def breaker_of(target: models.Target) -> retry.Breaker:
    return retry.Breaker(target.failures_count, target.opened_at, target.probe_at)


def in_trouble(at: datetime) -> QuerySet[models.Target]:
    """Return the targets that are blocked, or that failed lately: few of all."""
    return models.Target.objects.filter(
        Q(opened_at__isnull=False) | Q(blocked_until__gt=at) | Q(failures_count__gt=0)
    )


class Targets:
    """The targets of some queues, as a minute worker last read them."""

    def __init__(self) -> None:
        self.by_queue: dict[int, models.Target] = {}
        self.by_origin: dict[str, models.Target] = {}
        # Queues whose requests are blocked now.
        self.blocked: frozenset[int] = frozenset()

    def look(
        self, queues: Sequence[models.Queue], in_trouble: Iterable[models.Target], *, at: datetime
    ) -> None:
        """Remember the targets of the queues, and which of them are blocked. in_trouble: see there."""
        origins = {q.pk: origin for q in queues if (origin := origin_of_queue(q))}
        used_origins = set(origins.values())
        self.by_origin = {target.origin: target for target in in_trouble if target.origin in used_origins}
        self.by_queue = {
            pk: self.by_origin[origin] for pk, origin in origins.items() if origin in self.by_origin
        }
        self.blocked = frozenset(pk for pk, target in self.by_queue.items() if is_blocked(target, at))

    def probe(self, queue: models.Queue, *, now: Callable[[], datetime]) -> bool:
        """Whether one request may be sent to see how a target is whose breaker is open.

        One each half minute, by all workers together: the first worker to claim it sends it.
        """
        target, at = self.by_queue[queue.pk], now()
        if target.opened_at is None or _asked_to_wait(target, at) or not breaker_of(target).may_probe(at):
            return False
        unchanged = models.Target.objects.filter(
            pk=target.pk, opened_at=target.opened_at, probe_at=target.probe_at
        )
        with store.write():
            return bool(unchanged.update(probe_at=at))

    def record(
        self,
        answered: Sequence[RequestResult],
        queues: Mapping[int, models.Queue],
        *,
        minute: datetime,
        now: Callable[[], datetime],
    ) -> bool:
        """Let outcomes block their target, count for its breaker, or close that; return whether any did.

        Their target is the one that they went to, which may be the queue's no longer.
        """
        by_origin: dict[str, list[RequestResult]] = defaultdict(list)
        for result in answered:
            origin = origin_of_queue(result.scheduled.queue)
            if result.outcome is not None and result.outcome.started and origin is not None:
                by_origin[origin].append(result)
        troubled = sorted(
            origin for origin, results in by_origin.items() if self._in_trouble(origin, results)
        )
        for origin in troubled:
            with store.write():
                models.Target.objects.get_or_create(origin=origin)
                target = models.Target.objects.select_for_update().get(origin=origin)
                _apply(target, by_origin[origin], queues, minute, now())
        return bool(troubled)

    def _in_trouble(self, origin: str, results: Sequence[RequestResult]) -> bool:
        # Successes of a target that works change nothing.
        target = self.by_origin.get(origin)
        if target is not None and (target.opened_at is not None or target.failures_count):
            return True
        return any(result.outcome is not None and result.outcome.verdict != SUCCEEDED for result in results)


def first_minute(
    queue: models.Queue, at: datetime, candidates: Iterable[models.Target] | None = None
) -> datetime:
    """Return the first minute in which a queue's requests may be made, as far as its target has said so.

    candidates: the targets in trouble, where the caller has read them.
    """
    minute = clock.next_unsealed_minute(at)
    if candidates is None:
        target = target_of(queue)
    else:
        origin = origin_of_queue(queue)
        target = next((candidate for candidate in candidates if candidate.origin == origin), None)
    for blocked_until in (queue.blocked_until, target.blocked_until if target else None):
        if blocked_until is not None and blocked_until > at:
            minute = max(minute, clock.minute_start(blocked_until) + clock.MINUTE)
    return minute


def is_blocked(target: models.Target, at: datetime) -> bool:
    """Whether requests to the target are blocked at `at`."""
    return target.opened_at is not None or _asked_to_wait(target, at)


def reason_of(target: models.Target) -> str:
    """Return why requests to a target are blocked, in words."""
    if target.opened_at is not None:
        return f"its circuit breaker is open after consecutive failures ({target.last_error})"
    return target.block_reason or "it asked to wait"


def _asked_to_wait(target: models.Target, at: datetime) -> bool:
    return target.blocked_until is not None and target.blocked_until > at


def _apply(
    target: models.Target,
    results: Sequence[RequestResult],
    queues: Mapping[int, models.Queue],
    minute: datetime,
    at: datetime,
) -> None:
    before = breaker = breaker_of(target)
    was_blocked = is_blocked(target, at)
    for result in results:
        if result.outcome is None or result.started is None:
            continue
        outcome, threshold = result.outcome, queues[result.scheduled.queue_id].breaker_threshold
        breaker = breaker.after(
            outcome.verdict,
            started_at=minute + timedelta(seconds=result.started),
            at=at,
            threshold=threshold,
        )
        _wait_as_asked(target, outcome, at)
        if outcome.verdict != SUCCEEDED:
            target.last_error = truncate(_error_of_target(outcome, result.scheduled.queue))
    if breaker.is_open != before.is_open:
        log.warning("breaker_opened" if breaker.is_open else "breaker_closed", target=target.origin)
    target.failures_count = breaker.failures_in_row
    target.opened_at, target.probe_at = breaker.opened_at, breaker.probe_at
    target.save()
    if is_blocked(target, at) and not was_blocked:
        recording.target_blocked(target, reason_of(target), at=at)


def _error_of_target(outcome: Outcome, queue: models.Queue) -> str:
    """Return what a failure says of its target, without what belongs to the ID: no erasure of a person reaches it.

    A response may repeat the ID or its data, and the address of a redirect contains what filled the queue's address.
    """
    if outcome.status is None:
        return outcome.error
    if outcome.status in retry.REDIRECTS and "{{" not in queue.webhook_url:
        return outcome.error
    if 200 <= outcome.status < 300:
        return f"answered {outcome.status}, but not what success_when requires"
    return f"answered {outcome.status}"


def _wait_as_asked(target: models.Target, outcome: Outcome, at: datetime) -> None:
    seconds = retry.retry_after_seconds(outcome.status, outcome.retry_after, at=at)
    if seconds:
        until = at + timedelta(seconds=seconds)
        target.blocked_until = max(until, target.blocked_until or until)
        target.block_reason = f"it answered {outcome.status} and asked for {seconds:.0f} s"
        log.warning("target_blocked", target=target.origin, seconds=round(seconds), status=outcome.status)
