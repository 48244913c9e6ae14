"""The health of the service, for /healthz/ready, the board and /metrics.

Cheap: it uses keys and partial indexes only.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db.models import BigIntegerField, Count, Min, Sum
from django.db.models.functions import Coalesce

from scheduling import models, store
from scheduling.core import clock, disk, keys, limits
from scheduling.dispatch import claims, overdue
from scheduling.jobqueue import cluster
from scheduling.models import MoveReason
from scheduling.reports import hosts
from scheduling.store import schema

MINUTE_LATE = timedelta(seconds=5)


CLUSTERS = (cluster.DEFAULT, cluster.MINUTES)


class Sign(NamedTuple):
    """Signs of life of some processes: how many and their workers; the latest sign, and the oldest."""

    processes: int
    workers: int
    seen_at: datetime
    oldest_at: datetime


@dataclass(frozen=True)
class ClusterHealth:
    """The processes of one kind of cluster: those that give signs of life, and those that went silent.

    A process that was stopped has no sign any more, so that it counts as neither.
    """

    name: str
    alive_count: int
    silent_count: int
    workers: int
    # The latest sign of those that are alive, and of those that aren't.
    seen_at: datetime | None
    silent_since: datetime | None
    # The age of the latest sign of the process that has been silent longest; None if there is no process.
    age_seconds: float | None
    jobs_waiting: int = 0

    @classmethod
    def of(cls, name: str, signs: Iterable[Sign], at: datetime, *, jobs_waiting: int = 0) -> "ClusterHealth":
        """Sum up the signs of a kind of cluster."""
        ages = [(is_silent(sign.seen_at, at), sign) for sign in signs]
        alive = [sign for silent, sign in ages if not silent]
        silent = [sign for silent, sign in ages if silent]
        oldest = min((sign.oldest_at for _, sign in ages), default=None)
        return cls(
            name=name,
            alive_count=sum(sign.processes for sign in alive),
            silent_count=sum(sign.processes for sign in silent),
            workers=sum(sign.workers for sign in alive),
            seen_at=max((sign.seen_at for sign in alive), default=None),
            silent_since=max((sign.seen_at for sign in silent), default=None),
            age_seconds=None if oldest is None else max(0.0, (at - oldest).total_seconds()),
            jobs_waiting=jobs_waiting,
        )


@dataclass(frozen=True)
class Health:
    """The health of the service at `at`. The board reads it each second, /healthz/ready on request."""

    at: datetime
    clusters: tuple[ClusterHealth, ...] = ()
    # The quarter-hour that was processed last, and when.
    quarter_at: datetime | None = None
    quarter_ran_at: datetime | None = None
    # The minute that was started last, and when.
    minute_at: datetime | None = None
    minute_started_at: datetime | None = None
    jobs_waiting: int = 0
    disks: tuple[disk.Volume, ...] = ()
    host_reports: tuple[hosts.HostReport, ...] = ()
    unreached: tuple[hosts.Unreached, ...] = ()
    # Read for /healthz/ready only.
    tables: schema.Schema = field(default_factory=schema.Schema)
    minute_missing: datetime | None = None
    clocks_apart_seconds: float = 0.0

    @property
    def alive(self) -> tuple[ClusterHealth, ...]:
        return tuple(state for state in self.clusters if state.alive_count)

    @property
    def silent(self) -> tuple[ClusterHealth, ...]:
        """Return the clusters with a process that has stopped giving signs of life."""
        return tuple(state for state in self.clusters if state.silent_count)

    @property
    def missing(self) -> tuple[str, ...]:
        """Return the clusters that are needed and have sent no heartbeat lately."""
        alive = {state.name for state in self.alive}
        return tuple(name for name in CLUSTERS if name not in alive)

    @property
    def workers(self) -> int:
        return sum(state.workers for state in self.clusters)

    @property
    def seen_at(self) -> datetime | None:
        """Return the latest sign of the living cluster that has been silent longest."""
        return min((state.seen_at for state in self.alive if state.seen_at), default=None)

    @property
    def quarter_is_late(self) -> bool:
        due = clock.quarter_start(self.at)
        return self.at - due > limits.QUARTER_LATE and (self.quarter_at is None or self.quarter_at < due)

    @property
    def minute_lag(self) -> float | None:
        """Return the seconds from the beginning of the latest minute to its first request."""
        if self.minute_at is None or self.minute_started_at is None:
            return None
        return (self.minute_started_at - self.minute_at).total_seconds()

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what is wrong, as sentences; none means ready."""
        return tuple(self._problems())

    @property
    def is_healthy(self) -> bool:
        return not self.problems

    @property
    def host_problems(self) -> tuple[str, ...]:
        """Return what is wrong with the clusters' hosts, as sentences."""
        return tuple(hosts.problems(self.host_reports, self.at, self.unreached))

    @property
    def low_disks(self) -> tuple[disk.Volume, ...]:
        return tuple(volume for volume in self.disks if volume.is_low)

    def _problems(self) -> Iterator[str]:
        for volume in self.low_disks:
            yield f"The disk with {volume.name} is nearly full: {volume.free_bytes / 1e6:,.0f} MB are free."
        for state in self.clusters:
            all_count = state.alive_count + state.silent_count
            if state.age_seconds is None:
                yield f"No cluster of the kind “{state.name}” has sent a heartbeat."
            elif state.silent_count == all_count == 1:
                yield f"The cluster {state.name} has been silent for {state.age_seconds:.0f} s."
            elif state.silent_count:
                of = f"{state.silent_count} of {all_count} clusters {state.name}"
                yield f"Silent for up to {state.age_seconds:.0f} s: {of}."
        if self.quarter_is_late:
            yield f"The quarter-hour of {clock.quarter_start(self.at):%H:%M} has not been processed."
        if self.minute_missing is not None:
            yield f"The minute {self.minute_missing:%H:%M} runs and nobody serves it."
        yield from self.host_problems
        apart = self.clocks_apart_seconds
        if apart > limits.CLOCK_OFFSET_ALLOWED.total_seconds():
            yield f"This machine's clock and the database's are {apart:.1f} s apart: nothing is sent."
        elif apart > limits.CLOCK_OFFSET_REPORTED.total_seconds():
            yield f"This machine's clock and the database's are {apart * 1000:.0f} ms apart."
        if self.tables.missing:
            yield "The database's tables are not those of this version: run migrate."
        if removed := ", ".join(self.tables.contracted):
            yield f"The database's tables are those of a newer version, which this one can't use ({removed}): update."


