"""How well it runs: what /healthz/ready, the board and /metrics read. Cheap: keys and partial indexes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count, Sum
from django.db.models.functions import Coalesce

from scheduling import models, store
from scheduling.core import clock, keys, limits
from scheduling.dispatch import claims, overdue
from scheduling.jobqueue import cluster, minute_jobs

MINUTE_LATE = timedelta(seconds=5)


@dataclass(frozen=True)
class ClusterHealth:
    """One kind of cluster. count: those that live. silent: those that were there and neither live nor were
    stopped. age_seconds: since the last sign of the one that gave none for longest; None: there is none.
    """

    name: str
    count: int
    silent: int
    age_seconds: float | None
    jobs_waiting: int

    @property
    def is_healthy(self) -> bool:
        return self.count > 0 and self.silent == 0


@dataclass(frozen=True)
class Health:
    """Everything at one moment. `problems` are sentences; none means ready."""

    at: datetime
    clusters: tuple[ClusterHealth, ...]
    migrated: bool
    last_quarter_at: datetime | None
    last_minute_at: datetime | None
    minute_missing: datetime | None
    clocks_apart_seconds: float
    problems: tuple[str, ...]

    @property
    def is_healthy(self) -> bool:
        return not self.problems


def assess(now: datetime | None = None) -> Health:
    """Return how well it runs at `now`, by default as the database's clock says. Raises DatabaseError."""
    at = now or store.now()
    apart = clocks_apart(at) if now is None else 0.0
    clusters = tuple(cluster_health(name, at) for name in (cluster.DEFAULT, cluster.MINUTES))
    quarter = models.QuarterRun.objects.order_by("-quarter_at").values_list("ran_at", flat=True).first()
    minute = models.Minute.objects.filter(started_at__isnull=False).order_by("-pk").first()
    missing = minute_missing(at)
    migrated = _migrated()
    problems = [*_of_clusters(clusters), *_of_times(at, quarter, missing, apart)]
    if not migrated:
        problems.append("The database's tables are not those of this version: run migrate.")
    return Health(
        at=at,
        clusters=clusters,
        migrated=migrated,
        last_quarter_at=quarter,
        last_minute_at=minute_jobs.minute_of(minute.pk) if minute else None,
        minute_missing=missing,
        clocks_apart_seconds=apart,
        problems=tuple(problems),
    )


def clocks_apart(at: datetime) -> float:
    """Seconds between this machine's clock and `at`, which the database's has just said."""
    return abs((datetime.now(UTC) - at).total_seconds())


def minute_missing(at: datetime) -> datetime | None:
    """The start of the minute that runs, if something waits in it and no seat serves it."""
    minute = clock.minute_start(at - MINUTE_LATE)
    number = minute_jobs.minute_number(minute)
    windows = models.Window.objects.filter(starts_at=clock.running_window_start(minute))
    waiting = claims.active_buckets(number, windows.values_list("pk", flat=True)).filter(
        waiting_count__gt=0, window__queue__paused_at=None
    )
    served = models.Minute.objects.filter(pk=number, seen_at__gte=at - timedelta(seconds=15))
    return minute if waiting.exists() and not served.exists() else None


def cluster_health(name: str, at: datetime) -> ClusterHealth:
    """How the clusters of a name do."""
    seen = list(models.Heartbeat.objects.filter(cluster=name).values_list("seen_at", flat=True))
    silent = sum(at - one > limits.SILENT_AFTER for one in seen)
    return ClusterHealth(
        name=name,
        count=len(seen) - silent,
        silent=silent,
        age_seconds=max(0.0, (at - min(seen)).total_seconds()) if seen else None,
        jobs_waiting=cluster.waiting_count(name, at),
    )


_known_migrated = False


def _migrated() -> bool:
    global _known_migrated
    if not _known_migrated:
        executor = MigrationExecutor(connection)
        _known_migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return _known_migrated


def _of_clusters(clusters: Sequence[ClusterHealth]) -> list[str]:
    found = []
    for one in clusters:
        if one.age_seconds is None:
            found.append(f"No cluster {one.name} gives a sign.")
        elif one.silent == one.count + one.silent == 1:
            found.append(f"The cluster {one.name} has been silent for {one.age_seconds:.0f} s.")
        elif one.silent:
            of = f"{one.silent} of {one.count + one.silent} clusters {one.name}"
            found.append(f"Silent for up to {one.age_seconds:.0f} s: {of}.")
    return found


def _of_times(at: datetime, quarter: datetime | None, missing: datetime | None, apart: float) -> list[str]:
    found = []
    due = clock.quarter_start(at)
    if at - due > limits.QUARTER_LATE and (quarter is None or quarter < due):
        found.append(f"The quarter-hour of {due:%H:%M} has not been processed.")
    if missing is not None:
        found.append(f"The minute {missing:%H:%M} runs and nobody serves it.")
    if apart > limits.CLOCK_OFFSET_ALLOWED.total_seconds():
        found.append(f"This machine's clock and the database's are {apart:.1f} s apart: nothing is sent.")
    elif apart > limits.CLOCK_OFFSET_REPORTED.total_seconds():
        found.append(f"This machine's clock and the database's are {apart * 1000:.0f} ms apart.")
    return found


# --- What is late ---


@dataclass(frozen=True)
class LateQueue:
    """What is late in a queue: in minutes that are over, and on its way in later ones."""

    queue: str
    waiting_behind: int
    oldest_at: datetime | None
    placed_again_today: int
    runs_until: datetime | None


def late_queues(at: datetime) -> list[LateQueue]:
    """Queues with something late, worst first: how much, since when, and when the last of it will run."""

    behind: dict[int, list[int]] = {}
    for bucket_id in overdue.overdue_buckets(at):
        behind.setdefault(keys.queue_of_bucket(bucket_id), []).append(bucket_id)
    moved = (
        models.Move.objects.filter(
            moved_at__gte=at - timedelta(days=1), reason__in=("late", "brake", "written_late")
        )
        .values_list("from_bucket_id", "to_bucket_id")
        .annotate(Count("pk"))
    )
    again: dict[int, int] = {}
    last: dict[int, int] = {}
    for came_from, to, count in moved.iterator(5_000):
        queue_id = keys.queue_of_bucket(came_from)
        again[queue_id] = again.get(queue_id, 0) + count
        last[queue_id] = max(last.get(queue_id, 0), to)
    names = dict(models.Queue.objects.filter(pk__in={*behind, *again}).values_list("pk", "name"))
    found = []
    for queue_id, name in names.items():
        buckets = behind.get(queue_id, [])
        waiting = models.Bucket.objects.filter(pk__in=buckets).aggregate(n=Coalesce(Sum("waiting_count"), 0))[
            "n"
        ]
        until = keys.minute_of_bucket(last[queue_id]) if queue_id in last else None
        found.append(
            LateQueue(
                queue=name,
                waiting_behind=waiting,
                oldest_at=keys.minute_of_bucket(buckets[0]) if buckets else None,
                placed_again_today=again.get(queue_id, 0),
                runs_until=until if until and until >= at else None,
            )
        )
    return sorted(found, key=lambda one: (-one.waiting_behind, -one.placed_again_today, one.queue))
