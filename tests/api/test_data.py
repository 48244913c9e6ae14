"""Columns that travel with IDs: stored beside the list, sent with each request, shown to those who may see them."""

import csv
import gzip
import io
import json
from datetime import timedelta

import pytest

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.core.retry import Verdict
from scheduling.dispatch import minute_worker
from scheduling.handlers.base import Outcome
from scheduling.handlers.webhook import Webhook
from scheduling.intake import acceptance
from scheduling.lists import record_lists
from scheduling.models import Status
from tests.api.conftest import ApiClient
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime

pytestmark = pytest.mark.django_db

CSV = 'id,first name,voucher,city\n7,Ann,A-1,Köln\n8,Bo,,Bonn\n9,"C, y","A\n3",\n'
HEADERS = {"Authorization": "Bearer of-the-vendor", "X-Ref": "{{data.city|'none'}}"}


@pytest.fixture
def webhook(queue) -> models.Queue:
    models.Queue.objects.filter(pk=queue.pk).update(
        handler="webhook",
        webhook_url="https://example.com/users/{{id}}?c={{data.city|'-'}}",
        webhook_headers=HEADERS,
        webhook_body='{"to": {"id": "{{id}}"}, "hello": "Dear {{data.first name}}"}',
        webhook_sign=False,
    )
    queue.refresh_from_db()
    return queue


def submit(api: ApiClient, body=CSV, *, query: str = "&data=*", type: str = "text/csv", **headers):
    return api.list(body, query=f"?task_name=x{query}", type=type, **headers)


def data_of(api: ApiClient, task_id: int) -> dict:
    rows = api.get(f"/celery_ids_tasks/{task_id}/ids/?data=true").json()
    return {row["user_id"]: row["data"] for row in rows}


def send(task: models.Task, minute_at=None) -> list:
    """Let a minute worker serve the task's first minute; return the requests that it made."""
    minute = minute_at or task.first_minute_at
    handler = SimulatedHandler()
    time = SimulatedTime(minute - timedelta(seconds=clock.SEAL_SECONDS))
    time.tick_to_the_end(time.worker(minute, make_handler=lambda queue: handler))
    return handler.requests


@pytest.fixture(autouse=True)
def no_short_waits(monkeypatch):
    monkeypatch.setattr(minute_worker.store, "keep_waits_short", lambda: None)


def test_columns_travel_with_each_id(api, write_lists):
    answer = submit(api)
    assert answer.status_code == 201, answer.content
    task_id = answer.json()["task_id"]
    assert answer.json()["task"]["payload"] is None
    assert answer.json()["task"]["data_columns"] == ["first name", "voucher", "city"]
    expected = {
        7: {"first name": "Ann", "voucher": "A-1", "city": "Köln"},
        8: {"first name": "Bo", "voucher": "", "city": "Bonn"},
        9: {"first name": "C, y", "voucher": "A\n3", "city": ""},
    }
    assert data_of(api, task_id) == expected
    assert models.DataChunk.objects.exists()
    write_lists()
    assert data_of(api, task_id) == expected
    assert not models.DataChunk.objects.exists()
    assert models.IdData.objects.count() == 3


def test_list_without_data_keeps_ids_only_and_names_the_columns(api, write_lists):
    answer = submit(api, query="")
    assert answer.status_code == 201
    warning = next(item for item in answer.json()["warnings"] if item["kind"] == "columns_left_out")
    assert "first name, voucher, city" in warning["message"]
    assert answer.json()["task"]["data_columns"] is None
    write_lists()
    assert not models.IdData.objects.exists()
    assert data_of(api, answer.json()["task_id"]) == {7: None, 8: None, 9: None}


@pytest.mark.parametrize("requested", ["city,voucher", '["city", "voucher"]'])
def test_data_columns_can_be_selected(api, requested):
    answer = submit(api, query=f"&data={requested}")
    assert data_of(api, answer.json()["task_id"])[7] == {"city": "Köln", "voucher": "A-1"}