def is_silent(seen_at: datetime, at: datetime) -> bool:
    return at - seen_at > limits.SILENT_AFTER


def assess(now: datetime | None = None) -> Health:
    """Return the health of the service at `now`, by default the database's time. Raises DatabaseError."""
    at = now or store.now()
    quarter = models.QuarterRun.objects.order_by("-quarter_at").first()
    minute = models.Minute.objects.filter(started_at__isnull=False).order_by("-pk").first()
    return Health(
        at=at,
        clusters=tuple(cluster_health(name, at) for name in CLUSTERS),
        quarter_at=quarter.quarter_at if quarter else None,
        quarter_ran_at=quarter.ran_at if quarter else None,
        minute_at=clock.minute_of(minute.pk) if minute else None,
        minute_started_at=minute.started_at if minute else None,
        tables=schema.current(),
        minute_missing=minute_missing(at),
        disks=disks(),
        host_reports=tuple(hosts.reports(at)),
        unreached=tuple(hosts.unreached(at)),
        clocks_apart_seconds=clocks_apart() if now is None else 0.0,
    )


def disks() -> tuple[disk.Volume, ...]:
    """Return the disks that this process writes to."""
    return tuple(disk.volume(name, getattr(settings, name)) for name in ("DATA_DIR", "SPOOL_DIR"))


def clocks_apart() -> float:
    """Seconds between this machine's clock and the database's, at least. Raises DatabaseError.

    On a busy machine an answer takes long, and the time in it may be any time while it was on its way.
    """
    before = datetime.now(UTC)
    at = store.now()
    after = datetime.now(UTC)
    return max(0.0, (before - at).total_seconds(), (at - after).total_seconds())


def minute_missing(at: datetime) -> datetime | None:
    """The start of the current minute, if IDs wait in it and no minute worker serves it."""
    minute = clock.minute_start(at - MINUTE_LATE)
    number = clock.minute_number(minute)
    windows = models.Window.objects.filter(starts_at=clock.running_window_start(minute))
    waiting = claims.active_buckets(number, windows.values_list("pk", flat=True)).filter(
        waiting_count__gt=0, window__queue__paused_at=None
    )
    served = models.Minute.objects.filter(pk=number, seen_at__gte=at - timedelta(seconds=15))
    return minute if waiting.exists() and not served.exists() else None


def cluster_health(name: str, at: datetime) -> ClusterHealth:
    """Return how the clusters of a name run."""
    heartbeats = models.Heartbeat.objects.filter(cluster=name).values_list("workers", "seen_at")
    signs = [Sign(1, workers, seen_at, seen_at) for workers, seen_at in heartbeats]
    return ClusterHealth.of(name, signs, at, jobs_waiting=cluster.waiting_count(name, at))


# --- What is late ---


@dataclass(frozen=True)
class LateQueue:
    """The late IDs of a queue: those in past minutes, and those that have a later minute."""

    queue: str
    overdue_count: int
    oldest_at: datetime | None
    placed_again_today: int
    runs_until: datetime | None


def late_queues(at: datetime) -> list[LateQueue]:
    """Return the queues that have late IDs, worst first: how many, since when, and when the last will run."""
    overdue_buckets: dict[int, list[int]] = {}
    for bucket_id in overdue.overdue_buckets(at):
        overdue_buckets.setdefault(keys.queue_of_bucket(bucket_id), []).append(bucket_id)
    moves = models.Move.objects.filter(
        moved_at__gte=at - timedelta(days=1), reason__in=MoveReason.what_made_late()
    )
    moved_counts: Counter[int] = Counter()
    last_buckets: dict[int, int] = {}
    by_minutes = moves.values_list("from_bucket_id", "to_bucket_id").annotate(Count("pk"))
    for from_bucket, to_bucket, count in list(by_minutes):
        queue_id = keys.queue_of_bucket(from_bucket)
        moved_counts[queue_id] += count
        last_buckets[queue_id] = max(last_buckets.get(queue_id, 0), to_bucket)
    affected = models.Queue.objects.filter(pk__in={*overdue_buckets, *moved_counts})
    late = []
    for queue_id, name in affected.values_list("pk", "name"):
        buckets = overdue_buckets.get(queue_id, [])
        waiting = models.Bucket.objects.filter(pk__in=buckets).aggregate(
            n=Sum("waiting_count", default=0),
            since=Min(Coalesce("late_since_bucket_id", "id", output_field=BigIntegerField())),
        )
        until = keys.minute_of_bucket(last_buckets[queue_id]) if queue_id in last_buckets else None
        late.append(
            LateQueue(
                queue=name,
                overdue_count=waiting["n"],
                oldest_at=keys.minute_of_bucket(waiting["since"]) if waiting["since"] else None,
                placed_again_today=moved_counts[queue_id],
                runs_until=until if until and until >= at else None,
            )
        )
    return sorted(late, key=lambda queue: (-queue.overdue_count, -queue.placed_again_today, queue.queue))
