"""Whole jobs as integrators run them: from a file to what an API on loopback received, minute by minute."""

import asyncio
import csv
import io
import json
import re
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from ipaddress import ip_network
from urllib.parse import unquote

import pytest

from scheduling import models
from scheduling.core import clock
from scheduling.dispatch import minute_worker, overdue
from scheduling.handlers import factory
from scheduling.handlers.base import Fail, Outcome, Request
from settings.place import BASE_DIR
from tests.api.conftest import ApiClient
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted
from tests.scheduling.simulated import SimulatedTime
from tests.scheduling.target import Seen, Target, status

pytestmark = pytest.mark.django_db


class RealCalls:
    """A queue's own handler, whose requests are really made while simulated time stands still."""

    batch_seconds = 0.0

    def __init__(self, queue: models.Queue, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.handler = self.wait_for(self._make(queue))
        self.batch_seconds = self.handler.batch_seconds

    async def _make(self, queue: models.Queue):
        return factory.make_handler(queue)

    def wait_for(self, call):
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(30)

    def prepare(self) -> None:
        self.handler.prepare()

    async def handle(self, batch: Sequence[Request]) -> list[Outcome]:
        outcomes = self.wait_for(self.handler.handle(batch))
        await asyncio.sleep(0.02)
        return outcomes

    async def close(self) -> None:
        self.wait_for(self.handler.close())


class Minutes:
    """Serves minute after minute, on simulated time, until nothing waits. passed: how many were served."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.passed = loop, 0

    def serve(self, *, at_most: int = 60) -> None:
        minute = models.Task.objects.order_by("first_minute_at").first().first_minute_at
        while models.Assignment.objects.filter(status=models.Status.WAITING).exists():
            assert self.passed < at_most, counted()
            self._serve(minute)
            self.passed += 1
            minute += clock.MINUTE
            overdue.run(lambda minute=minute: minute + timedelta(seconds=3))

    def _serve(self, minute) -> None:
        time = SimulatedTime(minute - timedelta(seconds=clock.SEAL_SECONDS))
        worker = time.worker(minute, make_handler=lambda queue: RealCalls(queue, self.loop))
        time.tick_to_the_end(worker)
        if worker.sender:
            worker.sender.stop()
        time.loop.close()


@pytest.fixture
def minutes(monkeypatch, settings):
    monkeypatch.setattr(minute_worker.store, "keep_waits_short", lambda: None)
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield Minutes(loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


def make_queue(api: ApiClient, target: Target | None = None, path: str = "/", **fields) -> None:
    """Create the queue `job` by API, as its owner would."""
    given = {"name": "job", "rpm": 600, **fields}
    if target is not None:
        url = f"http://127.0.0.1:{target.port}{path}"
        given |= {"handler": "webhook", "webhook_url": url, "webhook_sign": False}
    answer = api.send("POST", "/queues/", given)
    assert answer.status_code == 201, answer.content


def submit(
    api: ApiClient, write_lists: Callable[[], None], body: str, query: str = "", *, type: str = "text/csv"
) -> int:
    """Send a list; return its task's number once all is written."""
    answer = api.list(body, query=f"?task_name=autumn&queue=job{query}", type=type)
    assert answer.status_code == 201, answer.content
    write_lists()
    return answer.json()["task_id"]


def results(api: ApiClient, task_id: int) -> list[dict]:
    return api.get(f"/celery_ids_tasks/{task_id}/ids/?results=true&data=true&limit=1000").json()


CAMPAIGN = {
    "webhook_headers": {"Authorization": "Bearer of-the-vendor"},
    "webhook_body": json.dumps(
        {
            "to": {"external_id": "{{id}}"},
            "vars": {"name": "Dear {{data.first name|'customer'}}", "voucher": "{{data.voucher}}"},
        }
    ),
    "success_statuses": "202",
    "keep_answers": "/message/id",
}


@pytest.mark.parametrize("id_type", ["integer", "text"])
def test_campaign_reaches_each_customer_with_a_voucher_and_keeps_the_message_ids(
    api, write_lists, minutes, id_type
):
    ids = [1000 + n if id_type == "integer" else f"c-{n}@example.com" for n in range(60)]
    names = ["" if n % 10 == 0 else f'Zoë "{n}"' for n in range(60)]
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["customer", "first name", "voucher", "internal"])
    rows.writerows([one, name, f"{n:05}", "x"] for n, (one, name) in enumerate(zip(ids, names, strict=True)))
    query = f"&id_type={id_type}&column=customer&data=first name,voucher"

    def accept(seen: Seen) -> bytes:
        return status(
            202, json.dumps({"message": {"id": f"m-{json.loads(seen.body)['vars']['voucher']}"}}).encode()
        )

    with Target(accept) as target:
        make_queue(api, target, "/v1/messages", **CAMPAIGN)
        shown = api.list(
            table.getvalue(), query=f"?task_name=autumn&queue=job{query}&dry_run=true", type="text/csv"
        ).json()["requests"]
        task_id = submit(api, write_lists, table.getvalue(), query)
        minutes.serve()
    received = {json.loads(seen.body)["to"]["external_id"]: seen for seen in target.seen}
    assert len(target.seen) == 60
    assert received.keys() == set(ids)
    for n, (one, name) in enumerate(zip(ids, names, strict=True)):
        expected = {"name": f"Dear {name or 'customer'}", "voucher": f"{n:05}"}
        assert json.loads(received[one].body)["vars"] == expected
        assert received[one].headers["authorization"] == "Bearer of-the-vendor"
    # The first three are as the dry run has shown them.
    for one, made in zip(ids, shown, strict=False):
        assert (made["method"], made["body"]) == ("POST", received[one].body.decode())
    found = results(api, task_id)
    assert [row["answer"] for row in found] == [f"m-{n:05}" for n in range(60)]
    assert found[1]["data"] == {"first name": 'Zoë "1"', "voucher": "00001"}
    assert {row["status"] for row in found} == {"succeeded"}
    assert api.get(f"/celery_ids_tasks/{task_id}/").json()["state"] == "done"
    check_counters()


