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
from scheduling.handlers import factory, oauth
from scheduling.handlers.base import Fail, Outcome, Request
from settings.place import BASE_DIR
from tests.api.conftest import ApiClient
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted
from tests.scheduling.simulated import SimulatedTime
from tests.scheduling.target import ReceivedRequest, Target, status

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
        self.wait_for(self._in_loop(self.handler.prepare))

    def is_ready(self) -> bool:
        return self.wait_for(self._in_loop(self.handler.is_ready))

    async def _in_loop(self, method):
        return method()

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
    values = {"name": "job", "rpm": 600, **fields}
    if target is not None:
        url = f"http://127.0.0.1:{target.port}{path}"
        values |= {"handler": "webhook", "webhook_url": url, "webhook_sign": False}
    answer = api.send("POST", "/queues/", values)
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
    rows.writerows(
        [item, name, f"{n:05}", "x"] for n, (item, name) in enumerate(zip(ids, names, strict=True))
    )
    query = f"&id_type={id_type}&column=customer&data=first name,voucher"

    def accept(request: ReceivedRequest) -> bytes:
        return status(
            202, json.dumps({"message": {"id": f"m-{json.loads(request.body)['vars']['voucher']}"}}).encode()
        )

    with Target(accept) as target:
        make_queue(api, target, "/v1/messages", **CAMPAIGN)
        shown = api.list(
            table.getvalue(), query=f"?task_name=autumn&queue=job{query}&dry_run=true", type="text/csv"
        ).json()["requests"]
        task_id = submit(api, write_lists, table.getvalue(), query)
        minutes.serve()
    received = {json.loads(request.body)["to"]["external_id"]: request for request in target.requests}
    assert len(target.requests) == 60
    assert received.keys() == set(ids)
    for n, (item, name) in enumerate(zip(ids, names, strict=True)):
        expected = {"name": f"Dear {name or 'customer'}", "voucher": f"{n:05}"}
        assert json.loads(received[item].body)["vars"] == expected
        assert received[item].headers["authorization"] == "Bearer of-the-vendor"
    # The first three are as the dry run has shown them.
    for item, made in zip(ids, shown, strict=False):
        assert (made["method"], made["body"]) == ("POST", received[item].body.decode())
    result = results(api, task_id)
    assert [row["answer"] for row in result] == [f"m-{n:05}" for n in range(60)]
    assert result[1]["data"] == {"first name": 'Zoë "1"', "voucher": "00001"}
    assert {row["status"] for row in result} == {"succeeded"}
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

    def accept(request: ReceivedRequest) -> bytes:
        voucher = json.loads(request.body)["vars"]["voucher"]
        return status(202, json.dumps({"message": {"id": f"m-{voucher}"}}).encode())

    with Target(accept) as target:
        url = fields["webhook_url"].replace("https://api.example.com", f"http://127.0.0.1:{target.port}")
        assert api.send("POST", "/queues/", fields | {"webhook_url": url}).status_code == 201
        dry = api.list(table, query=query, type="text/csv")
        assert dry.status_code == 200, dry.content
        assert not target.requests
        placed = api.list(table, query=query.removesuffix("&dry_run=true"), type="text/csv")
        assert placed.status_code == 201, placed.content
        write_lists()
        minutes.serve()
    assert len(target.requests) == len(dry.json()["requests"]) == 3
    request = next(
        item for item in target.requests if json.loads(item.body)["to"]["external_id"] == result["user_id"]
    )
    assert f"{request.method} {request.path} HTTP/1.1" == line
    assert dict(header.split(": ", 1) for header in headers).items() <= request.headers.items()
    assert json.loads(request.body) == json.loads(body)
    assert dry.json()["requests"][1]["body"] == request.body.decode()
    rows = {row["user_id"]: row for row in results(api, placed.json()["task_id"])}
    assert result.items() <= rows[result["user_id"]].items()


RECORDS = [f"0058d000004Zq{n:05}" for n in range(70)]
MORE_RECORDS = [f"0058d000004Zq{n:05}" for n in range(70, 90)]
MUTATION = {
    "webhook_body": json.dumps(
        {"query": "mutation($id: ID!) { touch(id: $id) { ok } }", "variables": {"id": "{{id}}"}}
    )
}