def test_objects_keep_the_types_of_their_values(api, write_lists):
    payload = [
        {
            "id": 7,
            "name": "Ann",
            "n": 1,
            "tags": ["a", None],
            "deep": {"x": True},
            "big": 12345678901234567890123,
        },
        {"id": "8", "name": None, "n": 1.5},
    ]
    answer = api.send(
        "POST",
        "/celery_ids_tasks/",
        {"task_name": "x", "payload": payload, "data": ["name", "n", "deep", "tags", "big"]},
    )
    assert answer.status_code == 201, answer.content
    write_lists()
    assert data_of(api, answer.json()["task_id"]) == {
        7: {name: value for name, value in payload[0].items() if name != "id"},
        8: {"name": None, "n": 1.5},
    }


def test_data_come_by_form_and_ndjson(api):
    body = "7\n" + '{"user_id": 8, "a": "x"}\n'
    answer = submit(api, body, type="application/x-ndjson")
    assert data_of(api, answer.json()["task_id"]) == {7: {}, 8: {"a": "x"}}
    form = (
        '--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        f"{CSV}\r\n"
        '--x\r\nContent-Disposition: form-data; name="data"\r\n\r\ncity\r\n--x--\r\n'
    )
    answer = submit(api, form, query="", type="multipart/form-data; boundary=x")
    assert data_of(api, answer.json()["task_id"])[8] == {"city": "Bonn"}


def test_data_too_large_is_a_fault_of_its_line(api, settings):
    settings.DATA_MAX_BYTES = 40
    answer = submit(api, "id,name\n7,Ann\n8," + "x" * 40 + "\n")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["line"] == 3
    assert not models.IdList.objects.exists()
    skipped = submit(api, "id,name\n7,Ann\n8," + "x" * 40 + "\n", query="&data=*&on_error=skip")
    assert data_of(api, skipped.json()["task_id"]) == {7: {"name": "Ann"}}


def test_repeats_with_other_data_are_counted(api):
    answer = submit(api, "id,name\n7,Ann\n7,Ann\n7,Bo\n")
    warnings = {warning["kind"]: warning["count"] for warning in answer.json()["warnings"]}
    assert warnings["repeats_differ"] == 1
    assert answer.json()["repeats"] == 2
    assert data_of(api, answer.json()["task_id"]) == {7: {"name": "Ann"}}


@pytest.mark.parametrize(
    ("body", "query", "word"),
    [
        ("id,name,name\n7,a,b\n", "&data=name", "name"),
        ("id,name\n7,a\n", "&data=nam", "nam"),
        ("7\n8\n", "&data=*", "header"),
        ("id," + ",".join(f"c{n}" for n in range(101)) + "\n7\n", "&data=*", "100"),
    ],
)
def test_ambiguous_data_columns_are_refused(api, body, query, word):
    answer = submit(api, body, query=query)
    assert answer.status_code == 422, answer.content
    assert word in answer.json()["detail"]
    assert not models.IdList.objects.exists()


def test_requests_carry_the_data(api, webhook, write_lists):
    task_id = submit(api).json()["task_id"]
    write_lists()
    requests = send(models.Task.objects.get(pk=task_id))
    assert {request.user_id: request.data["city"] for request in requests} == {7: "Köln", 8: "Bonn", 9: ""}
    made = {request.user_id: Webhook.of(webhook).message_of(request) for request in requests}
    assert made[9].body == b'{"to":{"id":9},"hello":"Dear C, y"}'
    assert made[7].target == "/users/7?c=K%C3%B6ln"
    assert made[9].target == "/users/9?c=-"
    assert (made[8].headers["X-Ref"], made[9].headers["X-Ref"]) == ("Bonn", "none")


def test_standard_body_has_the_data_as_an_object(api, webhook, write_lists):
    fields = {"webhook_body": None, "webhook_headers": {}, "webhook_url": "https://example.com/"}
    models.Queue.objects.filter(pk=webhook.pk).update(**fields)
    webhook.refresh_from_db()
    answer = submit(api, '{"id": 7, "n": 123456789012345678901234}\n', type="application/x-ndjson")
    write_lists()
    [request] = send(models.Task.objects.get(pk=answer.json()["task_id"]))
    body = Webhook.of(webhook).message_of(request).body
    assert b'"data":{"n":123456789012345678901234}' in body


