"""The application as the server calls it: what is received, when, and what is answered."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as used
from django.utils import timezone

from operators.models import Token
from runner.web import bodies, pages
from runner.web.application import _servers, application
from scheduling import models
from tests.patience import MOST_SECONDS

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Client:
    """A client that sends `parts` of its body, and then nothing more, or hangs up."""

    method: str = "GET"
    path: str = "/sign-in/"
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    length: int | None = None
    hangs_up: bool = False
    received: int = 0
    status: int = 0
    answer: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False

    async def receive(self) -> dict:
        self.received += 1
        if self.received <= len(self.parts):
            sent = sum(map(len, self.parts[: self.received]))
            more = sent < (self.length or sent)
            return {"type": "http.request", "body": self.parts[self.received - 1], "more_body": more}
        if self.hangs_up:
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: dict) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.answer = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]
            self.is_whole = not message["more_body"]

    def scope(self) -> dict:
        length = {} if self.length is None else {"Content-Length": str(self.length)}
        path, _, query = self.path.partition("?")
        return {
            "type": "http",
            "method": self.method,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "http_version": "1.1",
            "scheme": "http",
            "server": ("127.0.0.1", 8000),
            "client": ("192.0.2.1", 4711),
            "headers": [
                (name.lower().encode(), value.encode())
                for name, value in ({"Host": "testserver"} | length | self.headers).items()
            ],
        }


def ask(*clients: Client, after: Callable[[], None] = lambda: None) -> Client:
    """Let the application answer these clients one after the other; return the last."""

    async def all_of_them() -> None:
        for client in clients:
            await asyncio.wait_for(application(client.scope(), client.receive, client.send), 120)
        after()

    asyncio.run(all_of_them())
    return clients[-1]


def list_of(token: str, parts: list[bytes], length: int | None = None, **more: str) -> Client:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/plain"} | more
    whole = length if length is not None else sum(map(len, parts))
    return Client("POST", "/celery_ids_tasks/?task_name=it", headers, parts, whole)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr("runner.web.application.FORM_SECONDS", 0.3)
    monkeypatch.setattr("runner.web.application.DRAINED_SECONDS", 0.1)
    monkeypatch.setattr(bodies, "CHECKED_EVERY_SECONDS", 0.3)


@pytest.fixture(autouse=True)
def connections_are_returned(transactional_db):
    yield
    for server in _servers.values():
        server.threads.end_idle(-1)
    _servers.clear()


@pytest.fixture(autouse=True)
def default_queue(db):
    models.Queue.objects.get_or_create(name="default", defaults={"created_at": timezone.now()})


def spooled() -> list[str]:
    return [path.name for path in used.SPOOL_DIR.iterdir()]


def test_page_is_answered_with_its_length():
    client = ask(Client())
    assert client.status == 200
    assert int(client.answer["content-length"]) == len(client.body)
    assert client.is_whole


def test_list_sent_in_parts_is_accepted(make_token):
    client = ask(list_of(make_token(), [b"1,2,", b"3"]))
    assert client.status == 201
    assert json.loads(client.body)["task"]["counts"]["ids"] == 3


def test_long_list_is_accepted_and_leaves_nothing_in_the_spool(make_token):
    ids = ",".join(map(str, range(1, 300_001))).encode()
    parts = [ids[at : at + 50_000] for at in range(0, len(ids), 50_000)]
    client = ask(list_of(make_token(), parts))
    assert client.status == 201
    assert json.loads(client.body)["task"]["counts"]["ids"] == 300_000
    assert spooled() == []


@pytest.mark.parametrize("sent", [b"", b"1,2,3"])
@pytest.mark.parametrize("length", [1000, 100_000_000])
def test_list_without_a_token_is_refused_before_its_body_is_received(sent, length):
    client = ask(Client("POST", "/celery_ids_tasks/", {}, [sent] if sent else [], length))
    assert client.status == 401
    assert json.loads(client.body)["type"].endswith("not-signed-in")
    assert spooled() == []


def test_list_with_a_read_token_is_refused_before_its_body_is_received(make_token):
    assert ask(list_of(make_token("read"), [b"1,"], 100_000_000)).status == 403


@pytest.mark.parametrize(
    ("more", "length", "status"),
    [
        ({"Content-Type": "image/png"}, 100_000, 415),
        ({}, used.INTAKE_MAX_BODY_BYTES + 1, 413),
        ({"Transfer-Encoding": "chunked"}, None, 411),
    ],
)
def test_body_that_cannot_be_accepted_is_refused_before_it_is_received(make_token, more, length, status):
    client = list_of(make_token(), [], length, **more)
    client.length = length
    ask(client)
    assert client.status == status
    assert spooled() == []


@pytest.mark.parametrize("path", ["/sign-in/", "/dashboard/", "/dashboard/upload/", "/admin/", "/nothing/"])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_unauthenticated_client_writes_nothing_to_disk(path, kind):
    start = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + b"a" * 60_000
    client = ask(Client("POST", path, {"Content-Type": kind}, [start], 300_000_000))
    assert client.status in (401, 403, 404, 405, 413)
    assert spooled() == []


def test_unauthenticated_form_is_limited_to_a_few_kilobytes(client):
    page = client.get("/sign-in/")
    cookie = f"{used.CSRF_COOKIE_NAME}={page.cookies[used.CSRF_COOKIE_NAME].value}"
    kind = "application/x-www-form-urlencoded"
    sender = Client("POST", "/sign-in/", {"Cookie": cookie, "Content-Type": kind}, [], pages.FORM_BYTES + 1)
    assert ask(sender).status == 413
    assert "larger than" in sender.body.decode()
    assert sender.answer["content-type"].startswith("text/html")


def test_slow_form_times_out(client):
    page = client.get("/sign-in/")
    cookie = f"{used.CSRF_COOKIE_NAME}={page.cookies[used.CSRF_COOKIE_NAME].value}"
    kind = "application/x-www-form-urlencoded"
    assert (
        ask(Client("POST", "/sign-in/", {"Cookie": cookie, "Content-Type": kind}, [b"a"], 100)).status == 408
    )


@pytest.mark.parametrize("length", [100, 1_000_000])
def test_slow_list_times_out(make_token, length):
    client = ask(list_of(make_token(), [b"1,2"], length))
    assert client.status == 408
    assert json.loads(client.body)["type"].endswith("body-too-slow")
    assert spooled() == []


def test_client_that_hangs_up_gets_no_response(make_token):
    client = list_of(make_token(), [b"1,2"], 1_000_000)
    client.hangs_up = True
    assert ask(client).status == 0
    assert not models.Task.objects.exists()


def test_list_that_does_not_fit_on_the_disk_is_refused_when_it_arrives(make_token, monkeypatch):
    monkeypatch.setattr(bodies, "RESERVED_BYTES", 2**60)
    client = ask(list_of(make_token(), [b"1,2"], 1_000_000))
    assert client.status == 507
    assert json.loads(client.body)["type"].endswith("disk-full")


def test_client_past_its_rate_is_told_when_to_retry(make_token, settings):
    settings.REQUESTS_PER_SECOND = 2
    headers = {"Authorization": f"Bearer {make_token('read')}"}
    clients = [Client(path="/queues/", headers=headers) for _ in range(8)]
    other = Client(path="/queues/", headers={"Authorization": f"Bearer {make_token('read', name='other')}"})
    ask(*clients, other)
    assert [client.status for client in clients[:6]] == [200] * 6
    assert clients[-1].status == 429
    assert int(clients[-1].answer["Retry-After".lower()]) >= 1
    assert clients[-1].answer["ratelimit"].startswith('"client";r=0;t=')
    assert "q=2;w=1" in clients[-1].answer["ratelimit-policy"]
    assert other.status == 200


def test_probes_are_never_refused(settings):
    settings.REQUESTS_PER_SECOND = 1
    clients = [Client(path="/healthz/live") for _ in range(20)]
    ask(*clients)
    assert {client.status for client in clients} == {200}


def test_header_with_an_underscore_differs_from_one_with_a_dash():
    scope = Client(headers={"X_Forwarded_For": "6.6.6.6", "X-Forwarded-Proto": "http"}).scope()
    scope["headers"].append((b"x-forwarded-for", b"9.9.9.9"))
    scope["headers"].append((b"x-forwarded-for", b"8.8.8.8"))
    result = pages.environ(scope)
    assert result["HTTP_X_FORWARDED_FOR"] == "9.9.9.9,8.8.8.8"
    assert not any("6.6.6.6" in str(value) for value in result.values())


def test_long_response_is_streamed_completely(make_token):
    token = make_token()
    ids = ",".join(map(str, range(1, 5001))).encode()
    sent = list_of(token, [ids])
    ask(sent)
    task = json.loads(sent.body)["task_id"]
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/x-ndjson"}
    reader = ask(Client(path=f"/celery_ids_tasks/{task}/ids/", headers=headers))
    assert reader.is_whole
    lines = reader.body.splitlines()
    assert [json.loads(line)["user_id"] for line in lines] == list(range(1, 5001))
    assert len(reader.body) > 3 * pages.PIECE_BYTES


def test_client_that_hangs_up_ends_the_response(make_token):
    token = make_token()
    sent = list_of(token, [",".join(map(str, range(1, 20_001))).encode()])
    ask(sent)
    task = json.loads(sent.body)["task_id"]
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/x-ndjson"}
    reader = Client(path=f"/celery_ids_tasks/{task}/ids/", headers=headers, hangs_up=True)
    ask(reader)
    assert reader.status == 200
    assert not reader.is_whole


def test_slow_list_without_a_token_occupies_no_thread(monkeypatch):
    def respond(*_: object) -> None:
        raise AssertionError("Django was asked")

    monkeypatch.setattr(pages, "respond", respond)
    client = ask(Client("POST", "/celery_ids_tasks/", {}, [b"1,2"], 1000))
    assert client.status == 401
    assert client.answer["www-authenticate"] == 'Bearer realm="Quarterdeck"'
    assert json.loads(client.body)["type"].endswith("not-signed-in")


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"Authorization": "Bearer qd_wrong"}, 401)])
def test_body_that_is_not_wanted_is_not_asked_for(headers, status):
    client = Client("POST", "/celery_ids_tasks/", headers | {"Expect": "100-continue"}, [b"1,2,3"], 5)
    received_before_the_answer = []
    send = client.send

    async def record_then_send(message: dict) -> None:
        received_before_the_answer.append(client.received)
        await send(message)

    client.send = record_then_send
    assert ask(client).status == status
    assert received_before_the_answer[0] == 0


def test_body_that_is_wanted_is_asked_for(make_token):
    assert ask(list_of(make_token(), [b"1,2,3"], Expect="100-continue")).status == 201


def test_strangers_share_threads_of_their_own(make_token):
    token = make_token("read")
    made_up = [{"Authorization": f"Bearer qd_{number}"} for number in range(3)]
    lanes = []

    async def scenario() -> None:
        for headers in ({"Authorization": f"Bearer {token}"}, *made_up, {}):
            client = Client(path="/queues/", headers=headers)
            await application(client.scope(), client.receive, client.send)
            assert client.status == (200 if token in str(headers) else 401)
        server = _servers[asyncio.get_running_loop()]
        assert len(server.known_clients.clients) == 1
        address = next(iter(server.known_clients.clients))
        lanes.append(server.lane("GET", "/queues", is_known=address in server.known_clients) is server.reads)
        lanes.append(server.lane("GET", "/queues", is_known=False) is server.strangers)
        threads = server.strangers.threads + server.reads.threads + server.writes.threads
        assert threads == used.WEB_THREADS

    asyncio.run(scenario())
    assert lanes == [True, True]


def test_client_whose_token_is_revoked_is_a_stranger_again(make_token):
    token = make_token("read")
    headers = {"Authorization": f"Bearer {token}"}

    async def scenario() -> None:
        for status in (200, 401):
            client = Client(path="/queues/", headers=headers)
            await application(client.scope(), client.receive, client.send)
            assert client.status == status
            assert len(_servers[asyncio.get_running_loop()].known_clients.clients) == (status == 200)
            await sync_to_async(Token.objects.update)(revoked_at=timezone.now())

    asyncio.run(scenario())


def test_address_that_was_refused_often_waits_for_further_refusals(monkeypatch):
    monkeypatch.setattr("runner.web.application.REFUSALS_AT_ONCE", 3)
    monkeypatch.setattr("runner.web.application.REFUSALS_A_SECOND", 0.01)
    refused = [Client("POST", "/celery_ids_tasks/", {}, [b"1,2"], 1000) for _ in range(6)]
    pages_of_others = [Client(), Client(path="/healthz/live")]
    order = []

    async def call(client: Client) -> None:
        await application(client.scope(), client.receive, client.send)
        order.append("refused" if client in refused else "page")

    async def scenario() -> None:
        calls = [asyncio.ensure_future(call(client)) for client in refused]
        async with asyncio.timeout(MOST_SECONDS):
            while len(order) < 3:
                await asyncio.sleep(0.01)
        for client in pages_of_others:
            await call(client)
        await asyncio.gather(*calls)

    asyncio.run(scenario())
    assert order == ["refused"] * 3 + ["page"] * 2 + ["refused"] * 3
    assert {client.status for client in refused} == {401}
    assert {client.status for client in pages_of_others} == {200}


def test_short_forms_are_received_without_asking_where_many_are_slow(monkeypatch):
    monkeypatch.setattr("runner.web.application.QUESTIONS_WAITING", 0)
    kind = "application/x-www-form-urlencoded"
    slow = Client("POST", "/sign-in/", {"Content-Type": kind}, [b"a"], 100)
    assert ask(slow).status == 408
    whole = Client("POST", "/sign-in/", {"Content-Type": kind}, [b"a=1"], 3)
    assert ask(whole).status == 403


def test_limits_for_an_address_apply_to_a_whole_ipv6_network(settings):
    settings.REQUESTS_PER_SECOND = 1
    statuses = []

    async def scenario() -> None:
        for number in range(30):
            client = Client(path="/nothing/")
            scope = client.scope() | {"client": (f"2001:db8:1:2:{number:x}::1", 4711)}
            await application(scope, client.receive, client.send)
            statuses.append(client.status)

    asyncio.run(scenario())
    assert 429 in statuses


def test_test_requests_waiting_for_a_slot_delay_no_page(make_token, monkeypatch):
    # The one that waits goes on in its thread when its client is gone.
    monkeypatch.setattr("scheduling.dispatch.test_request.WAIT_SECONDS", 2.0)
    # No slot is free within a minute, since each call takes one of one.
    models.Queue.objects.update(rpm=1)
    headers = {"Authorization": f"Bearer {make_token()}"}
    tests = [Client("POST", "/queues/default/test/", headers, length=0) for _ in range(20)]
    page = Client()

    async def at_once() -> None:
        waiting = [
            asyncio.ensure_future(application(exchange.scope(), exchange.receive, exchange.send))
            for exchange in tests
        ]
        async with asyncio.timeout(MOST_SECONDS):
            while sum(client.status == 503 for client in tests) < 10:
                await asyncio.sleep(0.01)
        await asyncio.wait_for(application(page.scope(), page.receive, page.send), 60)
        for call in waiting:
            call.cancel()

    asyncio.run(at_once())
    assert page.status == 200
    refused = next(client for client in tests if client.status == 503)
    assert refused.answer["retry-after"] == "1"


def signed_in(operator, client) -> dict[str, str]:
    """The headers of a form that a page has given to a signed-in operator."""
    client.force_login(operator)
    secret = client.get("/dashboard/account/").cookies[used.CSRF_COOKIE_NAME].value
    session = client.cookies[used.SESSION_COOKIE_NAME].value
    return {
        "Cookie": f"{used.SESSION_COOKIE_NAME}={session}; {used.CSRF_COOKIE_NAME}={secret}",
        "Host": "localhost",
    }


LARGE = {
    "urlencoded": ("application/x-www-form-urlencoded", 2_700_000),
    "multipart": ("multipart/form-data; boundary=x", 2_700_000),
    "enormous": ("multipart/form-data; boundary=x", 10**15),
}


@pytest.mark.parametrize("kind", LARGE)
def test_form_that_is_too_large_is_refused_on_a_page_that_says_so(make_operator, client, kind):
    content_type, length = LARGE[kind]
    headers = {"Content-Type": content_type} | signed_in(make_operator("operator"), client)
    sender = Client("POST", "/dashboard/queues/default/pause/", headers, [b"a=" + b"b" * 100], length)
    assert ask(sender).status == 413
    text = " ".join(sender.body.decode().split())
    assert "The form is larger than this page accepts (2.6 MB), so it was not read" in text
    assert "default-src" in sender.answer["content-security-policy"]


def test_form_with_too_many_fields_is_refused_on_a_page_that_says_so(make_operator, client):
    headers = signed_in(make_operator("operator"), client)
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    form = b"&".join(b"a%d=b" % n for n in range(1_100))
    sender = Client("POST", "/dashboard/queues/default/pause/", headers, [form], len(form))
    assert ask(sender).status == 413
    assert "accepts (1,000 fields)" in " ".join(sender.body.decode().split())