def block_of_page(words: str) -> str:
    """A block of docs/requests.md, by the words after its fence."""
    page = (BASE_DIR / "docs" / "requests.md").read_text()
    [block] = re.findall(rf"^ *```{words}\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE)
    return textwrap.dedent(block)


def test_campaign_of_the_docs_runs_as_the_page_says(api, write_lists, minutes):
    table, fields = block_of_page("csv campaign"), json.loads(block_of_page("json campaign"))
    query = re.search(r"celery_ids_tasks/(\?[^\"]+)", block_of_page("sh campaign"))[1]
    head, _, body = block_of_page("http campaign").partition("\n\n")
    line, *headers = head.splitlines()
    result = json.loads(block_of_page("json result"))

    def accept(seen: Seen) -> bytes:
        voucher = json.loads(seen.body)["vars"]["voucher"]
        return status(202, json.dumps({"message": {"id": f"m-{voucher}"}}).encode())

    with Target(accept) as target:
        url = fields["webhook_url"].replace("https://api.example.com", f"http://127.0.0.1:{target.port}")
        assert api.send("POST", "/queues/", fields | {"webhook_url": url}).status_code == 201
        dry = api.list(table, query=query, type="text/csv")
        assert dry.status_code == 200, dry.content
        assert not target.seen
        placed = api.list(table, query=query.removesuffix("&dry_run=true"), type="text/csv")
        assert placed.status_code == 201, placed.content
        write_lists()
        minutes.serve()
    assert len(target.seen) == len(dry.json()["requests"]) == 3
    seen = next(one for one in target.seen if json.loads(one.body)["to"]["external_id"] == result["user_id"])
    assert f"{seen.method} {seen.path} HTTP/1.1" == line
    assert dict(header.split(": ", 1) for header in headers).items() <= seen.headers.items()
    assert json.loads(seen.body) == json.loads(body)
    assert dry.json()["requests"][1]["body"] == seen.body.decode()
    rows = {row["user_id"]: row for row in results(api, placed.json()["task_id"])}
    assert result.items() <= rows[result["user_id"]].items()


RECORDS = [f"0058d000004Zq{n:05}" for n in range(70)]
MUTATION = {
    "webhook_body": json.dumps(
        {"query": "mutation($id: ID!) { touch(id: $id) { ok } }", "variables": {"id": "{{id}}"}}
    )
}


@pytest.mark.parametrize("otherwise", ["fail", "retry"])
def test_graphql_errors_in_a_200_fail_or_are_retried(api, write_lists, minutes, otherwise):
    tries: Counter[str] = Counter()

    def touch(seen: Seen) -> bytes:
        record = json.loads(seen.body)["variables"]["id"]
        tries[record] += 1
        if int(record[-5:]) % 7 == 0 and tries[record] == 1:
            return status(200, b'{"data": null, "errors": [{"message": "UNABLE_TO_LOCK_ROW"}]}')
        return status(200, b'{"data": {"touch": {"ok": true}}}')

    when = {"pointer": "/errors", "equals": None, "otherwise": otherwise}
    with Target(touch) as target:
        make_queue(api, target, "/graphql", success_when=when, **MUTATION)
        task_id = submit(api, write_lists, "\n".join(RECORDS), "&id_type=text", type="text/plain")
        minutes.serve()
    assert tries.keys() == set(RECORDS)
    found = {row["external_id"]: row for row in results(api, task_id)}
    unlucky = set(RECORDS[::7])
    expected = {"succeeded": 60, "failed": 10} if otherwise == "fail" else {"succeeded": 70}
    assert counted() == expected
    assert {one for one in RECORDS if found[one]["status"] == "failed"} == (
        unlucky if otherwise == "fail" else set()
    )
    assert {one for one, count in tries.items() if count == 2} == (unlucky if otherwise == "retry" else set())
    if otherwise == "fail":
        assert "UNABLE_TO_LOCK_ROW" in found[RECORDS[0]]["answer"]
        assert "/errors" in found[RECORDS[0]]["error"]
    check_counters()


def test_get_of_500_addresses_asks_each_once_as_its_owner_wrote_it(api, write_lists, minutes):
    ids = [f"sku/{n} ü?a=1&b#{n}%41" for n in range(500)]

    def page(seen: Seen) -> bytes:
        return status(404 if seen.n % 50 == 0 else 200, b"<html>")

    with Target(page) as target:
        make_queue(
            api,
            target,
            "/offers/{{id}}?ref={{id}}",
            webhook_method="GET",
            webhook_body="",
            success_statuses="200-299,404",
        )
        submit(api, write_lists, "\n".join(ids), "&id_type=text", type="text/plain")
        minutes.serve()
    assert counted() == {"succeeded": 500}
    assert {(seen.method, seen.body, seen.headers.get("content-length")) for seen in target.seen} == {
        ("GET", b"", None)
    }
    asked = [seen.path.removeprefix("/offers/").partition("?ref=") for seen in target.seen]
    assert Counter(unquote(path) for path, _, _ in asked) == Counter(ids)
    assert all(path == ref and path.count("/") == 0 for path, _, ref in asked)
    check_counters()


received_requests: list[Request] = []


def grant(requests: Sequence[Request]) -> list:
    """A callable of a deployment: refuses those without credit."""
    received_requests.extend(requests)
    return [None if one.data and one.data["credit"] > 0 else Fail("no credit") for one in requests]


def test_python_callable_receives_ids_and_data(api, write_lists, minutes, settings):
    received_requests.clear()
    path = f"{__name__}.grant"
    settings.PYTHON_HANDLERS = [path]
    make_queue(api, handler="python", python_callable=path)
    lines = [json.dumps({"id": f"u-{n}", "credit": n % 3, "tags": ["a", None]}) for n in range(30)]
    query = "&id_type=text&data=credit,tags"
    task_id = submit(api, write_lists, "\n".join(lines), query, type="application/x-ndjson")
    minutes.serve()
    assert {one.external_id: one.data for one in received_requests} == {
        f"u-{n}": {"credit": n % 3, "tags": ["a", None]} for n in range(30)
    }
    assert len(received_requests) == 30
    failed = {row["external_id"] for row in results(api, task_id) if row["status"] == "failed"}
    assert failed == {f"u-{n}" for n in range(0, 30, 3)}
    assert counted() == {"failed": 10, "succeeded": 20}
    check_counters()


def test_expired_key_fails_nobody_and_costs_few_requests(api, write_lists, minutes):
    def answer(seen: Seen) -> bytes:
        # The key expires in the fifth minute, and is renewed ten minutes later.
        return status(403, b"key expired") if 4 <= minutes.passed < 14 else status(200)

    with Target(answer) as target:
        make_queue(api, target, rpm=60, overflow="carry_over")
        task_id = submit(api, write_lists, "\n".join(map(str, range(1, 301))), type="text/plain")
        minutes.serve()
    assert counted() == {"succeeded": 300}
    refused = len(target.seen) - 300
    assert 5 <= refused <= 30, "what opens the breaker, and a probe each half minute at most"
    assert api.get(f"/celery_ids_tasks/{task_id}/").json()["state"] == "done"
    check_counters()
