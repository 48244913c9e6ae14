"""Minutes: claims beside bare SQL, webhooks beside the bare client, and the evenness of real ones.

- Two processes claim and record a bucket of 100,000 IDs each in turns of 4,000; beside it two processes run
  the bare statements on the same rows: claim 4,000 by key and write their outcome, a transaction each.
- The senders of two minute workers make webhooks as fast as they can, 50 at a time together; beside them aiohttp posts
  in a bare loop, 50 at a time, to the same server: the rates, and what each request takes of the processor.
- Real minutes at rpm 60, 600 and 6,000 by one minute worker: how evenly the starts lie in the seconds, and how late
  they are. They take a minute each.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from benchmarks.rows import Row
from benchmarks.service import ROOT, call, directory, migrate, start
from tests import postgresql

if TYPE_CHECKING:
    from scheduling.handlers.base import Request

IDS = int(os.environ.get("BENCH_IDS", "200000"))
TURN = 4_000
PROCESSES = 2
WEBHOOKS = 20_000
LOADING_SECONDS = 5
AT_ONCE = 50
ROUNDS = 3
MINUTE = datetime(2031, 3, 5, 12, 15, tzinfo=UTC)


def run() -> list[Row]:
    """Measure, and return the rows."""
    rows = []
    with directory() as data_dir:
        rows += _claims("SQLite", data_dir, "")
    with directory() as data_dir, postgresql.server() as url:
        rows += _claims("PostgreSQL", data_dir, url)
    with directory() as data_dir:
        rows += _webhooks(data_dir)
    with directory() as data_dir:
        rows += _minutes(data_dir)
    return rows


def _row(name: str, value: float, limit: float | None, unit: str, ok: bool = True) -> Row:
    return {"name": name, "value": round(value, 3), "limit": limit, "unit": unit, "ok": ok}


# --- Claims ---


def _claims(database: str, data_dir: Path, url: str) -> list[Row]:
    migrate(data_dir, url)
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(ROUNDS):
        for way in ("bare", "ours"):
            _child("prepare_claims", data_dir, url)
            children = [_start(f"claim_{way}", data_dir, url, str(n)) for n in range(PROCESSES)]
            seconds = [json.loads(child.communicate()[0]) for child in children]
            rates[way].append(IDS / (max(s[1] for s in seconds) - min(s[0] for s in seconds)))
    bare, own = (statistics.median(rates[way]) for way in ("bare", "ours"))
    return [
        _row(
            f"dispatch: claim and record, {PROCESSES} processes, {database}",
            own / bare,
            0.5,
            "of the bare statements' rate, at least",
            own >= 0.5 * bare,
        ),
        _row(f"dispatch: the same, {database}", own, None, "IDs a second"),
    ]


def prepare_claims() -> None:
    """A bucket of waiting rows for each process; what an earlier round left goes."""
    from django.db import connection

    from scheduling import models
    from tests.scheduling.placed import make_queue, place

    for model in (models.Assignment, models.TaskBucket, models.Reservation, models.Bucket, models.Window):
        model.objects.all()._raw_delete("default")
    models.Task.objects.all()._raw_delete("default")
    models.Chunk.objects.all()._raw_delete("default")
    models.IdList.objects.all()._raw_delete("default")
    each = IDS // PROCESSES
    for n in range(PROCESSES):
        queue = models.Queue.objects.filter(name=f"bench-{n}").first() or make_queue(f"bench-{n}", rpm=each)
        place(queue, {MINUTE: range(1, each + 1)}, at=MINUTE - timedelta(minutes=10))
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE scheduling_assignment")


def claim_ours(n: str) -> None:
    from benchmarks import ticks
    from scheduling import models

    queue = models.Queue.objects.get(name=f"bench-{n}")
    began = time.time()
    ticks.record_at_once(queue, MINUTE, at_most=TURN, owner=os.getpid())
    print(json.dumps([began, time.time()]))


def claim_bare(n: str) -> None:
    from django.db import connection, transaction

    from scheduling import models
    from scheduling.core import keys

    queue = models.Queue.objects.get(name=f"bench-{n}")
    first, last = keys.range_of_bucket(keys.bucket_at(queue.pk, MINUTE))
    lock = " FOR UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else ""
    update = "UPDATE scheduling_assignment SET status = 3, attempts = 1, started_after_ms = 1 WHERE id "
    update += "= ANY(%s)" if lock else "IN (SELECT value FROM json_each(%s))"
    began, done = time.time(), TURN
    while done:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT id FROM scheduling_assignment WHERE id BETWEEN %s AND %s AND status = 1"
                f" ORDER BY id LIMIT {TURN}{lock}",
                [first, last],
            )
            ids = [row[0] for row in cursor.fetchall()]
            cursor.execute(update, [ids if lock else str(ids)])
            done = len(ids)
            # Where the next one looks: our own cursor does the same.
            first = ids[-1] + 1 if ids else first
    print(json.dumps([began, time.time()]))


# --- Webhooks ---


def _webhooks(data_dir: Path) -> list[Row]:
    with _server() as port:
        rates: dict[str, list[float]] = {"bare": [], "ours": []}
        costs: dict[str, list[float]] = {"bare": [], "ours": []}
        for _ in range(ROUNDS):
            rate, cost = json.loads(_child("webhooks_bare", data_dir, "", str(port)))
            rates["bare"].append(rate)
            costs["bare"].append(cost)
            # Both begin when both have loaded.
            at = str(time.time() + LOADING_SECONDS)
            workers = [_start("webhooks_ours", data_dir, "", str(port), at) for _ in range(PROCESSES)]
            times = [json.loads(worker.communicate()[0]) for worker in workers]
            rates["ours"].append(WEBHOOKS / (max(t[1] for t in times) - min(t[0] for t in times)))
            costs["ours"].append(sum(t[2] for t in times) / WEBHOOKS)
    bare, own = (statistics.median(rates[way]) for way in ("bare", "ours"))
    bare_cost, cost = (statistics.median(costs[way]) for way in ("bare", "ours"))
    return [
        _row(
            f"dispatch: signed webhooks by {PROCESSES} minute workers, {AT_ONCE} at a time",
            own / bare,
            0.7,
            "of the bare client's rate, at least",
            own >= 0.7 * bare,
        ),
        _row("dispatch: the same", own, None, "requests a second"),
        _row(
            "dispatch: processor time of a signed webhook",
            cost / bare_cost,
            0.5,
            "of the bare client's, at most",
            cost <= 0.5 * bare_cost,
        ),
        _row("dispatch: the same", 1e6 * cost, None, "µs"),
    ]


@contextmanager
def _server() -> Iterator[int]:
    """A server in a process of its own that answers everything with 200."""
    command = [sys.executable, "-m", "benchmarks.dispatch", "serve"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


class _Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        # Requests of one client: small, and each in one piece.
        if b"}" in data:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def serve() -> None:
    import uvloop

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    uvloop.run(main())


def webhooks_bare(port: str) -> None:
    import aiohttp
    import uvloop

    from scheduling.handlers.message import body_of

    async def main() -> tuple[float, float]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
            work = iter(_requests())

            async def client() -> None:
                for request in work:
                    async with session.post(f"http://127.0.0.1:{port}/", data=body_of(request)) as answer:
                        await answer.read()

            began, cost = time.perf_counter(), time.process_time()
            await asyncio.gather(*(client() for _ in range(AT_ONCE)))
            seconds, cost = time.perf_counter() - began, time.process_time() - cost
            return WEBHOOKS / seconds, cost / WEBHOOKS

    print(json.dumps(uvloop.run(main())))


def webhooks_ours(port: str, at: str) -> None:
    import ipaddress

    from runner.programs import spare_garbage_collector
    from scheduling import models
    from scheduling.dispatch.messages import Claim, ScheduledRequest
    from scheduling.dispatch.minute_clock import Clocks, MinuteClock, host_time
    from scheduling.dispatch.sender import SenderThread
    from scheduling.handlers.webhook import Webhook

    def handler() -> Webhook:
        return Webhook(
            url=f"http://127.0.0.1:{port}/",
            secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            connections=AT_ONCE // PROCESSES,
            allowed=[ipaddress.ip_network("127.0.0.0/8")],
        )

    queue = models.Queue(pk=1, name="default")
    sender = SenderThread(MinuteClock(host_time(), Clocks(host_time)), lambda queue: handler())
    sender.may_start_until = 1e9
    sender.most_connections = {1: AT_ONCE // PROCESSES}
    due = [
        ScheduledRequest(Claim(1, n, n, 7, 0, 0, n, n / 1e6, 1e9), request, queue)
        for n, request in enumerate(_requests())
    ]
    due = due[: WEBHOOKS // PROCESSES]
    sender.start()
    spare_garbage_collector()
    time.sleep(max(0.0, float(at) - time.time()))
    began, cost, done_count, sent_count = time.time(), time.process_time(), 0, 0
    while done_count < len(due):
        # As many as can be under way.
        if sent_count < len(due) and sent_count - done_count < AT_ONCE // PROCESSES:
            sender.send(due[sent_count : sent_count + 5])
            sent_count += 5
        else:
            time.sleep(0.001)
        done_count += len(sender.take())
    print(json.dumps([began, time.time(), time.process_time() - cost]))
    sender.stop()


def _requests() -> "list[Request]":
    from scheduling.handlers.base import Request

    return [Request(user, 7, "a list", "default", MINUTE, 1) for user in range(1, WEBHOOKS + 1)]


# --- Real minutes ---


def _minutes(data_dir: Path) -> list[Row]:
    migrate(data_dir)
    rows = []
    for rpm in (60, 600, 6_000):
        after = json.loads(_child("real_minute", data_dir, "", str(rpm)))
        seconds = Counter(ms // 1000 for ms in after)
        counts = [seconds[second] for second in range(60)]
        uneven = statistics.pstdev(counts) / statistics.mean(counts)
        slot = 60_000 / rpm
        late = sorted(max(0.0, ms - n * slot) for n, ms in enumerate(sorted(after)))
        name = f"dispatch: a minute at rpm {rpm}"
        rows += [
            _row(f"{name}, starts a second", uneven, None, "coefficient of variation"),
            _row(f"{name}, lateness p99", late[int(len(late) * 0.99)], None, "ms"),
            _row(f"{name}, started", len(after) / rpm, None, "of what was planned"),
        ]
    return rows


def real_minute(rpm: str) -> None:
    """One minute worker sends webhooks during a real minute; print when each started, in ms."""
    from django.conf import settings

    from scheduling import models, store
    from scheduling.core import clock, keys
    from scheduling.dispatch import minute_worker
    from scheduling.dispatch.minute_clock import Clocks
    from tests.scheduling.placed import make_queue, place

    with _server() as port:
        queue = make_queue(
            f"bench-{rpm}", rpm=int(rpm), handler="webhook", webhook_url=f"http://127.0.0.1:{port}/"
        )
        minute = clock.minute_start(store.now() + timedelta(seconds=6)) + clock.MINUTE
        place(queue, {minute: range(1, int(rpm) + 1)}, at=store.now())
        assert settings.WEBHOOK_ALLOWED_NETWORKS
        minute_worker.serve_minute(clock.minute_number(minute), 0, Clocks(store.now))
    first, last = keys.range_of_bucket(keys.bucket_at(queue.pk, minute))
    rows = models.Assignment.objects.filter(pk__gte=first, pk__lte=last, started_after_ms__isnull=False)
    print(json.dumps(list(rows.values_list("started_after_ms", flat=True))))


# --- Processes ---


_start, _child = partial(start, "dispatch"), partial(call, "dispatch")


if __name__ == "__main__":
    if sys.argv[1] != "serve":
        import django

        django.setup()
    globals()[sys.argv[1]](*sys.argv[2:])
