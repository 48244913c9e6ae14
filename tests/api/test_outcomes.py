"""GET /outcomes/: what an integration reads instead of asking for every ID."""

import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import parse_qs, urlsplit

import pytest

from scheduling import models, store
from scheduling.models import Status
from tests.patience import wait_until
from tests.scheduling.placed import make_queue, place

from ..scheduling.store.test_claims import BEFORE, MINUTE
from .conftest import ApiClient, serving

pytestmark = pytest.mark.django_db


@pytest.fixture
def mail(queue) -> models.Task:
    return place(make_queue("mail", rpm=60), {MINUTE: [7, 8]}, at=BEFORE)


def end(task: models.Task, *users: int, status: Status = Status.SUCCEEDED) -> None:
    rows = models.Assignment.objects.filter(task=task, user_id__in=users)
    with store.write():
        store.set_outcomes([(row.pk, status, row.attempts + 1, 5) for row in rows], was=Status.WAITING)


def next_path(response) -> str:
    address = urlsplit(response.headers["Link"].partition(">")[0].lstrip("<"))
    return f"{address.path}?{address.query}"


@pytest.mark.django_db(transaction=True)
def test_outcomes_come_with_what_is_known_of_them(reader, mail):
    models.Attempt.objects.create(
        task_id=mail.pk, user_id=8, number=1, bucket_id=1, started_at=MINUTE,
        http_status=422, error="answered 422", answer="no such address",
    )  # fmt: skip
    end(mail, 7)
    end(mail, 8, status=Status.FAILED)
    response = reader.get("/outcomes/?limit=10")
    first, second = response.json()
    assert first == {
        "cursor": first["cursor"],
        "at": first["at"],
        "task_id": mail.pk,
        "queue": "mail",
        "user_id": 7,
        "user_id_str": "7",
        "external_id": None,
        "status": "succeeded",
        "attempts": 1,
        "http_status": None,
        "error": "",
        "answer": "",
    }
    assert first["at"].endswith("Z")
    assert first["at"] < second["at"]
    shown = [second[name] for name in ("user_id", "status", "http_status", "error", "answer")]
    assert shown == [8, "failed", 422, "answered 422", "no such address"]
    assert parse_qs(urlsplit(next_path(response)).query) == {"limit": ["10"], "after": [second["cursor"]]}
    assert reader.get(f"/outcomes/?after={first['cursor']}").json() == [second]
    assert reader.get(next_path(response)).json() == []


@pytest.mark.django_db(transaction=True)
def test_link_to_the_next_page_is_always_there(reader, mail):
    path, rows = "/outcomes/?limit=1", []
    for user in (None, 8, 7, None):
        if user is not None:
            end(mail, user)
        response = reader.get(path)
        rows, path = rows + response.json(), next_path(response)
    assert [row["user_id"] for row in rows] == [8, 7]


@pytest.mark.django_db(transaction=True)
def test_filters_of_queue_and_task(reader, mail):
    other = place(models.Queue.objects.get(name="mail"), {MINUTE: [7]}, at=BEFORE)
    sms = place(make_queue("sms", rpm=60), {MINUTE: [7]}, at=BEFORE)
    for task in (mail, other, sms):
        end(task, 7)

    def tasks(query: str) -> list[int]:
        return [row["task_id"] for row in reader.get(f"/outcomes/?{query}").json()]

    assert tasks("queue=mail") == [mail.pk, other.pk]
    assert tasks(f"task={other.pk}") == [other.pk]
    assert tasks(f"task={sms.pk}&queue=mail") == []


@pytest.mark.django_db(transaction=True)
def test_text_ids_are_shown_as_their_owner_wrote_them(reader, api, write_lists):
    number = api.list(["a@b.example"], query="?task_name=x&id_type=text").json()["task_id"]
    write_lists()
    api.delete(f"/celery_ids_tasks/{number}/")
    task = models.Task.objects.get(pk=number)
    with store.write():
        store.cancel_rows(task.pk, list(models.Assignment.objects.values_list("user_id", flat=True)))
    (row,) = reader.get("/outcomes/").json()
    assert (row["user_id"], row["user_id_str"], row["external_id"]) == (None, "a@b.example", "a@b.example")
    assert row["status"] == "cancelled"


def test_cursors_of_others_are_refused(reader, mail):
    assert (
        reader.get("/outcomes/?after=abc").json()["detail"] == "after: This is not a cursor of this service."
    )
    part = models.Installation.current().key_part
    assert reader.get(f"/outcomes/?after={part}-9999999999999999999-1").status_code == 400
    cursor = f"{part}-5-0"
    assert reader.get(f"/outcomes/?after={cursor}").json() == []
    models.Installation.draw_again()
    response = reader.get(f"/outcomes/?after={cursor}")
    assert response.status_code == 400
    assert "before a backup was restored" in response.json()["detail"]


