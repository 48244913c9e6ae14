"""Health checks for monitoring, and metrics for Prometheus."""

from collections.abc import Iterator
from datetime import datetime

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from api.auth import CAN_READ, requires
from api.endpoints import read_only
from api.problems import problem_response
from api.responses import json_response
from scheduling.core.clock import iso
from scheduling.reports import health
from scheduling.reports import metrics as numbers


@read_only
def live(request: HttpRequest) -> HttpResponse:
    """Respond if this process runs. Open to everyone, because container supervisors have no token."""
    return json_response({"status": "live"})


@read_only
def ready(request: HttpRequest) -> HttpResponse:
    """Check database, tables, clusters, quarter-hours, minutes and clocks.

    Open to everyone, so it contains no names but our own.
    """
    try:
        report = health.assess()
    except (DatabaseError, InterfaceError):
        return problem_response("not-ready", "The database is locked or unreachable.")
    if not report.is_healthy:
        return problem_response("not-ready", " ".join(report.problems), checks=_checks(report))
    return json_response({"status": "ready", "checks": _checks(report)})


def _checks(report: health.Health) -> dict[str, object]:
    return {
        "migrated": not report.tables.missing,
        "newer_migrations": report.tables.newer,
        "clusters": [
            {
                "name": item.name,
                "count": item.alive_count,
                "silent_seconds": item.age_seconds,
                "jobs_waiting": item.jobs_waiting,
            }
            for item in report.clusters
        ],
        "hosts": [
            {
                "name": item.host,
                "cluster": item.cluster,
                "clock_offset_ms": item.clock_offset_ms,
                "round_trip_ms": item.round_trip_ms,
            }
            for item in report.host_reports
        ],
        "last_quarter_at": iso(report.quarter_ran_at),
        "last_quarter_age_seconds": _age(report.quarter_ran_at, report.at),
        "last_minute_at": iso(report.minute_at),
        "last_minute_age_seconds": _age(report.minute_at, report.at),
        "clocks_apart_seconds": report.clocks_apart_seconds,
    }


def _age(then: datetime | None, at: datetime) -> float | None:
    return None if then is None else (at - then).total_seconds()


@csrf_exempt
@requires(CAN_READ)
def metrics(request: HttpRequest) -> HttpResponse:
    """Return metrics in the text format of Prometheus, which sends a token with `authorization: credentials`."""
    text = "\n".join(_lines(numbers.gauges())) + "\n"
    return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8")


def _lines(gauges: list[numbers.Gauge]) -> Iterator[str]:
    described: set[str] = set()
    # All samples of a metric have to be consecutive.
    for gauge in sorted(gauges, key=lambda gauge: gauge.name):
        if gauge.name not in described:
            described.add(gauge.name)
            yield f"# HELP {gauge.name} {gauge.help}"
            yield f"# TYPE {gauge.name} gauge"
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in gauge.labels)
        yield f"{gauge.name}{{{labels}}} {gauge.value!r}" if labels else f"{gauge.name} {gauge.value!r}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
