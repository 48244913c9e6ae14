"""IDs that are text: kept as their owner wrote them, and shown so everywhere."""

import csv
import io
import json
from datetime import timedelta
from urllib.parse import quote

import pytest
from django.conf import settings

from scheduling import models, store
from scheduling.handlers.base import message_key
from scheduling.handlers.webhook import Webhook
from scheduling.intake import acceptance
from scheduling.lists import external_ids, record_lists
from scheduling.parsing.record_spool import Records, RecordSpool
from settings.logs import mask_ids
from tests.api.conftest import ApiClient
from tests.api.test_data import data_of, send

pytestmark = pytest.mark.django_db

IDS = ["ann@example.com", "a/b c", "0042", "7", "Zoë", "x\\y"]


def submit(api: ApiClient, ids=IDS, *, query: str = "", **headers):
    return api.list("\n".join(ids), query=f"?task_name=x&id_type=text{query}", type="text/plain", **headers)


def shown(api: ApiClient, task_id: int) -> list[str]:
    rows = api.get(f"/celery_ids_tasks/{task_id}/ids/").json()
    assert all(row["user_id"] is None and row["user_id_str"] == row["external_id"] for row in rows)
    return [row["external_id"] for row in rows]


def nothing_is_left() -> bool:
    tables = (models.Task, models.IdList, models.Chunk, models.User, models.ExternalId, models.DataChunk)
    return not any(table.objects.exists() for table in tables)


def test_text_ids_are_shown_as_their_owner_wrote_them(api, write_lists):
    answer = submit(api)
    assert answer.status_code == 201, answer.content
    assert answer.json()["first_ids"] == IDS[:3]
    assert answer.json()["task"]["id_type"] == "text"
    assert answer.json()["task"]["payload"] is None
    task_id = answer.json()["task_id"]
    assert shown(api, task_id) == IDS
    assert not models.User.objects.exists()
    write_lists()
    assert shown(api, task_id) == IDS
    assert list(models.User.objects.order_by("-pk").values_list("pk", flat=True)) == [-1, -2, -3, -4, -5, -6]
    answer = api.get(f"/celery_ids_tasks/{task_id}/ids/", headers={"Accept": "text/csv"})
    head, first, *_ = csv.reader(io.StringIO(answer.getvalue().decode()))
    assert dict(zip(head, first, strict=True))["external_id"] == IDS[0]


@pytest.mark.parametrize("text", IDS)
def test_history_of_a_text_id_shows_the_text(api, write_lists, text):
    task_id = submit(api).json()["task_id"]
    write_lists()
    query = "?id_type=text" if text.isdigit() else ""
    [story] = api.get(f"/ids/{quote(text, safe='')}/{query}").json()
    assert (story["task_id"], story["user_id"], story["user_id_str"]) == (task_id, None, text)


def test_number_and_text_that_look_the_same_are_different_users(api, write_lists):
    number = api.list([7]).json()["task_id"]
    text = submit(api, ["7"]).json()
    assert next(item for item in text["warnings"] if item["kind"] == "only_numbers")["count"] == 1
    write_lists()
    for query, task_id in (("", number), ("?id_type=integer", number), ("?id_type=text", text["task_id"])):
        assert [item["task_id"] for item in api.get(f"/ids/7/{query}").json()] == [task_id]
    assert models.User.objects.count() == 2


def test_ids_are_compared_in_their_normal_form(api, write_lists):
    answer = submit(api, ["Zoe\u0308", " Zoë ", "zoë"])
    assert answer.json()["repeats"] == 1
    assert shown(api, answer.json()["task_id"]) == ["Zoë", "zoë"]
    write_lists()
    assert len(api.get("/ids/Zoe%CC%88/").json()) == 1
    assert api.get("/users/?external_id=Zoe%CC%88").json()[0]["external_id"] == "Zoë"


def test_second_list_finds_the_users_of_the_first(api, write_lists):
    submit(api)
    write_lists()
    submit(api, [*reversed(IDS), "new"])
    write_lists()
    assert models.User.objects.count() == models.ExternalId.objects.count() == 7
    assert external_ids.number_of("new") == -7


@pytest.mark.parametrize("query", ["&dry_run=true", "&expect=3", "&queue=none"])
def test_refused_list_leaves_nothing_behind(api, query):
    assert submit(api, query=query).status_code in (200, 422)
    assert nothing_is_left()


def test_refused_draft_leaves_nothing_behind(api, queue, monkeypatch):
    monkeypatch.setattr(acceptance, "SHORT_WITH_DATA", 2)
    models.Queue.objects.filter(pk=queue.pk).update(max_peak=1, rpm=1)
    assert submit(api, [f"u{n}" for n in range(40)]).status_code == 409
    assert nothing_is_left()


