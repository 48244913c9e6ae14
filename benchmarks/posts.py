"""What the POST of one ID costs, beside an authenticated GET of a task in the same run.

The processor time of a request is that of the whole application, without a server, in one thread. Rates and times
are those of clients that ask a running service as fast as it answers, each over a connection of its own: for some
seconds all of them GET, then all of them POST, and so on in turn.
"""

import asyncio
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

from benchmarks.rows import Row
from benchmarks.service import ROOT, Service, call, directory, migrate

REQUESTS = 400
CLIENTS, ROUNDS, SECONDS = 50, 4, 5.0
PATH = "/celery_ids_tasks/"


def run() -> list[Row]:
    """Measure, and return the rows."""
    with directory() as data_dir:
        migrate(data_dir)
        alone = json.loads(call("posts", "_costs", data_dir, ""))
    # One address and one token stand for all clients.
    os.environ["REQUESTS_PER_SECOND"] = "0"
    with directory() as data_dir, Service(data_dir) as service:
        task = service.ask("POST", PATH, _body(1), Content_Type="application/json")["task_id"]
        client = [
            sys.executable,
            "-m",
            "benchmarks.posts",
            "_ask",
            str(service.port),
            service.token,
            str(task),
        ]
        measured = json.loads(subprocess.run(client, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    rates = [measured[method]["rate"] for method in ("POST", "GET")]
    late = [measured[method]["p99"] for method in ("POST", "GET")]
    return [
        _row("statements, until its row is written", alone["statements"], "at most", 22),
        _row("processor time", alone["post"] / alone["get"], "of a GET's, at most", 2),
        _row("the same", 1000 * alone["post"], "ms", None),
        _row(
            f"rate with {CLIENTS} clients", rates[0] / rates[1], "of the GET's, at least", 0.5, at_least=True
        ),
        _row("the same", rates[0], "a second", None),
        _row("99 of a hundred answered within", late[0] / late[1], "of the GET's time, at most", 3),
        _row("the same", 1000 * late[0], "ms", None),
    ]


def _row(name: str, value: float, unit: str, limit: float | None, *, at_least: bool = False) -> Row:
    ok = limit is None or (value >= limit if at_least else value <= limit)
    name = f"POST of one ID, SQLite: {name}"
    return {"name": name, "value": round(value, 3), "unit": unit, "limit": limit, "ok": ok}


def _body(user: int) -> bytes:
    return json.dumps({"task_name": "one", "payload": [user]}).encode()


def _costs() -> None:
    """Print the seconds of processor time of one POST and of one GET, and how many statements a POST makes."""
    import django

    django.setup()
    from django.core.handlers.wsgi import WSGIHandler
    from django.core.management import call_command
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from operators import tokens
    from operators.actor import Actor

    call_command("prepare")
    _, secret = tokens.issue(name="b", scope="write", by=Actor.system(), at=datetime.now(UTC))
    application = WSGIHandler()

    def ask(method: str, path: str, body: bytes = b"") -> Any:
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
            "HTTP_AUTHORIZATION": f"Bearer {secret}",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
        }
        statuses: list[str] = []
        response = application(environ, lambda status, headers, exc_info=None: statuses.append(status))  # type: ignore[arg-type]  # nothing is written to it
        content = b"".join(response)
        getattr(response, "close", lambda: None)()
        if not statuses[0].startswith("2"):
            raise RuntimeError(f"{method}: {statuses[0]} {content[:500]!r}")
        return json.loads(content)

    timings: dict[str, list[float]] = {"post": [], "get": []}
    for number in range(1, REQUESTS + 20):
        began = time.process_time()
        task = ask("POST", PATH, _body(number))["task_id"]
        posted = time.process_time()
        ask("GET", f"{PATH}{task}/")
        ended = time.process_time()
        # The first ones fill caches.
        if number >= 20:
            timings["post"].append(posted - began)
            timings["get"].append(ended - posted)
    with CaptureQueriesContext(connection) as captured:
        ask("POST", PATH, _body(REQUESTS + 20))
    print(
        json.dumps(
            {name: statistics.median(seconds) for name, seconds in timings.items()}
            | {"statements": len(captured)}
        )
    )


def _ask() -> None:
    """Print the rate and the 99th percentile of both methods, asked by all clients in turn."""
    port, token, task = int(sys.argv[2]), sys.argv[3], sys.argv[4]
    users = count(10)
    requests: dict[str, Iterator[bytes]] = {
        "GET": (_request("GET", f"{PATH}{task}/", token) for _ in count()),
        "POST": (_request("POST", PATH, token, _body(user)) for user in users),
    }
    rates: dict[str, list[float]] = {"GET": [], "POST": []}
    times: dict[str, list[float]] = {"GET": [], "POST": []}
    for _ in range(ROUNDS):
        for method, following in requests.items():
            timings, seconds = asyncio.run(_all_clients(port, following))
            rates[method].append(len(timings) / seconds)
            times[method] += timings
    print(
        json.dumps(
            {
                method: {
                    "rate": statistics.median(rates[method]),
                    "p99": sorted(times[method])[int(len(times[method]) * 0.99)],
                }
                for method in requests
            }
        )
    )


def _request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def _all_clients(port: int, requests: Iterator[bytes]) -> tuple[list[float], float]:
    timings: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(_client(port, requests, began + SECONDS, timings) for _ in range(CLIENTS)))
    return timings, time.perf_counter() - began


async def _client(port: int, requests: Iterator[bytes], until: float, timings: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(next(requests))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        timings.append(time.perf_counter() - began)
        if not head.startswith(b"HTTP/1.1 20"):
            raise RuntimeError(head.decode())
    writer.close()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.production")
    {"_costs": _costs, "_ask": _ask}[sys.argv[1]]()