def test_list_that_lacks_a_needed_column_is_refused_as_a_whole(api, webhook):
    for query in ("&data=*", "&data=*&dry_run=true"):
        answer = submit(api, "id,city\n7,Bonn\n", query=query)
        assert answer.status_code == 422
        assert "first name" in answer.json()["detail"]
        assert answer.json()["errors"][0]["name"] == "first name"
    assert submit(api, query="").status_code == 422
    assert api.list([1, 2]).status_code == 422
    assert not models.IdList.objects.exists()
    assert not models.Task.objects.exists()


def test_id_whose_value_is_missing_fails_with_the_reason_and_is_not_sent(api, webhook, write_lists):
    answer = submit(api, '{"id": 7, "first name": null}\n', type="application/x-ndjson")
    write_lists()
    [request] = send(models.Task.objects.get(pk=answer.json()["task_id"]))
    assert request.data == {"first name": None}


def test_dry_run_shows_the_first_three_requests(api, webhook):
    answer = submit(api, CSV + "10,D,,\n", query="&data=*&dry_run=true")
    assert answer.status_code == 200, answer.content
    requests = answer.json()["requests"]
    assert [request["url"] for request in requests] == [
        "https://example.com/users/7?c=K%C3%B6ln",
        "https://example.com/users/8?c=Bonn",
        "https://example.com/users/9?c=-",
    ]
    assert json.loads(requests[0]["body"]) == {"to": {"id": 7}, "hello": "Dear Ann"}
    assert requests[0]["method"] == "POST"
    assert "of-the-vendor" not in answer.content.decode()
    assert not models.IdList.objects.exists()


def test_dry_run_says_why_a_request_can_not_be_made(api, webhook):
    answer = submit(
        api, '{"id": 7, "first name": null}\n', query="&data=*&dry_run=true", type="application/x-ndjson"
    )
    assert "first name is missing" in answer.json()["requests"][0]["error"]


def test_dry_run_of_a_queue_that_records_shows_no_requests(api):
    assert submit(api, query="&data=*&dry_run=true").json()["requests"] == []


def test_same_key_with_other_data_is_another_request(api):
    first = submit(api, Idempotency_Key="k")
    assert first.status_code == 201
    again = submit(api, gzip.compress(CSV.encode()), Idempotency_Key="k", Content_Encoding="gzip")
    assert again.json() == first.json()
    assert submit(api, CSV.replace("Bonn", "Berlin"), Idempotency_Key="k").status_code == 422
    assert submit(api, query="&data=city", Idempotency_Key="k").status_code == 422
    assert submit(api, query="", Idempotency_Key="k").status_code == 422


def test_get_sent_back_changes_nothing_and_drops_no_data(api, write_lists):
    task_id = submit(api).json()["task_id"]
    write_lists()
    before = data_of(api, task_id)
    result = api.get(f"/celery_ids_tasks/{task_id}/").json()
    answer = api.send("PUT", f"/celery_ids_tasks/{task_id}/", result)
    assert answer.status_code == 200, answer.content
    assert data_of(api, task_id) == before


def replace(api: ApiClient, task_id: int, body: str, query: str = "?data=*"):
    return api.send("PUT", f"/celery_ids_tasks/{task_id}/{query}", body, type="text/csv")


def test_new_payload_gives_waiting_ids_their_new_data(api, write_lists):
    task_id = submit(api).json()["task_id"]
    write_lists()
    places = {row["user_id"]: row["minute"] for row in api.get(f"/celery_ids_tasks/{task_id}/ids/").json()}
    models.Assignment.objects.filter(task=task_id, user_id=7).update(status=Status.IN_FLIGHT)
    models.Task.objects.filter(pk=task_id).update(waiting_count=2, in_flight_count=1)
    answer = replace(api, task_id, "id,city\n7,Mainz\n9,Trier\n10,Aachen\n")
    assert answer.status_code == 200, answer.content
    assert answer.json()["kept"] == 2
    write_lists()
    assert data_of(api, task_id) == {
        7: {"first name": "Ann", "voucher": "A-1", "city": "Köln"},
        9: {"city": "Trier"},
        10: {"city": "Aachen"},
        8: {"first name": "Bo", "voucher": "", "city": "Bonn"},
    }
    assert answer.json()["task"]["data_columns"] == ["city", "first name", "voucher"]
    after = {row["user_id"]: row["minute"] for row in api.get(f"/celery_ids_tasks/{task_id}/ids/").json()}
    assert (after[7], after[9]) == (places[7], places[9])
    assert not models.DataChunk.objects.exists()