def test_draft_that_shares_ids_with_another_takes_no_number_back(queue):
    def draft(ids):
        source = record_lists.SpooledRecords(spool(ids), id_type="text", data_columns=())
        return acceptance.write_draft(source, at=store.now())

    first, second = draft(["a", "b"]), draft(["b", "c"])
    acceptance.delete_draft(first)
    assert set(external_ids.texts([-1, -2, -3]).values()) == {"a", "b", "c"}
    acceptance.delete_draft(second)
    assert not models.IdList.objects.filter(pk=second.pk).exists()
    acceptance.sweep_drafts(at=store.now() + timedelta(hours=2))
    assert nothing_is_left()
    draft(["d"])
    assert external_ids.number_of("d") == -4


def spool(ids):
    result = RecordSpool(settings.SPOOL_DIR, has_data=False)
    result.extend(Records(list(ids), None))
    result.finish()
    return result


def test_requests_carry_the_text(api, queue, write_lists):
    fields = {"handler": "webhook", "webhook_url": "https://e.com/u/{{id}}", "webhook_sign": False}
    models.Queue.objects.filter(pk=queue.pk).update(**fields)
    queue.refresh_from_db()
    task_id = submit(api, ["a/b c"]).json()["task_id"]
    write_lists()
    [request] = send(models.Task.objects.get(pk=task_id))
    message = Webhook.of(queue).message_of(request)
    assert message.target == "/u/a%2Fb%20c"
    body = json.loads(message.body)
    assert (body["user_id"], body["user_id_str"], body["external_id"]) == (None, "a/b c", "a/b c")
    assert message_key("k", 7, -5) == "msg_k_7_x5"


def test_dry_run_shows_text_and_data(api, queue):
    fields = {"handler": "webhook", "webhook_url": "https://e.com/u/{{id}}?n={{data.n}}"}
    models.Queue.objects.filter(pk=queue.pk).update(**fields)
    body = "sku,n\nA-1,5\nB-2,6\n"
    answer = api.list(body, query="?task_name=x&id_type=text&column=sku&data=n&dry_run=true", type="text/csv")
    assert answer.status_code == 200, answer.content
    assert [request["url"] for request in answer.json()["requests"]] == [
        "https://e.com/u/A-1?n=5",
        "https://e.com/u/B-2?n=6",
    ]
    assert nothing_is_left()


def test_first_line_of_a_text_table_is_a_header_unless_said_otherwise(api):
    body = "sku\nA-1\nB-2\n"
    kept_rows = api.list(body, query="?task_name=x&id_type=text", type="text/csv").json()
    assert shown(api, kept_rows["task_id"]) == ["A-1", "B-2"]
    whole = api.list(body, query="?task_name=x&id_type=text&header=false", type="text/csv").json()
    assert shown(api, whole["task_id"]) == ["sku", "A-1", "B-2"]


def test_objects_with_text_ids_and_data(api, write_lists):
    payload = [{"id": "u-1", "n": 1}, {"id": 42, "n": 2}]
    body = {"task_name": "x", "payload": payload, "data": "*", "id_type": "text"}
    answer = api.send("POST", "/celery_ids_tasks/", body)
    assert answer.status_code == 201, answer.content
    write_lists()
    rows = api.get(f"/celery_ids_tasks/{answer.json()['task_id']}/ids/?data=true").json()
    assert {row["external_id"]: row["data"]["n"] for row in rows} == {"u-1": 1, "42": 2}
    assert data_of(api, answer.json()["task_id"]) == {None: {"n": 2}}


@pytest.mark.parametrize("by_body", [False, True])
def test_new_payload_keeps_the_type_of_the_list(api, write_lists, by_body):
    task_id = submit(api, ["a", "b", "c"]).json()["task_id"]
    write_lists()
    path = "/celery_ids_tasks/" + ("" if by_body else f"{task_id}/")
    body = {"payload": ["c", "d", "a"]} | ({"id": task_id} if by_body else {})
    answer = api.send("PUT", path, body)
    assert answer.status_code == 200, answer.content
    assert {name: answer.json()[name] for name in ("kept", "added", "cancelled")} == {
        "kept": 2,
        "added": 1,
        "cancelled": 1,
    }
    write_lists()
    assert shown(api, task_id) == ["c", "d", "a", "b"]
    assert models.IdList.objects.count() == 3
    other = api.send("PUT", f"/celery_ids_tasks/{task_id}/?id_type=integer", {"payload": [1]})
    assert other.status_code == 422