@pytest.mark.parametrize("otherwise", ["fail", "retry"])
def test_graphql_errors_in_a_200_fail_or_are_retried(api, write_lists, minutes, otherwise):
    tries: Counter[str] = Counter()

    def touch(request: ReceivedRequest) -> bytes:
        record = json.loads(request.body)["variables"]["id"]
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
    result = {row["external_id"]: row for row in results(api, task_id)}
    unlucky = set(RECORDS[::7])
    expected = {"succeeded": 60, "failed": 10} if otherwise == "fail" else {"succeeded": 70}
    assert counted() == expected
    assert {item for item in RECORDS if result[item]["status"] == "failed"} == (
        unlucky if otherwise == "fail" else set()
    )
    assert {item for item, count in tries.items() if count == 2} == (
        unlucky if otherwise == "retry" else set()
    )
    if otherwise == "fail":
        assert "UNABLE_TO_LOCK_ROW" in result[RECORDS[0]]["answer"]
        assert "/errors" in result[RECORDS[0]]["error"]
    check_counters()


def test_graphql_job_continues_while_its_token_expires_twice(api, write_lists, minutes):
    oauth.forget_all()
    accepted: Counter[str] = Counter()
    refused: list[ReceivedRequest] = []

    def valid() -> str:
        # The vendor's tokens are good for 40 requests, whatever they say.
        return f"token-{sum(accepted.values()) // 40}"

    def issue(request: ReceivedRequest) -> bytes:
        return status(200, json.dumps({"access_token": valid(), "expires_in": 3600}).encode())

    def touch(request: ReceivedRequest) -> bytes:
        if request.headers["authorization"] != f"Bearer {valid()}":
            refused.append(request)
            return status(401, b'{"errors": [{"message": "INVALID_SESSION_ID"}]}')
        record = json.loads(request.body)["variables"]["id"]
        accepted[record] += 1
        if int(record[-5:]) % 7 == 0 and accepted[record] == 1:
            return status(200, b'{"data": null, "errors": [{"message": "UNABLE_TO_LOCK_ROW"}]}')
        return status(200, b'{"data": {"touch": {"ok": true}}}')

    with Target(issue) as issuer, Target(touch) as target:
        make_queue(
            api,
            target,
            "/graphql",
            success_when={"pointer": "/errors", "equals": None, "otherwise": "retry"},
            oauth_token_url=f"http://127.0.0.1:{issuer.port}/token",
            oauth_client_id="quarterdeck",
            oauth_client_secret="hush-hush",
            **MUTATION,
        )
        task_id = submit(
            api, write_lists, "\n".join(RECORDS + MORE_RECORDS), "&id_type=text", type="text/plain"
        )
        minutes.serve()
    assert counted() == {"succeeded": 90}
    assert accepted.keys() == {*RECORDS, *MORE_RECORDS}
    unlucky = {item for item in accepted if int(item[-5:]) % 7 == 0}
    assert {item for item, count in accepted.items() if count == 2} == unlucky
    # 103 requests in all, by three tokens. A 401 is no attempt: only what the vendor could not lock has two.
    assert len(issuer.requests) == 3
    assert len(refused) == 2
    attempts = {row["external_id"]: row["attempts"] for row in results(api, task_id)}
    assert attempts == {item: 2 if item in unlucky else 1 for item in accepted}
    assert len(target.requests) == sum(accepted.values()) + len(refused)
    check_counters()


def test_key_rotation_at_the_target_costs_no_attempt(api, write_lists, minutes, monkeypatch):
    oauth.forget_all()

    def valid() -> str:
        # The target rotates its keys in the third minute; the new one is issued a minute later.
        return "new" if minutes.passed >= 3 else "old"

    def issue(request: ReceivedRequest) -> bytes:
        if minutes.passed == 2:
            # Its half minute passes at once, as the minutes of this test do.
            monkeypatch.setattr(oauth, "RETRY_SECONDS", 0.0)
            return status(503)
        return status(200, json.dumps({"access_token": valid(), "expires_in": 3600}).encode())

    def answer(request: ReceivedRequest) -> bytes:
        expected = "new" if minutes.passed >= 2 else "old"
        return status(200 if request.headers["authorization"] == f"Bearer {expected}" else 401)

    with Target(issue) as issuer, Target(answer) as target:
        make_queue(
            api,
            target,
            rpm=30,
            overflow="carry_over",
            oauth_token_url=f"http://127.0.0.1:{issuer.port}/token",
            oauth_client_id="quarterdeck",
            oauth_client_secret="hush-hush",
        )
        task_id = submit(api, write_lists, "\n".join(map(str, range(1, 151))), type="text/plain")
        minutes.serve()
    assert counted() == {"succeeded": 150}
    assert {row["attempts"] for row in results(api, task_id)} == {1}
    assert len(target.requests) - 150 <= 2
    assert not models.Target.objects.filter(opened_at__isnull=False).exists()
    check_counters()