@pytest.mark.parametrize(
    "query", ["queue=nosuch", "task=999", "wait=51", "wait=-1", "limit=0", "after=", "status=failed"]
)
def test_wrong_parameters_are_refused(reader, queue, query):
    assert reader.get(f"/outcomes/?{query}").status_code == 400


def test_submit_only_token_reads_no_outcomes(queue, make_token):
    assert ApiClient(make_token("submit")).get("/outcomes/").status_code == 403


# --- Waiting, by the real server ---


def test_waiting_request_is_answered_as_soon_as_something_arrives(server, mail):
    with ThreadPoolExecutor() as pool:
        began = time.monotonic()
        request = pool.submit(server.request, "GET", f"/outcomes/?wait=50&task={mail.pk}")
        time.sleep(1)
        assert not request.done()
        end(mail, 7)
        response = request.result(180)
    assert [row["user_id"] for row in response.json()] == [7]
    assert time.monotonic() - began < 50, "it waited to the end"
    path = next_path(response)
    # What is there already is not waited for; what isn't, no longer than asked.
    end(mail, 8)
    assert [row["user_id"] for row in server.request("GET", path).json()] == [8]
    started = time.monotonic()
    silent = server.request("GET", "/outcomes/?wait=1&queue=default")
    assert (silent.json(), "after=" in silent.headers["Link"]) == ([], True)
    assert time.monotonic() - started >= 1


def test_outcomes_of_others_do_not_end_the_wait(server, mail):
    sms = place(make_queue("sms", rpm=60), {MINUTE: [7]}, at=BEFORE)
    same_queue = place(models.Queue.objects.get(name="mail"), {MINUTE: [9]}, at=BEFORE)
    with ThreadPoolExecutor() as pool:
        request = pool.submit(server.request, "GET", f"/outcomes/?wait=30&task={mail.pk}")
        time.sleep(0.5)
        end(sms, 7)
        end(same_queue, 9)
        time.sleep(1.5)
        assert not request.done()
        end(mail, 8)
        assert [row["user_id"] for row in request.result(180).json()] == [8]


def ask(server, token: str) -> socket.socket:
    head = f"GET /outcomes/?wait=50 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
    return server.raw(head.encode())


def readable(connections: list[socket.socket]) -> list[socket.socket]:
    """Those that have been answered."""
    return select.select(connections, [], [], 0)[0]


def ask_once_more(server, token: str):
    return server.request("GET", "/outcomes/?wait=1", headers={"Authorization": f"Bearer {token}"})


def test_two_hundred_waiting_requests_keep_no_thread(server, mail, make_token):
    tokens = [make_token("read", name=f"reader {number}") for number in range(5)]
    with ExitStack() as stack:
        waiting = [stack.enter_context(ask(server, tokens[number % 5])) for number in range(200)]
        for _ in range(10):
            assert server.request("GET", "/queues/").status_code == 200
        # All of them wait still: whoever was answered didn't wait for a thread.
        assert readable(waiting) == []
        assert max(process.num_threads() for process in server.processes) < 100
        end(mail, 7)
        for connection in waiting:
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_client_may_have_fifty_requests_that_wait(server, mail, make_token):
    token = make_token("read", name="waits")
    with ExitStack() as stack:
        waiting = [stack.enter_context(ask(server, token)) for _ in range(60)]
        wait_until(lambda: len(readable(waiting)) >= 10, "ten are refused")
        refused = readable(waiting)
        assert {connection.recv(65_536)[:12] for connection in refused} == {b"HTTP/1.1 429"}
        assert server.request("GET", "/outcomes/?wait=1").status_code == 200
        end(mail, 7)
        others = [connection for connection in waiting if connection not in refused]
        assert {connection.recv(65_536)[:12] for connection in others} == {b"HTTP/1.1 200"}


def test_clients_that_close_while_they_wait_are_forgotten(server, mail, make_token):
    token = make_token("read", name="leaves")
    for _ in range(3):
        connections = [ask(server, token) for _ in range(30)]
        time.sleep(1)
        for connection in connections:
            connection.close()
        time.sleep(0.5)
    # 90 in all: more than may wait.
    wait_until(lambda: ask_once_more(server, token).status_code == 200, "they are forgotten")


def test_server_that_stops_answers_who_waits(transactional_db, mail, make_token):
    with serving() as running:
        token = make_token("read")
        began = time.monotonic()
        waiting = ask(running, token)
        # What the server was asked later has been answered: so that one is waiting by now.
        for _ in range(3):
            assert ask_once_more(running, token).status_code == 200
        running.process.terminate()
        answer = waiting.recv(65_536)
        assert time.monotonic() - began < 50, "it waited to the end"
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'rel="next"' in answer
        running.process.wait(120)
