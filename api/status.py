"""Signs of life for whoever watches the service, and numbers for Prometheus."""

from collections.abc import Callable, Iterator
from datetime import datetime

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from scheduling.reports import health
from scheduling.reports import metrics as numbers

from .answers import answer
from .auth import READERS, behind
from .endpoints import wrong_method
from .plans import moment
from .problems import problem


def read_only(view: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Answer anything but GET and HEAD as a wrong method."""

    @csrf_exempt
    def guarded(request: HttpRequest) -> HttpResponse:
        return view(request) if request.method == "GET" else wrong_method(request.method, "GET")

    return guarded


@read_only
def live(request: HttpRequest) -> HttpResponse:
    """This process answers. Open to all: what starts and stops containers has no token."""
    return answer({"status": "live"})


@read_only
def ready(request: HttpRequest) -> HttpResponse:
    """Database, tables, clusters, quarter-hours, minutes and clocks. Open to all, so no names but ours."""
    try:
        seen = health.assess()
    except (DatabaseError, InterfaceError):
        return problem("not-ready", "The database is locked or gone.")
    if not seen.is_healthy:
        return problem("not-ready", " ".join(seen.problems), checks=_checks(seen))
    return answer({"status": "ready", "checks": _checks(seen)})


def _checks(seen: health.Health) -> dict[str, object]:
    return {
        "migrated": seen.migrated,
        "clusters": [
            {
                "name": one.name,
                "count": one.count,
                "silent_seconds": one.age_seconds,
                "jobs_waiting": one.jobs_waiting,
            }
            for one in seen.clusters
        ],
        "last_quarter_at": moment(seen.last_quarter_at),
        "last_quarter_age_seconds": _age(seen.last_quarter_at, seen.at),
        "last_minute_at": moment(seen.last_minute_at),
        "last_minute_age_seconds": _age(seen.last_minute_at, seen.at),
        "clocks_apart_seconds": seen.clocks_apart_seconds,
    }


def _age(then: datetime | None, at: datetime) -> float | None:
    return None if then is None else (at - then).total_seconds()


@csrf_exempt
@behind(READERS)
def metrics(request: HttpRequest) -> HttpResponse:
    """In the text format of Prometheus, which sends a token by `authorization: credentials`."""
    text = "\n".join(_lines(numbers.gauges())) + "\n"
    return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8")


def _lines(gauges: list[numbers.Gauge]) -> Iterator[str]:
    described: set[str] = set()
    # All samples of a name have to stand together.
    for gauge in sorted(gauges, key=lambda gauge: gauge.name):
        if gauge.name not in described:
            described.add(gauge.name)
            yield f"# HELP {gauge.name} {gauge.help}"
            yield f"# TYPE {gauge.name} gauge"
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in gauge.labels)
        yield f"{gauge.name}{{{labels}}} {gauge.value!r}" if labels else f"{gauge.name} {gauge.value!r}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
