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
    """Return what the living clusters say."""
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
    """Return which targets are left to other hosts."""
    marks = reach.fresh_marks(at).order_by("host", "origin")
    return [Unreached(*row) for row in marks.values_list("host", "origin")]


def problems(found: Iterable[HostReport], at: datetime, left: Iterable[Unreached] = ()) -> Iterator[str]:
    """Yield what is wrong with each host, as sentences."""
    for one in left:
        yield f"{one.host} can't connect to {one.origin}: other hosts send its requests."
    by_host: dict[str, list[HostReport]] = defaultdict(list)
    for report in found:
        by_host[report.host].append(report)
    for host, reports_of_host in sorted(by_host.items()):
        yield from _clock(host, reports_of_host)
        yield from _distance(host, reports_of_host)
        if any(one.foreign_job_at and at - one.foreign_job_at < FOREIGN_FOR for one in reports_of_host):
            yield (
                f"{host} can't read the jobs of other hosts, and leaves them to those:"
                " give all hosts the same SECRET_KEY."
            )


def _clock(host: str, found: Sequence[HostReport]) -> Iterator[str]:
    offset = timedelta(milliseconds=max((one.clock_offset_ms or 0 for one in found), key=abs))
    side = "ahead of" if offset > timedelta() else "behind"
    if abs(offset) > limits.CLOCK_OFFSET_ALLOWED:
        seconds = abs(offset).total_seconds()
        yield f"The clock of {host} is {seconds:.1f} s {side} the database's: it takes no minutes."
    elif abs(offset) > limits.CLOCK_OFFSET_REPORTED:
        yield f"The clock of {host} is {_milliseconds(abs(offset))} ms {side} the database's."


def _distance(host: str, found: Sequence[HostReport]) -> Iterator[str]:
    round_trip = timedelta(milliseconds=min(one.round_trip_ms or 0 for one in found))
    if round_trip > limits.ROUND_TRIP_ALLOWED:
        yield f"The database is {_milliseconds(round_trip)} ms away from {host}: it takes no minutes."
    elif round_trip >= limits.ROUND_TRIP_REPORTED:
        yield f"The database is {_milliseconds(round_trip)} ms away from {host}: requests may start late."


def _milliseconds(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)