def test_id_that_comes_back_takes_the_new_data(api, write_lists):
    task_id = submit(api).json()["task_id"]
    write_lists()
    assert replace(api, task_id, "id,city\n7,Mainz\n").status_code == 200
    write_lists()
    assert replace(api, task_id, "id,city\n9,Ulm\n7,Mainz\n").status_code == 200
    before_written = data_of(api, task_id)
    write_lists()
    assert data_of(api, task_id)[9] == {"city": "Ulm"} == before_written[9]


def test_new_payload_that_lacks_a_needed_column_is_refused(api, webhook, write_lists):
    task_id = submit(api).json()["task_id"]
    write_lists()
    assert replace(api, task_id, "id,city\n7,Mainz\n").status_code == 422
    assert replace(api, task_id, "id\n7\n", "").status_code == 422
    assert data_of(api, task_id)[7]["city"] == "Köln"


@pytest.mark.parametrize(
    ("visible_to", "scopes"),
    [("viewer", {"read", "write"}), ("operator", {"write"}), ("admin", set())],
)
def test_values_are_visible_by_the_setting(api, reader, settings, visible_to, scopes):
    settings.DATA_VISIBLE_TO = visible_to
    task_id = submit(api).json()["task_id"]
    for scope, client in {"read": reader, "write": api}.items():
        assert client.get(f"/celery_ids_tasks/{task_id}/").json()["data_columns"][0] == "first name"
        answer = client.get(f"/celery_ids_tasks/{task_id}/ids/?data=true")
        assert answer.status_code == (200 if scope in scopes else 403)


def test_csv_has_a_column_for_each_and_runs_no_formula(api, write_lists):
    body = 'id,=name,n\n7,"=1+1",5\n'
    task_id = submit(api, body).json()["task_id"]
    write_lists()
    answer = api.get(
        f"/celery_ids_tasks/{task_id}/ids/?data=true&results=true", headers={"Accept": "text/csv"}
    )
    head, row = csv.reader(io.StringIO(answer.getvalue().decode()))
    assert head[-2:] == ["data.=name", "data.n"]
    assert row[-2:] == ["'=1+1", "5"]
    answer = api.get(
        f"/celery_ids_tasks/{task_id}/ids/?data=true", headers={"Accept": "application/x-ndjson"}
    )
    assert json.loads(answer.getvalue())["data"] == {"=name": "=1+1", "n": "5"}


def test_long_list_with_data_is_stored_and_written_in_parts(api, write_lists, monkeypatch):
    monkeypatch.setattr(record_lists, "DATA_CHUNK_IDS", 7)
    monkeypatch.setattr(record_lists, "SEGMENT_IDS", 20)
    monkeypatch.setattr(acceptance, "SHORT_WITH_DATA", 5)
    ids = [n * 7919 % 1000 + 1 for n in range(100)]
    answer = submit(api, "id,x\n" + "".join(f"{n},of {n}\n" for n in ids))
    task_id = answer.json()["task_id"]
    assert models.Segment.objects.count() == 5
    assert data_of(api, task_id) == {n: {"x": f"of {n}"} for n in ids}
    write_lists()
    assert data_of(api, task_id) == {n: {"x": f"of {n}"} for n in ids}
    assert not models.DataChunk.objects.exists()


def test_list_without_data_takes_no_more_statements(api, webhook, write_lists, django_assert_num_queries):
    models.Queue.objects.filter(pk=webhook.pk).update(
        webhook_body=None, webhook_headers={}, webhook_url="https://e.com"
    )
    task_id = api.list([1, 2, 3]).json()["task_id"]
    write_lists()
    [claimed] = {
        keys.bucket_of_assignment(pk) for pk in models.Assignment.objects.values_list("pk", flat=True)
    }
    requests = send(models.Task.objects.get(pk=task_id))
    assert [request.data for request in requests] == [None, None, None]
    assert claimed
    assert not models.IdData.objects.exists()