def test_get_of_500_addresses_asks_each_once_as_its_owner_wrote_it(api, write_lists, minutes):
    ids = [f"sku/{n} ü?a=1&b#{n}%41" for n in range(500)]

    def page(received: ReceivedRequest) -> bytes:
        return status(404 if received.n % 50 == 0 else 200, b"<html>")

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
    assert {
        (received.method, received.body, received.headers.get("content-length"))
        for received in target.requests
    } == {("GET", b"", None)}
    request = [received.path.removeprefix("/offers/").partition("?ref=") for received in target.requests]
    assert Counter(unquote(path) for path, _, _ in request) == Counter(ids)
    assert all(path == ref and path.count("/") == 0 for path, _, ref in request)
    check_counters()


received_requests: list[Request] = []


def grant(requests: Sequence[Request]) -> list:
    """A callable of a deployment: refuses those without credit."""
    received_requests.extend(requests)
    return [
        None if request.data and request.data["credit"] > 0 else Fail("no credit") for request in requests
    ]


def test_python_callable_receives_ids_and_data(api, write_lists, minutes, settings):
    received_requests.clear()
    path = f"{__name__}.grant"
    settings.PYTHON_HANDLERS = [path]
    make_queue(api, handler="python", python_callable=path)
    lines = [json.dumps({"id": f"u-{n}", "credit": n % 3, "tags": ["a", None]}) for n in range(30)]
    query = "&id_type=text&data=credit,tags"
    task_id = submit(api, write_lists, "\n".join(lines), query, type="application/x-ndjson")
    minutes.serve()
    assert {item.external_id: item.data for item in received_requests} == {
        f"u-{n}": {"credit": n % 3, "tags": ["a", None]} for n in range(30)
    }
    assert len(received_requests) == 30
    failed = {row["external_id"] for row in results(api, task_id) if row["status"] == "failed"}
    assert failed == {f"u-{n}" for n in range(0, 30, 3)}
    assert counted() == {"failed": 10, "succeeded": 20}
    check_counters()


def test_expired_key_fails_nobody_and_costs_few_requests(api, write_lists, minutes):
    def answer(request: ReceivedRequest) -> bytes:
        # The key expires in the fifth minute, and is renewed ten minutes later.
        return status(403, b"key expired") if 4 <= minutes.passed < 14 else status(200)

    with Target(answer) as target:
        make_queue(api, target, rpm=60, overflow="carry_over")
        task_id = submit(api, write_lists, "\n".join(map(str, range(1, 301))), type="text/plain")
        minutes.serve()
    assert counted() == {"succeeded": 300}
    refused = len(target.requests) - 300
    assert 5 <= refused <= 30, "what opens the breaker, and a probe each half minute at most"
    assert api.get(f"/celery_ids_tasks/{task_id}/").json()["state"] == "done"
    check_counters()


def test_probes_of_an_hour_of_403_fail_nobody(api, write_lists, minutes):
    def answer(received: ReceivedRequest) -> bytes:
        return status(403, b"key expired") if minutes.passed < 70 else status(200)

    with Target(answer) as target:
        make_queue(api, target, rpm=60, overflow="carry_over")
        task_id = submit(api, write_lists, "\n".join(map(str, range(1, 121))), type="text/plain")
        minutes.serve(at_most=90)
    assert counted() == {"succeeded": 120}
    refused = len(target.requests) - 120
    assert 60 <= refused <= 170, "about two probes a minute"
    assert max(row["attempts"] for row in results(api, task_id)) <= 6
    check_counters()
