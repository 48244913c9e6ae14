"""The numbers of /metrics for Prometheus.

All are gauges, since they count rows: they fall when an ID is retried, and at night when old rows are
deleted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F, Sum
from django.db.models.functions import Coalesce

from scheduling import models, store
from scheduling.core import clock
from scheduling.dispatch import targets
from scheduling.jobqueue import cluster
from scheduling.models import MoveReason, Status
from scheduling.proof import checks
from scheduling.reports import health, hosts, receipts


@dataclass(frozen=True)
class Gauge:
    """One number for Prometheus. labels: name to value."""

    name: str
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def gauges(now: datetime | None = None) -> list[Gauge]:
    """Return the numbers at `now`, by queue where they have one. Raises DatabaseError."""
    at = now or store.now()
    apart = health.clocks_apart() if now is None else 0.0
    words = "This machine's clock and the database's: above 2 seconds nothing is sent."
    queues = dict(models.Queue.objects.values_list("pk", "name"))
    return [
        Gauge("quarterdeck_clocks_apart_seconds", words, apart),
        *_of_disks(),
        *_of_clusters(at),
        *_of_the_clock(at),
        *_of_hosts(at),
        *_of_targets(at),
        *_of_tasks(queues),
        *_of_requests(queues),
        *_of_windows(queues, at),
        *_of_starts(queues, at),
        *_of_late(queues, at),
        *_of_the_plan(at),
    ]


def _of_the_plan(at: datetime) -> Iterator[Gauge]:
    """Yield what the last finished check of the plan found."""
    last = checks.stored().filter(ended_at__isnull=False).defer("found").first()
    if last is not None:
        words = "Things that did not hold when the plan was last checked."
        yield Gauge("quarterdeck_plan_differences", words, last.found_count)
        age = (at - last.began_at).total_seconds()
        yield Gauge("quarterdeck_plan_checked_seconds", "Since the plan was last checked.", age)


def _of_the_clock(at: datetime) -> Iterator[Gauge]:
    """Yield whether what the clock makes due was begun, as 0 or 1: the same as in /healthz/ready."""
    last = models.QuarterRun.objects.order_by("-quarter_at").values_list("quarter_at", flat=True).first()
    is_late = health.Health(at, quarter_at=last).quarter_is_late
    words = "1 while the quarter-hour that has begun is not processed, though it should be."
    yield Gauge("quarterdeck_quarter_late", words, int(is_late))
    words = "1 while IDs wait in the minute that runs and no cluster serves it."
    yield Gauge("quarterdeck_minute_unserved", words, int(health.minute_missing(at) is not None))


def _of_hosts(at: datetime) -> Iterator[Gauge]:
    for report in {(report.host, report.cluster): report for report in hosts.reports(at)}.values():
        label = (("host", report.host), ("cluster", report.cluster))
        if report.clock_offset_ms is not None:
            words = (
                "How far a host's clock is ahead of the database's: beyond 2 seconds it serves no minutes."
            )
            yield Gauge("quarterdeck_clock_offset_seconds", words, report.clock_offset_ms / 1000, label)
        if report.round_trip_ms is not None:
            words = "How long a host waits for the database: above 0.06 seconds it serves no minutes."
            yield Gauge("quarterdeck_round_trip_seconds", words, report.round_trip_ms / 1000, label)


def _of_disks() -> Iterator[Gauge]:
    for volume in health.disks():
        label = (("directory", volume.name),)
        words = "Free bytes on the disk that a directory of this machine is on."
        yield Gauge("quarterdeck_disk_free_bytes", words, volume.free_bytes, label)
        words = "Below this /healthz/ready answers 503."
        yield Gauge("quarterdeck_disk_low_bytes", words, volume.low_bytes, label)


def _of_clusters(at: datetime) -> Iterator[Gauge]:
    for state in (health.cluster_health(name, at) for name in (cluster.DEFAULT, cluster.MINUTES)):
        label = (("cluster", state.name),)
        yield Gauge("quarterdeck_jobs_waiting", "Jobs that are due and not taken.", state.jobs_waiting, label)
        yield Gauge(
            "quarterdeck_clusters_alive", "Clusters that give signs of life.", state.alive_count, label
        )
        yield Gauge(
            "quarterdeck_clusters_silent",
            "Clusters that give none and weren't stopped.",
            state.silent_count,
            label,
        )
        if state.age_seconds is not None:
            words = "Since the last sign of the cluster that gave none for longest."
            yield Gauge("quarterdeck_cluster_silent_seconds", words, state.age_seconds, label)


def _of_targets(at: datetime) -> Iterator[Gauge]:
    # A target that no queue sends to any more delays nothing, and nobody could release it.
    used = {targets.origin_of_queue(queue) for queue in models.Queue.objects.filter(handler="webhook")}
    used_targets = models.Target.objects.filter(origin__in=used - {None})
    open_breakers = used_targets.filter(opened_at__isnull=False).count()
    blocked = used_targets.filter(blocked_until__gt=at).count()
    blocked += models.Queue.objects.filter(blocked_until__gt=at).count()
    yield Gauge("quarterdeck_breakers_open", "Targets whose breaker is open.", open_breakers)
    yield Gauge(
        "quarterdeck_targets_held",
        "Targets that asked to wait, and queues whose credentials can't be used.",
        blocked,
    )


IDS_IN_STATE = {
    Status.WAITING: "IDs that are waiting.",
    Status.IN_FLIGHT: "IDs that are in flight.",
    Status.SUCCEEDED: "IDs that succeeded, of tasks that are kept.",
    Status.FAILED: "IDs that failed for good, of tasks that are kept.",
    Status.EXPIRED: "IDs that ended without a request in time, of tasks that are kept.",
    Status.CANCELLED: "IDs that were cancelled, of tasks that are kept.",
}
_OF_TASKS = {
    "intake": ("ids_count", "IDs that were accepted, of tasks that are kept."),
    **{status.word: (status.counter, words) for status, words in IDS_IN_STATE.items()},
}
_OF_REQUESTS = {
    "started": ("started_count", "Requests that were started, of minutes that are kept."),
    "moved": ("moved_count", "IDs that left their minute, of minutes that are kept."),
    "repeats": ("repeats_count", "Requests that may have gone out twice, of minutes that are kept."),
}


def _of_tasks(queues: dict[int, str]) -> Iterator[Gauge]:
    sums = {name: Coalesce(Sum(column), 0) for name, (column, _) in _OF_TASKS.items()}
    rows: dict[int, Any] = {
        row["queue_id"]: row for row in models.Task.objects.values("queue_id").annotate(**sums)
    }
    for queue_id, queue in queues.items():
        for name, (_, words) in _OF_TASKS.items():
            value = rows.get(queue_id, {}).get(name, 0)
            yield Gauge(f"quarterdeck_ids_{name}", words, value, (("queue", queue),))


def _of_requests(queues: dict[int, str]) -> Iterator[Gauge]:
    sums = {name: Coalesce(Sum(column), 0) for name, (column, _) in _OF_REQUESTS.items()}
    sums_by_queue = models.Bucket.objects.values("window__queue_id").annotate(**sums)
    rows: dict[int, Any] = {row["window__queue_id"]: row for row in sums_by_queue}
    for queue_id, queue in queues.items():
        for name, (_, words) in _OF_REQUESTS.items():
            value = rows.get(queue_id, {}).get(name, 0)
            yield Gauge(f"quarterdeck_requests_{name}", words, value, (("queue", queue),))
    retries = models.Move.objects.filter(reason=MoveReason.RETRY).count()
    words = "Times that an ID was placed again after a failure, of moves that are kept."
    yield Gauge("quarterdeck_retries", words, retries)


def _of_windows(queues: dict[int, str], at: datetime) -> Iterator[Gauge]:
    """Yield how full the running and the open window are, how far above rpm, and what later windows have."""
    opened = clock.open_window_start(at)
    starts = (clock.running_window_start(at), opened)
    past = F("filled_count") - F("capacity")
    buckets = models.Bucket.objects.filter(window__starts_at__in=starts)
    by_window = buckets.values_list("window__queue_id", "window__starts_at")
    filled = {row[:2]: row[2] for row in by_window.annotate(n=Sum("filled_count"))}
    over = {row[:2]: row[2] for row in by_window.filter(filled_count__gt=F("capacity")).annotate(n=Sum(past))}
    later = models.Bucket.objects.filter(window__starts_at__gt=opened)
    beyond = dict(later.values_list("window__queue_id").annotate(n=Sum("waiting_count")))
    for queue_id, queue in queues.items():
        for starts_at in starts:
            key = queue_id, starts_at
            label = (("queue", queue), ("window", str(clock.state(starts_at, at))))
            yield Gauge("quarterdeck_window_filled", "IDs that a window holds.", filled.get(key, 0), label)
            words = "IDs of a window that are past the rpm of their minutes."
            yield Gauge("quarterdeck_window_over_rpm", words, over.get(key, 0), label)
        words = "IDs that wait in windows after the one that fills."
        yield Gauge("quarterdeck_ids_carried_over", words, beyond.get(queue_id, 0), (("queue", queue),))


def _of_starts(queues: dict[int, str], at: datetime) -> Iterator[Gauge]:
    """Yield how late after their slots requests started, in the running window and the one before it."""
    running = clock.running_window_start(at)
    buckets = models.Bucket.objects.filter(
        window__starts_at__in=(running - clock.QUARTER, running), lateness__isnull=False
    )
    histograms: dict[int, Counter[int]] = defaultdict(Counter)
    for queue_id, lateness in buckets.values_list("window__queue_id", "lateness"):
        histograms[queue_id].update({int(ms): count for ms, count in (lateness or {}).items()})
    words = "How late after its slot a request started, in the window that runs and the one before."
    for queue_id, histogram in histograms.items():
        quantiles = receipts.lateness(histogram) or {}
        for quantile, name in (("0.5", "median"), ("0.99", "p99"), ("1", "largest")):
            if name in quantiles:
                label = (("queue", queues[queue_id]), ("quantile", quantile))
                yield Gauge("quarterdeck_start_lateness_seconds", words, quantiles[name] / 1000, label)


def _of_late(queues: dict[int, str], at: datetime) -> Iterator[Gauge]:
    late = {late_queue.queue: late_queue for late_queue in health.late_queues(at)}
    for queue in queues.values():
        label, late_queue = (("queue", queue),), late.get(queue)
        count = late_queue.overdue_count if late_queue else 0
        age = (at - late_queue.oldest_at).total_seconds() if late_queue and late_queue.oldest_at else 0.0
        yield Gauge("quarterdeck_ids_late", "IDs whose minute passed.", count, label)
        yield Gauge("quarterdeck_oldest_late_seconds", "Age of the oldest of them.", age, label)
