"""What a poll of the board costs, beside an empty view that reads session and user, and whatever lies there.

Processor time of whole requests through every middleware, without a network: a poll comes each second from
everybody who looks. Beside it, among as many assignments: how soon one ID is found.
"""

import io
import os
import statistics
import time
from array import array
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.rows import Row
from benchmarks.service import directory

REQUESTS = 300
ASSIGNMENTS = 10_000_000
# Until the page with an ID's story is there.
FOUND_MILLISECONDS = 200
IDS_LOOKED_FOR = 40
FIRST_ID = 1_000_000
# What a busy second changes at most: every bar of the window that runs and of the one that fills (in which
# nothing is sent yet), every task, every sign of life. The clock goes on by a minute beside it.
CHANGES = (
    "UPDATE scheduling_bucket SET in_flight_count = 1 + %(n)s %% 3, failed_count = 1 + %(n)s %% 5,"
    " succeeded_count = 10 + %(n)s %% 50, waiting_count = filled_count - 12 - %(n)s %% 3 - %(n)s %% 5 -"
    " %(n)s %% 50, moved_count = %(n)s, cancelled_count = %(n)s"
    " WHERE filled_count > 100 AND id < %(filling)s",
    "UPDATE scheduling_bucket SET filled_count = 100 + %(n)s %% 90, waiting_count = 100 + %(n)s %% 90,"
    " moved_count = %(n)s, cancelled_count = %(n)s WHERE id >= %(filling)s",
    "UPDATE scheduling_task SET in_flight_count = 1 + %(n)s %% 3, failed_count = 1 + %(n)s %% 5,"
    " succeeded_count = 10 + %(n)s %% 400, waiting_count = ids_count - 12 - %(n)s %% 3 - %(n)s %% 5 -"
    " %(n)s %% 400",
    "UPDATE scheduling_heartbeat SET seen_at = %(at)s, workers = 1 + %(n)s %% 8",
    "UPDATE scheduling_minute SET started_at = %(at)s WHERE id = %(minute)s",
    "UPDATE scheduling_quarterrun SET ran_at = %(at)s",
)


def run() -> list[Row]:
    """Measure, and return the rows."""
    with directory() as data_dir:
        os.environ |= {
            "DATA_DIR": str(data_dir),
            "DJANGO_SETTINGS_MODULE": "settings.test",
            "LOG_LEVEL": "WARNING",
        }
        os.environ.pop("DATABASE_URL", None)
        import django

        django.setup()
        from django.conf import settings
        from django.core.management import call_command

        settings.ROOT_URLCONF = "benchmarks.urls"
        call_command("migrate", verbosity=0)
        return _measure(data_dir)


def _measure(data_dir: Path) -> list[Row]:
    _fill(data_dir)
    asking = Asking()
    empty, unchanged, changed = asking.costs()
    queries = asking.queries()
    _assignments(ASSIGNMENTS)
    loaded_empty, loaded_unchanged, loaded_changed = asking.costs()
    growth = (loaded_unchanged + loaded_changed) / (unchanged + changed) / (loaded_empty / empty)
    return [
        _row("a poll when nothing changed", unchanged / empty, "of an empty view's time, at most", 1.5),
        _row("a poll when all did", changed / empty, "of an empty view's time, at most", 2.5),
        _row("the largest poll, as it is sent", asking.largest, "bytes, at most", 5_000),
        _row("a poll's queries beside session and user", queries, "at most", 2),
        _row(f"a poll with {ASSIGNMENTS:,} assignments", growth, "of the time with few, at most", 1.2),
        _row(
            f"the story of one ID among {ASSIGNMENTS:,}, 95 of a hundred times",
            asking.finding(FIRST_ID, ASSIGNMENTS),
            "ms, at most",
            FOUND_MILLISECONDS,
        ),
    ]


def _row(name: str, value: float, unit: str, limit: float) -> Row:
    return {
        "name": f"board: {name}",
        "value": round(value, 3),
        "unit": unit,
        "limit": limit,
        "ok": value <= limit,
    }