def test_name_of_a_column_is_kept_whole(api, write_lists):
    long, combined = "a name of more than forty characters, which is a lot", "Stra\u0308sse"
    body = json.dumps({"id": 7, long: "x", combined: "y", "\0": 1})
    task_id = submit(api, body, type="application/x-ndjson").json()["task_id"]
    write_lists()
    assert api.get(f"/celery_ids_tasks/{task_id}/").json()["data_columns"] == [
        long,
        "Str\u00e4sse",
        "<U+0000>",
    ]
    answer = api.get(f"/celery_ids_tasks/{task_id}/ids/?data=true", headers={"Accept": "text/csv"})
    assert answer.getvalue().decode().splitlines()[1].endswith(",x,y,")


def test_lone_surrogate_in_data_is_a_fault(api):
    answer = submit(api, '{"id": 7, "x": "\\ud800"}\n', type="application/x-ndjson")
    assert answer.status_code == 422, answer.content
    body = '{"task_name": "x", "data": "*", "payload": [{"id": 7, "x": "\\ud800"}]}'
    assert api.send("POST", "/celery_ids_tasks/", body).status_code == 422
    assert store.now()


@pytest.mark.parametrize(
    ("body", "target", "hello"),
    [
        ({"id": 7}, "/users/7?c=K%C3%B6ln", "Dear Ann"),
        ({"id": 7, "data": {"first name": "Zoë"}}, "/users/7?c=-", "Dear Zoë"),
        ({"id": "sku/1", "data": {"first name": "T"}}, "/users/sku%2F1?c=-", "Dear T"),
    ],
)
def test_test_request_takes_an_id_or_typed_data(api, webhook, write_lists, monkeypatch, body, target, hello):
    submit(api)
    write_lists()
    made = []

    async def send(self, message):
        made.append(message)
        return Outcome(Verdict.SUCCEEDED, status=200)

    monkeypatch.setattr(Webhook, "_send", send)
    answer = api.send("POST", "/queues/default/test/", body)
    assert answer.status_code == 200, answer.content
    assert answer.json()["sent"]["url"] == f"https://example.com{target}"
    assert json.loads(made[0].body)["hello"] == hello
    assert answer.json()["request"]["external_id"] == ("sku/1" if body["id"] == "sku/1" else None)


def test_test_request_of_what_is_no_id_is_refused(api, webhook):
    for body in ({"id": ""}, {"id": 0}, {"id": 7, "data": "x"}, {"ID": 7}):
        assert api.send("POST", "/queues/default/test/", body).status_code == 422, body


def test_test_request_takes_text_that_looks_like_a_number(api, write_lists):
    lists = [(["007", "1e5", "+4917", "8"], "text"), ([8], "integer")]
    for payload, id_type in lists:
        body = {"task_name": "a", "payload": payload, "id_type": id_type}
        assert api.send("POST", "/celery_ids_tasks/", body).status_code == 201
    write_lists()
    external_ids = [
        api.send("POST", "/queues/default/test/", body).json()["request"]["external_id"]
        for body in (
            *({"id": text} for text in ("007", "1e5", "+4917", "7", "8")),
            {"id": "8", "id_type": "text"},
            {"id": "7", "id_type": "text"},
            {"id": 7},
            {"id": "007", "id_type": "integer"},
        )
    ]
    assert external_ids == ["007", "1e5", "+4917", None, None, "8", "7", None, None]
    assert api.send("POST", "/queues/default/test/", {"id": "+4918"}).status_code == 422
    assert api.send("POST", "/queues/default/test/", {"id": "+4918", "id_type": "text"}).status_code == 200


@pytest.mark.parametrize(
    ("id", "reason"),
    [(-1, "It must be at least 1."), (None, "It must be a whole number."), ("", "It is empty.")],
)
def test_test_request_gives_one_reason_for_an_id(api, webhook, id, reason):
    answer = api.send("POST", "/queues/default/test/", {"id": id}).json()
    assert answer["errors"] == [{"field": "id", "reason": reason}]