def test_refused_edit_takes_the_new_numbers_back(api, write_lists):
    task_id = submit(api, ["a"]).json()["task_id"]
    write_lists()
    answer = api.send("PUT", f"/celery_ids_tasks/{task_id}/?expect=9", {"payload": ["a", "b"]})
    assert answer.status_code == 422
    models.Task.objects.filter(pk=task_id).update(placed_at=None)
    assert api.send("PUT", f"/celery_ids_tasks/{task_id}/", {"payload": ["a", "b"]}).status_code == 409
    models.Task.objects.filter(pk=task_id).update(placed_at=models.Task.objects.get().created_at)
    acceptance.sweep_drafts(at=store.now() + timedelta(hours=2))
    assert list(models.ExternalId.objects.values_list("external_id", flat=True)) == ["a"]


def test_users_are_found_by_external_id(api, write_lists):
    made = api.send("POST", "/users/", {"external_id": " ann@x ", "name": "Ann"})
    assert made.status_code == 201, made.content
    assert made.json()["external_id"] == "ann@x"
    assert made.json()["id"] == -1
    assert api.get("/users/-1/").json() == made.json()
    assert api.send("POST", "/users/", {"external_id": "ann@x"}).status_code == 409
    assert api.send("POST", "/users/", {"external_id": "b", "id": 5}).status_code == 422
    assert api.get("/users/?external_id=ann%40x").json() == [made.json()]
    assert api.get("/users/?external_id=none").json() == []
    assert (
        api.send("PATCH", "/users/-1/", {"name": "Bo", "external_id": "other"}).json()["external_id"]
        == "ann@x"
    )
    task_id = submit(api, ["ann@x"]).json()["task_id"]
    write_lists()
    assert shown(api, task_id) == ["ann@x"]
    assert models.User.objects.get().name == "Bo"
    assert api.send("POST", "/users/", {}).json()["id"] == 1
    assert [item["external_id"] for item in api.get("/users/").json()] == [None, "ann@x"]


def test_long_list_of_text_is_stored_in_parts(api, write_lists, monkeypatch):
    monkeypatch.setattr(record_lists, "DATA_CHUNK_IDS", 7)
    monkeypatch.setattr(acceptance, "SHORT_WITH_DATA", 5)
    ids = [f"u{n * 7919 % 1000}" for n in range(100)]
    task_id = submit(api, ids).json()["task_id"]
    write_lists()
    assert shown(api, task_id) == ids


@pytest.mark.parametrize("text", ["x" * 101, "a\x07b"])
def test_invalid_text_id_is_a_fault(api, text):
    answer = submit(api, ["a", text])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["line"] == 2
    assert nothing_is_left()


def test_logs_contain_no_external_id():
    lines = {
        "GET /ids/ann%40x/eta/?id_type=text": "GET /ids/***?id_type=text",
        "Not Found: /ids/ann@x": "Not Found: /ids/***",
        "GET /users/?name=a&external_id=ann%40x&limit=1": "GET /users/?name=a&external_id=***&limit=1",
        "GET /dashboard/ids/?q=ann": "GET /dashboard/ids/?q=***",
        "GET /celery_ids_tasks/7/ids/?data=true": "GET /celery_ids_tasks/7/ids/?data=true",
    }
    for line, masked in lines.items():
        assert mask_ids(None, "info", {"request": line, "code": 200}) == {"request": masked, "code": 200}


def test_users_are_filtered_by_the_numbers_that_address_them(api, write_lists):
    submit(api)
    write_lists()
    [second] = [item for item in api.get("/users/").json() if item["external_id"] == IDS[1]]
    body = api.get(f"/users/?id={second['id']},7").json()
    assert [(item["id"], item["external_id"]) for item in body] == [(-2, IDS[1])]
    assert api.get("/users/?id=-0").status_code == 400


def test_new_list_of_another_type_is_refused_by_its_type(api, write_lists):
    body = {"task_name": "x", "payload": ["a", "b"], "id_type": "text"}
    number = api.send("POST", "/celery_ids_tasks/", body).json()["task_id"]
    other = api.list([1, 2]).json()["task_id"]
    write_lists()
    address = f"/celery_ids_tasks/{number}/"
    for payload in ({"payload": [7], "id_type": "integer"}, {"id_type": "integer", "payload": [7]}):
        refused = api.send("PATCH", address, payload)
        assert refused.status_code == 422
        assert refused.json()["detail"] == "id_type: The IDs of this task are of the type text."
    # An id in the body is read-only where the address names the task, and says nothing of the type.
    assert api.send("PATCH", address, {"payload": ["a", "7"], "id": other}).status_code == 200
    write_lists()
    assert external_ids.number_of("7") is not None
    by_body = api.send("PATCH", "/celery_ids_tasks/", {"payload": ["a", "8"], "id": number})
    assert by_body.status_code == 200, by_body.content
