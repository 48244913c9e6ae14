"""Problems of hosts: their clocks, their connections to the database, and jobs that they can't read."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduling import models
from scheduling.core import limits
from scheduling.dispatch import reach

# How long a host is reported after it has read a job with another key.
FOREIGN_FOR = timedelta(minutes=5)


@dataclass(frozen=True)
class HostReport:
    """What a cluster reports about its host.

    clock_offset_ms: how far its clock is ahead; negative if it is behind.
    """

    cluster: str
    host: str
    clock_offset_ms: int | None
    round_trip_ms: int | None
    foreign_job_at: datetime | None = None


def reports(at: datetime) -> list[HostReport]:
    """Return the reports of the clusters that are alive."""
    alive = models.Heartbeat.objects.filter(seen_at__gt=at - limits.SILENT_AFTER).order_by(
        "host", "cluster", "pk"
    )
    columns = ("cluster", "host", "clock_offset_ms", "round_trip_ms", "foreign_job_at")
    return [HostReport(*row) for row in alive.values_list(*columns)]


@dataclass(frozen=True)
class Unreached:
    """A target that a host can't connect to, and leaves to others."""

    host: str
    origin: str


def unreached(at: datetime) -> list[Unreached]:
    """Return the targets that hosts can't connect to and leave to others."""
    marks = reach.fresh_marks(at).order_by("host", "origin")
    return [Unreached(*row) for row in marks.values_list("host", "origin")]


def problems(
    all_reports: Iterable[HostReport], at: datetime, unreached_origins: Iterable[Unreached] = ()
) -> Iterator[str]:
    """Yield what is wrong with each host, as sentences."""
    for item in unreached_origins:
        yield f"{item.host} can't connect to {item.origin}: other hosts send its requests."
    by_host: dict[str, list[HostReport]] = defaultdict(list)
    for report in all_reports:
        by_host[report.host].append(report)
    for host, reports_of_host in sorted(by_host.items()):
        yield from _clock(host, reports_of_host)
        yield from _distance(host, reports_of_host)
        if any(item.foreign_job_at and at - item.foreign_job_at < FOREIGN_FOR for item in reports_of_host):
            yield (
                f"{host} can't read the jobs of other hosts, and leaves them to those hosts:"
                " give all hosts the same SECRET_KEY."
            )


def _clock(host: str, host_reports: Sequence[HostReport]) -> Iterator[str]:
    offset = timedelta(milliseconds=max((report.clock_offset_ms or 0 for report in host_reports), key=abs))
    side = "ahead of" if offset > timedelta() else "behind"
    if abs(offset) > limits.CLOCK_OFFSET_ALLOWED:
        seconds = abs(offset).total_seconds()
        yield f"The clock of {host} is {seconds:.1f} s {side} the database's: it serves no minutes."
    elif abs(offset) > limits.CLOCK_OFFSET_REPORTED:
        yield f"The clock of {host} is {_milliseconds(abs(offset))} ms {side} the database's."


def _distance(host: str, host_reports: Sequence[HostReport]) -> Iterator[str]:
    round_trip = timedelta(milliseconds=min(report.round_trip_ms or 0 for report in host_reports))
    if round_trip > limits.ROUND_TRIP_ALLOWED:
        yield f"The database is {_milliseconds(round_trip)} ms away from {host}: it serves no minutes."
    elif round_trip >= limits.ROUND_TRIP_REPORTED:
        yield f"The database is {_milliseconds(round_trip)} ms away from {host}: requests may start late."


def _milliseconds(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)