class Asking:
    """A signed-in operator's requests, straight into the WSGI application."""

    def __init__(self) -> None:
        from django.conf import settings
        from django.core.handlers.wsgi import WSGIHandler
        from django.test import Client

        from operators.models import Operator

        client = Client()
        client.force_login(Operator.objects.get())
        self._cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
        self._application = WSGIHandler()
        self.status, self.content = "", b""
        # Bytes of the largest poll.
        self.largest = 0

    def ask(self, path: str, query: str = "") -> None:
        """One request; its status and content are kept."""
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
            "HTTP_COOKIE": self._cookie,
            "HTTP_HX_REQUEST": "true",
            "HTTP_ACCEPT_ENCODING": "gzip",
            "wsgi.input": io.BytesIO(),
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
        }
        answer = self._application(environ, self._start)
        self.content = b"".join(answer)
        getattr(answer, "close", lambda: None)()

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        self.status = status
        return lambda data: None

    def costs(self) -> tuple[float, float, float]:
        """Median seconds of an empty view, of a poll when nothing changed, and of one when all did."""
        timings: dict[str, list[float]] = {"empty": [], "unchanged": [], "changed": []}
        for number in range(REQUESTS + 20):
            samples = {
                "empty": self._timed("200", "/empty/"),
                "unchanged": self._unchanged(),
            }
            before = _version()
            _change_all(number)
            samples["changed"] = self._timed("200", "/dashboard/", f"version={before}")
            # The first ones fill caches.
            if number >= 20:
                for name, seconds in samples.items():
                    timings[name].append(seconds)
        empty, unchanged, changed = (statistics.median(seconds) for seconds in timings.values())
        return empty, unchanged, changed

    def finding(self, first: int, count: int) -> float:
        """Milliseconds, on a clock, that the page of an ID takes at most 95 of a hundred times: each another one."""
        timings = []
        for number in range(IDS_LOOKED_FOR):
            began = time.perf_counter()
            self.ask(f"/dashboard/ids/{first + number * 7919 * 31 % count}/")
            timings.append(1000 * (time.perf_counter() - began))
            if not self.status.startswith("200") or b"the request succeeded" not in self.content:
                raise RuntimeError(self.status)
        return sorted(timings)[int(IDS_LOOKED_FOR * 0.95) - 1]

    def _unchanged(self) -> float:
        return self._timed("204", "/dashboard/", f"version={_version()}")

    def _timed(self, status: str, path: str, query: str = "") -> float:
        began = time.process_time()
        self.ask(path, query)
        seconds = time.process_time() - began
        if not self.status.startswith(status):
            raise RuntimeError(self.status)
        self.largest = max(self.largest, len(self.content))
        return seconds

    def queries(self) -> int:
        """How many queries more than an empty view a poll makes when all has changed."""
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        counts = []
        for path in ("/empty/", "/dashboard/"):
            with CaptureQueriesContext(connection) as captured:
                self.ask(path, "version=none" if path != "/empty/" else "")
            counts.append(len(captured))
        return counts[1] - counts[0]


def _version() -> str:
    from scheduling import store
    from scheduling.reports import board

    return board.snapshot("default", at=store.now()).version


def _change_all(number: int) -> None:
    """Let a minute pass, and everything that the board shows become something else."""
    from django.db import connection

    from scheduling import store
    from scheduling.core import clock, keys

    # The window that runs stays the same, so that there are bars to draw.
    at = clock.quarter_start(store.now()) + number % 15 * clock.MINUTE + timedelta(seconds=20)
    store.now = lambda: at
    minute = clock.minute_number(at)
    values = {
        "n": number,
        "at": connection.ops.adapt_datetimefield_value(at),
        "minute": minute,
        "filling": keys.range_of_window(keys.window_id(1, clock.open_window_start(at)))[0],
    }
    with connection.cursor() as cursor:
        for change in CHANGES:
            cursor.execute(change, values)


def _fill(data_dir: Path) -> None:
    """A window that runs and one that fills, and tasks in progress."""
    from operators.actor import Actor
    from operators.models import Operator
    from scheduling import models, store
    from scheduling.core import clock
    from scheduling.intake import acceptance, allocation
    from scheduling.jobqueue import cluster
    from scheduling.parsing.spool import Spool
    from scheduling.queues import operations

    by, now = Actor.command_line(), store.now()
    Operator.objects.create_user("somebody", password=None, role="operator")
    operations.create(name="default", by=by, at=now)
    for number in range(12):
        # Half of them came in a quarter ago, and run.
        at = now - (number % 2) * clock.QUARTER - timedelta(seconds=20)
        with Spool(data_dir) as spool:
            spool.extend(array("q", range(1 + number * 500, 1 + (number + 1) * 500)))
            spool.finish()
            acceptance.submit(
                acceptance.Submission(f"list {number}"),
                spool,
                by=by,
                now=partial(_same, at),
                render=lambda accepted: None,
            )
    quarter = clock.quarter_start(now)
    models.QuarterRun.objects.create(quarter_at=quarter, ran_at=now)
    first = clock.minute_number(quarter)
    minutes = [models.Minute(pk=first + k, armed_at=now, seats=1) for k in range(clock.BUCKETS)]
    models.Minute.objects.bulk_create(minutes, ignore_conflicts=True)
    for owner, name in enumerate((cluster.DEFAULT, cluster.MINUTES)):
        models.Heartbeat.objects.create(
            owner=owner, cluster=name, host="here", pid=1, workers=2, started_at=now, seen_at=now
        )
    while models.Segment.objects.unwritten().exists():
        allocation.write_segments(lambda: now - clock.QUARTER)


def _same(moment: datetime) -> datetime:
    """A clock that stands still."""
    return moment


def _assignments(count: int) -> None:
    """As many assignments in minutes that are long over."""
    from django.db import connection

    from scheduling import store
    from scheduling.core import clock, keys

    window = keys.window_id(1, clock.quarter_start(store.now() - timedelta(days=30)))
    key = keys.sql_first_assignment(keys.sql_bucket("(%s + i / 15000)", "(i / 1000) %% 15"))
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %s)"
            " INSERT INTO scheduling_assignment (id, user_id, task_id, status, attempts)"
            f" SELECT {key} | (i %% 1000), i + %s, 1, 3, 1"
            " FROM n",
            [count, window, FIRST_ID],
        )
