"""What each page of the dashboard costs at a million assignments, 80,000 of them failed.

Server time of whole requests through every middleware, without a network, on SQLite and PostgreSQL; the most
queries are counted too. The database is what intake and allocation make of lists; only that their minutes are
over, and what came back in them, is then written by statements of its own. The way of a file of a million IDs
to its preview is measured there too.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rows import Row
from benchmarks.service import ROOT, directory, environment_of, migrate
from tests import postgresql

if TYPE_CHECKING:
    from django.test import Client

ROUNDS = 7
MILLISECONDS, QUERIES = 150, 12
MILLION, PREVIEW_SECONDS = 1_000_000, 5
FAILED_OF_A_HUNDRED = 9


def run() -> list[Row]:
    """Measure, and return the rows."""
    rows = []
    with directory() as data_dir:
        rows += _rows("SQLite", data_dir, "")
    with directory() as data_dir, postgresql.server() as url:
        rows += _rows("PostgreSQL", data_dir, url)
    return rows


def _rows(database: str, data_dir: Path, url: str) -> list[Row]:
    migrate(data_dir, url)
    environment = environment_of(data_dir, url) | {"DJANGO_SETTINGS_MODULE": "settings.test"}
    command = [sys.executable, "-m", "benchmarks.pages", "fill", "measure"]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    measured = json.loads(done.stdout)
    pages = measured["pages"]
    slowest = max(pages, key=lambda page: page["ms"])
    most = max(pages, key=lambda page: page["queries"])
    return [
        _row(
            f"pages: the slowest, {slowest['page']}, {database}", slowest["ms"], "ms, at most", MILLISECONDS
        ),
        _row(f"pages: the most queries, {most['page']}, {database}", most["queries"], "at most", QUERIES),
        _row(
            f"pages: a file of {MILLION:,} IDs, until its preview is there, {database}",
            measured["preview_seconds"],
            "s, at most",
            PREVIEW_SECONDS,
        ),
        *(_row(f"pages: {page['page']}, {database}", page["ms"], "ms", None) for page in pages),
    ]


def _row(name: str, value: float, unit: str, limit: float | None) -> Row:
    ok = limit is None or value <= limit
    return {"name": name, "value": value, "unit": unit, "limit": limit, "ok": ok}


# --- In a process with Django ---


def fill() -> None:
    """A million assignments: a long list, many short ones, and one that waits."""
    from django.core.management import call_command

    from operators.actor import Actor
    from operators.models import Operator
    from scheduling import store
    from scheduling.queues import operations

    call_command("createcachetable", verbosity=0)
    by, now = Actor.command_line(), store.now()
    Operator.objects.create_user("somebody", password=None, role="operator")
    for name, rpm, overflow in (
        ("default", 120, "disperse"), ("long", 600, "carry_over"), ("large", 6000, "disperse")
    ):  # fmt: skip
        operations.create(name=name, fields={"rpm": rpm, "overflow": overflow}, by=by, at=now)
    _list("long", range(1, 600_001), at=now - timedelta(hours=24))
    for number in range(100):
        first = 1_000_001 + number * 2_000
        _list("default", range(first, first + 3_000), at=now - timedelta(minutes=30 + number * 15))
    _finish_all_minutes()
    _list("large", range(2_000_001, 2_100_001), at=now)


def _list(queue: str, ids: range, *, at: datetime) -> None:
    from django.conf import settings

    from operators.actor import Actor
    from scheduling import models
    from scheduling.intake import acceptance, allocation
    from scheduling.parsing.spool import Spool

    with Spool(Path(settings.DATA_DIR)) as spool:
        spool.extend(array("q", ids))
        spool.finish()
        submission = acceptance.Submission(f"list of {len(ids)} from {ids[0]}", queue_name=queue)
        acceptance.submit(
            submission, spool, by=Actor.command_line(), now=lambda: at, render=lambda accepted: None
        )
    while models.Segment.objects.unwritten().exists():
        allocation.write_segments(lambda: at)


def _finish_all_minutes() -> None:
    """Let all minutes be over: most of their IDs succeeded, the others failed for half a dozen reasons."""
    from django.db import connection

    from scheduling.core import keys

    timed = (
        "strftime('%Y-%m-%d %H:%M:%f', ({minute}) * 60 + s.started_after_ms / 1000.0, 'unixepoch')"
        if connection.vendor == "sqlite"
        else "to_timestamp(({minute}) * 60 + s.started_after_ms / 1000.0)"
    ).format(minute=keys.sql_minute_number_of_assignment("s.id"))
    counts = (
        "waiting_count = 0,"
        " succeeded_count = (SELECT COUNT(*) FROM scheduling_assignment s WHERE {mine} AND s.status = 3),"
        " failed_count = (SELECT COUNT(*) FROM scheduling_assignment s WHERE {mine} AND s.status = 4)"
    )
    statements = [
        "UPDATE scheduling_assignment SET attempts = 1, started_after_ms = (user_id * 7919) % 60000,"
        f" status = CASE WHEN (user_id * 7919) % 100 < {FAILED_OF_A_HUNDRED} THEN 4 ELSE 3 END",
        "INSERT INTO scheduling_attempt (task_id, user_id, number, bucket_id, started_at, duration_ms,"
        " http_status, answer, error, unknown)"
        f" SELECT s.task_id, s.user_id, 1, {keys.sql_bucket_of_assignment('s.id')}, {timed}, 120,"
        " CASE s.user_id % 3 WHEN 0 THEN 404 WHEN 1 THEN 500 END,"
        f" CASE s.user_id % 3 WHEN 0 THEN {_message()} ELSE '' END,"
        " CASE s.user_id % 3 WHEN 2 THEN 'the connection was reset' ELSE '' END, FALSE"
        " FROM scheduling_assignment s WHERE s.status = 4",
        f"UPDATE scheduling_bucket SET {counts.format(mine=keys.sql_in_bucket('s.id', 'scheduling_bucket.id'))}",
        "UPDATE scheduling_bucket SET started_count = succeeded_count + failed_count",
        "UPDATE scheduling_taskbucket SET "
        + counts.format(
            mine="s.task_id = scheduling_taskbucket.task_id AND "
            + keys.sql_in_bucket("s.id", "scheduling_taskbucket.bucket_id")
        ),
        "UPDATE scheduling_task SET waiting_count = 0, finished_at = last_minute_at,"
        " succeeded_count = (SELECT SUM(succeeded_count) FROM scheduling_taskbucket b"
        " WHERE b.task_id = scheduling_task.id),"
        " failed_count = (SELECT SUM(failed_count) FROM scheduling_taskbucket b"
        " WHERE b.task_id = scheduling_task.id)",
    ]
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        cursor.execute("ANALYZE")


def _message() -> str:
    # Some targets repeat the ID in what they answer: then hardly two messages are equal.
    if os.environ.get("BENCH_MESSAGES") == "different":
        return "'no such customer: ' || s.user_id"
    return "'no such customer in region ' || (s.user_id % 5)"


def _sent(client: "Client", ids: Sequence[int], address: str = "/dashboard/upload/", **fields: str) -> str:
    """Upload a list as a CSV; return its preview's address."""
    from django.core.files.uploadedfile import SimpleUploadedFile

    text = "user_id\n" + "\n".join(map(str, ids)) + "\nnone\n"
    fields_sent = {"file": SimpleUploadedFile("list.csv", text.encode(), content_type="text/csv"), **fields}
    answer = client.post(address, fields_sent, headers={"host": "localhost"})
    if answer.status_code != 302:
        raise RuntimeError(f"{address}: {answer.status_code}")
    return str(answer["Location"])


