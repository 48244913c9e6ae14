"""Where webhooks go: a target (scheme, host, port) is shared by its queues, and left in peace when it asks.

A hold (Retry-After) or an open breaker keeps the requests of all its queues back; they burn no attempt.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from urllib.parse import urlsplit

import structlog

from scheduling import models, store
from scheduling.core import retry
from scheduling.dispatch.messages import RequestResult
from scheduling.handlers import ssrf
from scheduling.handlers.base import truncate
from scheduling.models import HandlerKind

log = structlog.get_logger(__name__)

_PORTS = {"http": 80, "https": 443}


@lru_cache(maxsize=256)
def origin_of(url: str) -> str:
    """Scheme, host and port of a URL: `https://hook.test:443`. ValueError for what is none."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError(url)
    # One target, whatever spelling of it a queue has.
    host = ssrf.host_of(url)
    host = str(ssrf.literal_address(host) or host.rstrip("."))
    host = f"[{host}]" if ":" in host else host
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    return f"{parts.scheme}://{host}:{port}"


def origin_of_queue(queue: models.Queue) -> str | None:
    """The target of a queue; None where it has none, or an address that leads nowhere: its requests say that."""
    if queue.handler != HandlerKind.WEBHOOK:
        return None
    try:
        return origin_of(queue.webhook_url)
    except ValueError:
        return None


def target_of(queue: models.Queue) -> models.Target | None:
    """What is known of a queue's target; None where it has none, or none that was in trouble yet."""
    origin = origin_of_queue(queue)
    return models.Target.objects.filter(origin=origin).first() if origin else None


def breaker_of(target: models.Target) -> retry.Breaker:
    return retry.Breaker(target.failures_count, target.opened_at, target.probe_at)


class Targets:
    """The targets of some queues, as a seat sees them from turn to turn."""

    def __init__(self) -> None:
        self.by_queue: dict[int, models.Target] = {}
        self.by_origin: dict[str, models.Target] = {}
        # Queues whose requests are held now.
        self.held: frozenset[int] = frozenset()

    def look(self, queues: Sequence[models.Queue], *, at: datetime) -> None:
        """Read the targets of the queues, and which of them are held."""
        origins = {q.pk: origin for q in queues if (origin := origin_of_queue(q))}
        known = models.Target.objects.filter(origin__in=set(origins.values())) if origins else ()
        found = self.by_origin = {target.origin: target for target in known}
        self.by_queue = {pk: found[origin] for pk, origin in origins.items() if origin in found}
        self.held = frozenset(pk for pk, target in self.by_queue.items() if is_blocked(target, at))

    def probe(self, queue: models.Queue, *, now: Callable[[], datetime]) -> bool:
        """Whether one request may go out to see how a held target is: one each half minute, of all seats."""
        target, at = self.by_queue[queue.pk], now()
        if target.opened_at is None or _asked_for_peace(target, at) or not breaker_of(target).may_probe(at):
            return False
        # Compare-and-set: of all workers that look, one sends it.
        with store.write():
            return bool(
                models.Target.objects.filter(
                    pk=target.pk, opened_at=target.opened_at, probe_at=target.probe_at
                ).update(probe_at=at)
            )

    def keep(
        self,
        came: Sequence[RequestResult],
        queues: Mapping[int, models.Queue],
        *,
        minute: datetime,
        now: Callable[[], datetime],
    ) -> bool:
        """Let outcomes hold their target, count for its breaker, or close that; return whether any did.

        Their target is the one that they went to, which may be the queue's no longer.
        """
        by_origin: dict[str, list[RequestResult]] = defaultdict(list)
        troubled: set[str] = set()
        for item in came:
            origin = origin_of_queue(item.scheduled.queue)
            if item.outcome is None or not item.outcome.started or origin is None:
                continue
            by_origin[origin].append(item)
            known = self.by_origin.get(origin)
            clean = known is None or (known.opened_at is None and not known.failures_count)
            if not clean or item.outcome.verdict != retry.Verdict.SUCCEEDED:
                troubled.add(origin)
        # Successes of a target that is well change nothing.
        for origin in sorted(troubled):
            with store.write():
                models.Target.objects.get_or_create(origin=origin)
                target = models.Target.objects.select_for_update().get(origin=origin)
                _apply(target, by_origin[origin], queues, minute, now())
        return bool(troubled)


def is_blocked(target: models.Target, at: datetime) -> bool:
    """Whether requests to the target wait at `at`."""
    return target.opened_at is not None or _asked_for_peace(target, at)


def _asked_for_peace(target: models.Target, at: datetime) -> bool:
    return target.held_until is not None and target.held_until > at


def _apply(
    target: models.Target,
    items: Sequence[RequestResult],
    queues: Mapping[int, models.Queue],
    minute: datetime,
    at: datetime,
) -> None:
    before = breaker = breaker_of(target)
    for item in items:
        outcome, queue = item.outcome, queues[item.scheduled.queue_id]
        if outcome is None or item.started is None:
            continue
        started_at = minute + timedelta(seconds=item.started)
        breaker = breaker.after(
            outcome.status,
            outcome.error or None,
            started_at=started_at,
            at=at,
            threshold=queue.breaker_threshold,
        )
        seconds = retry.retry_after_seconds(outcome.status, outcome.retry_after, at=at)
        if seconds:
            until = at + timedelta(seconds=seconds)
            target.held_until = max(until, target.held_until or until)
            target.held_because = f"it answered {outcome.status} and asked for {seconds:.0f} s"
            log.warning("target_held", target=target.origin, seconds=round(seconds), status=outcome.status)
        if outcome.verdict != retry.Verdict.SUCCEEDED:
            target.last_error = truncate(outcome.error or f"answered {outcome.status}")
    if breaker.is_open != before.is_open:
        log.warning("breaker_opened" if breaker.is_open else "breaker_closed", target=target.origin)
    target.failures_count = breaker.failures_in_row
    target.opened_at, target.probe_at = breaker.opened_at, breaker.probe_at
    target.save()
