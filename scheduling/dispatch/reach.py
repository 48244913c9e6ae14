"""Targets that this host can't connect to while other hosts may: it leaves their requests to those.

What didn't reach its target uses up no attempt and opens no circuit breaker, as long as a host may send it that has
not failed to reach the target itself.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from django.db.models import QuerySet

from scheduling import models, store
from scheduling.core import limits
from scheduling.dispatch import targets
from scheduling.dispatch.messages import RequestResult
from scheduling.handlers.base import truncate
from scheduling.jobqueue import cluster

log = structlog.get_logger(__name__)

# How often a host tries again, with one request.
TRY_AGAIN_AFTER = timedelta(seconds=30)
# A host that hasn't tried for this long is assumed to reach the target.
FORGET_AFTER = timedelta(seconds=90)


def fresh_marks(at: datetime) -> QuerySet[models.Unreachable]:
    """Return which hosts could not reach which targets lately."""
    return models.Unreachable.objects.filter(seen_at__gt=at - FORGET_AFTER)


def living_hosts(at: datetime) -> QuerySet[models.Heartbeat]:
    """Return the signs of life of the clusters that send."""
    alive = models.Heartbeat.objects.filter(cluster=cluster.MINUTES, seen_at__gt=at - limits.SILENT_AFTER)
    return alive.only("pk", "host")


class Reach:
    """Which targets this host leaves to others, as a minute worker last read it."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.hosts: frozenset[str] = frozenset()
        # By target and host.
        self.marks: dict[str, dict[str, models.Unreachable]] = {}

    def look(self, marks: Iterable[models.Unreachable], alive: Iterable[models.Heartbeat]) -> None:
        """Remember what was read: which hosts can't reach which targets, and which hosts are alive."""
        self.hosts = frozenset(heartbeat.host for heartbeat in alive)
        self.marks = defaultdict(dict)
        for mark in marks:
            self.marks[mark.origin][mark.host] = mark

    def is_left(self, queue: models.Queue) -> bool:
        """Whether the requests of a queue are left to other hosts."""
        origin = targets.origin_of_queue(queue)
        return origin is not None and self._own_mark(origin) is not None and self._others_may(origin)

    def may_try(self, queue: models.Queue, *, at: datetime) -> bool:
        """Whether one request may be sent to see whether this host reaches the target again; to one worker of all."""
        mark = self._own_mark(targets.origin_of_queue(queue) or "")
        if mark is None or at - mark.seen_at < TRY_AGAIN_AFTER:
            return False
        with store.write():
            unchanged = models.Unreachable.objects.filter(pk=mark.pk, seen_at=mark.seen_at)
            return bool(unchanged.update(seen_at=at))

    def take_unreached(self, answered: Sequence[RequestResult]) -> tuple[list[RequestResult], dict[str, str]]:
        """Return the results, with requests that others may make as not made; and why targets were not reached."""
        results, errors = [], {}
        for result in answered:
            origin = targets.origin_of_queue(result.scheduled.queue)
            if (
                result.outcome is not None
                and result.outcome.unreached
                and origin
                and self._others_may(origin)
            ):
                errors[origin] = result.outcome.error
                result = RequestResult(result.scheduled, None, None)
            results.append(result)
        return results, errors

    def record(self, errors: Mapping[str, str], answered: Iterable[RequestResult], *, at: datetime) -> bool:
        """Store which targets this host could not reach, or reaches again; return whether there are any."""
        reached = {
            targets.origin_of_queue(result.scheduled.queue)
            for result in answered
            if result.outcome is not None and result.outcome.started and not result.outcome.unreached
        }
        again = [origin for origin in reached if origin and origin not in errors and self._own_mark(origin)]
        if not errors and not again:
            return False
        with store.write():
            own = models.Unreachable.objects.filter(host=self.host)
            own.filter(origin__in=again).delete()
            for origin, error in sorted(errors.items()):
                own.update_or_create(
                    origin=origin,
                    host=self.host,
                    defaults={"seen_at": at, "error": truncate(error, limits.ERROR_CHARACTERS)},
                    create_defaults={
                        "seen_at": at,
                        "since": at,
                        "error": truncate(error, limits.ERROR_CHARACTERS),
                    },
                )
        for origin in again:
            log.warning("target_reached_again", target=origin)
        for origin, error in errors.items():
            if self._own_mark(origin) is None:
                log.error("target_left_to_other_hosts", target=origin, reason=error)
        return True

    def _own_mark(self, origin: str) -> models.Unreachable | None:
        return self.marks.get(origin, {}).get(self.host)

    def _others_may(self, origin: str) -> bool:
        return bool(self.hosts - {self.host} - self.marks.get(origin, {}).keys())