def _until_previewed(client: "Client") -> float:
    """Seconds from the first byte of a file of a million shuffled IDs until all of its preview is drawn.

    That is with what the page asks for at last: each ID looked up among the known ones and those that wait.
    """
    ids = list(range(1, 10 * MILLION, 10))
    random.Random(7).shuffle(ids)
    began = time.perf_counter()
    address = _sent(client, ids, queue="default")
    for part, expected in (("", b"1,000,000"), ("overlap/", b"unknown")):
        answer = client.get(address + part, headers={"host": "localhost"})
        if answer.status_code != 200 or expected not in answer.content:
            raise RuntimeError(f"{address}: {answer.status_code}")
    return time.perf_counter() - began


def pages(client: "Client") -> dict[str, str]:
    """Each page's address, by what it is called."""
    from operators.actor import Actor
    from scheduling import models, store
    from scheduling.core import keys
    from scheduling.jobqueue import bulk_operations
    from scheduling.proof import checks

    default = models.Queue.objects.get(name="default")
    long = models.Task.objects.get(queue__name="long")
    waiting = models.Task.objects.get(queue__name="large")
    bucket = models.Bucket.objects.filter(window__queue=default, failed_count__gt=0).order_by("pk").last()
    assert bucket is not None
    minute, window = bucket.minute_at, keys.starts_at_of_window(bucket.window_id)
    at = f"{minute:%Y-%m-%dT%H:%M:%SZ}"
    # A tenth of it waits already, in another task. What is looked up costs by the length of a list: see above.
    draft = _sent(client, range(2_095_001, 2_145_001), queue="default")
    replacing = _sent(client, range(2_050_001, 2_150_001), f"/dashboard/tasks/{waiting.pk}/replace/")
    client.post("/dashboard/proof/", headers={"host": "localhost"})
    checks.resume(checks.stored()[0].pk, store.now)
    by = Actor.command_line()
    for name, kind in (
        ("abc", models.BulkActKind.RETRY_FAILED), ("abd", models.BulkActKind.CANCEL_MATCHING)
    ):  # fmt: skip
        bulk_operations.begin(kind, request={}, number=54_000, name=name, by=by, at=store.now())
    of_window = f"queue=default&window={window:%Y-%m-%dT%H:%MZ}"
    return {
        "board": "/dashboard/?queue=*",
        "upload": "/dashboard/upload/",
        "preview": draft,
        "preview at another rpm": f"{draft}?queue=large&rpm=60",
        "overlap": f"{draft}overlap/",
        "replace": f"/dashboard/tasks/{waiting.pk}/replace/",
        "replace, preview": replacing,
        "IDs of a window": f"/dashboard/drill-down/?{of_window}",
        "failed IDs of a window": f"/dashboard/drill-down/?{of_window}&kind=failed",
        "late IDs": "/dashboard/drill-down/?queue=*&kind=late",
        "proof": "/dashboard/proof/",
        "tasks": "/dashboard/tasks/",
        "tasks by name": "/dashboard/tasks/?sort=ids&state=done",
        "task, long": f"/dashboard/tasks/{long.pk}/",
        "task, waiting": f"/dashboard/tasks/{waiting.pk}/",
        "task, its failed": f"/dashboard/tasks/{long.pk}/?status=failed",
        "task, cancel": f"/dashboard/tasks/{waiting.pk}/cancel/",
        "task, send again": f"/dashboard/tasks/{long.pk}/send-again/",
        "tasks, cancel all": f"/dashboard/tasks/cancel/?queue=large&up_to={waiting.pk}&at={at}",
        "failures": "/dashboard/failures/",
        "failures of a queue": "/dashboard/failures/?queue=long",
        "failures with 404": "/dashboard/failures/?status=404",
        "failures of a task": f"/dashboard/failures/?task={long.pk}",
        "failures of a day": "/dashboard/failures/?last=24h",
        "failures of an hour": "/dashboard/failures/?last=1h",
        "failures of an ID": "/dashboard/failures/?user=9",
        "a group of failures": "/dashboard/failures/?queue=long&status=500&message=",
        "progress of a retry": "/dashboard/failures/retrying/?queue=long&run=abc",
        "progress of a cancel": "/dashboard/acts/abd/",
        "ID": "/dashboard/ids/77/",
        "ID in two tasks": "/dashboard/ids/1003500/",
        "minute": f"/dashboard/minutes/{minute:%Y-%m-%dT%H:%MZ}/",
        "window": f"/dashboard/windows/default/{window:%Y-%m-%dT%H:%MZ}/",
        "queues": "/dashboard/queues/",
        "queue": "/dashboard/queues/default/?rpm=50",
        "history": f"/dashboard/history/{minute:%Y-%m-%d}/",
        "activity": "/dashboard/activity/",
        "account": "/dashboard/account/",
    }


def measure() -> None:
    """Ask for each page some times; the median is what it costs, the first what it costs on a cold day."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from operators.models import Operator

    client = Client()
    client.force_login(Operator.objects.get())
    client.get("/dashboard/account/")
    seconds = _until_previewed(client)
    results = []
    for name, address in pages(client).items():
        timings = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            answer = client.get(address, headers={"host": "localhost"})
            timings.append(1000 * (time.perf_counter() - began))
            if answer.status_code != 200:
                raise RuntimeError(f"{address}: {answer.status_code}")
        with CaptureQueriesContext(connection) as captured:
            client.get(address, headers={"host": "localhost"})
        if os.environ.get("BENCH_QUERIES") in (name, "all"):
            for query in captured:
                print(name, query["time"], query["sql"][:3000], file=sys.stderr)
        results.append(
            {
                "page": name,
                "ms": round(statistics.median(timings)),
                "first": round(timings[0]),
                "queries": len(captured),
            }
        )
    print(json.dumps({"pages": results, "preview_seconds": round(seconds, 2)}))


if __name__ == "__main__":
    import django

    django.setup()
    for _step in sys.argv[1:]:
        {"fill": fill, "measure": measure}[_step]()
