"""POST /celery_ids_tasks/: what is accepted, what is refused, and the response."""

import errno
import gzip
import json
from datetime import datetime, timedelta

import pytest
from django.db import InterfaceError, OperationalError

from scheduling import models, store
from tests.scheduling.parsing.bodies import MULTIPART, form
from tests.scheduling.parsing.sheets import number, sheet_xml, text, workbook

from .conftest import ids_of

pytestmark = pytest.mark.django_db


def nothing_is_left() -> bool:
    tables = (models.Task, models.IdList, models.Chunk, models.User, models.Window, models.IdempotentAnswer)
    return not any(table.objects.exists() for table in tables)


def test_submission_returns_its_plan(api):
    answer = api.send("POST", "/celery_ids_tasks/", {"task_name": "November", "payload": "1001,1002 1003"})
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert body["task"]["task_name"] == "November"
    assert body["task"]["state"] == "placing"
    assert body["task"]["payload"] == "1001,1002 1003"
    assert body["task"]["counts"]["ids"] == body["task"]["counts"]["waiting"] == 3
    assert body["plan"]["windows"][0]["added"] == [3] + [0] * 14
    assert body["plan"]["rpm"] == 120
    assert body["plan"]["peak_per_minute"] == 3
    assert body["plan"]["first_at"].endswith(":00Z")
    assert answer["Location"] == f"{body['task_id']}/"


def test_plan_equals_the_places_before_and_after_writing(api, write_lists):
    task = api.list(list(range(1, 2501))).json()
    before = api.get(f"/celery_ids_tasks/{task['task_id']}/ids/?limit=1000").json()
    write_lists()
    after = api.get(f"/celery_ids_tasks/{task['task_id']}/ids/?limit=1000").json()
    assert before == after
    assert [place["user_id"] for place in after] == list(range(1, 1001))
    counts = [0] * 15
    for start in range(0, 3):
        assert after[start]["window"] == task["plan"]["windows"][0]["starts_at"]
    answer = api.get(f"/celery_ids_tasks/{task['task_id']}/ids/", headers={"Accept": "application/x-ndjson"})
    for line in answer.getvalue().splitlines():
        counts[json.loads(line)["bucket"]] += 1
    assert counts == task["plan"]["windows"][0]["added"]


@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("text/plain", "7,8;9"),
        ("text/csv", "user_id,name\n7,Ann\n8,Bo\n9,Cy\n"),
        ("application/x-ndjson", '7\n"8"\n{"user_id": 9}\n'),
        ("application/x-www-form-urlencoded", "payload=7%2C8%2C9"),
        ("application/json", '{"payload": [7, "8", 9]}'),
        (
            "multipart/form-data; boundary=x",
            '--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
            "id\n7\n8\n9\n\r\n--x--\r\n",
        ),
    ],
)
def test_list_is_read_the_same_from_every_type(api, write_lists, type, body):
    answer = api.list(body, type=type)
    assert answer.status_code == 201, answer.content
    assert ids_of(api, answer.json()["task_id"]) == [7, 8, 9]
    zipped = api.list(gzip.compress(body.encode()), type=type, Content_Encoding="gzip")
    assert zipped.status_code == 201
    assert zipped.json()["same_as"] == answer.json()["task_id"]


def test_invalid_token_refuses_the_list_with_its_place(api):
    answer = api.list("70001\n7000x\n70003\n", type="text/plain")
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["fault_count"] == 1
    assert {"line": 2, "column": 1, "token": "7000x"}.items() <= problem["errors"][0].items()
    assert nothing_is_left()


def test_on_error_skip_places_the_rest_and_reports_faults(api):
    answer = api.list("1 two 3 drei", query="?task_name=x&on_error=skip", type="text/plain")
    assert answer.status_code == 201
    body = answer.json()
    assert ids_of(api, body["task_id"]) == [1, 3]
    assert body["fault_count"] == 2
    assert [fault["token"] for fault in body["faults"]] == ["two", "drei"]


def test_dry_run_returns_the_plan_and_stores_nothing(api):
    answer = api.list([1, 2, 2], query="?task_name=x&dry_run=true")
    assert answer.status_code == 200
    body = answer.json()
    assert body["task_id"] is None
    assert body["repeats"] == 1
    assert body["plan"]["windows"][0]["added"][0] == 2
    assert nothing_is_left()
    real = api.list([1, 2, 2]).json()
    assert real["plan"]["windows"][0]["added"] == body["plan"]["windows"][0]["added"]


def test_expect_refuses_another_number(api):
    assert api.list([1, 2, 3], query="?task_name=x&expect=4").status_code == 422
    assert nothing_is_left()
    assert api.list([1, 2, 3], query="?task_name=x&expect=3").status_code == 201


def test_max_peak_refuses_a_list_unless_allowed(api, queue):
    models.Queue.objects.filter(pk=queue.pk).update(max_peak=1)
    answer = api.list(list(range(1, 31)))
    assert answer.status_code == 409
    problem = answer.json()
    assert problem["type"].endswith(":past-peak")
    assert problem["plan"]["peak_per_minute"] == 30
    assert nothing_is_left()
    assert api.list(list(range(1, 31)), query="?task_name=x&allow_peak=true").status_code == 201


def test_idempotency_key_returns_the_same_response_whatever_the_bytes(api):
    first = api.list("7,8,9", type="text/plain", Idempotency_Key="a")
    again = api.list(
        gzip.compress(b"7 8 9\n"), type="text/plain", Idempotency_Key="a", Content_Encoding="gzip"
    )
    as_json = api.list([7, 8, 9], Idempotency_Key="a")
    assert [first.status_code, again.status_code, as_json.status_code] == [201, 201, 201]
    assert first.json() == again.json() == as_json.json()
    assert models.Task.objects.count() == 1


def test_idempotency_key_with_other_content_is_422(api):
    assert api.list([1, 2], Idempotency_Key="a").status_code == 201
    for other in (
        api.list([1, 3], Idempotency_Key="a"),
        api.list([1, 2], query="?task_name=y", Idempotency_Key="a"),
    ):
        assert other.status_code == 422
        assert other.json()["type"].endswith(":key-reused")
    assert models.Task.objects.count() == 1


def test_idempotency_keys_are_separate_for_each_caller(api, make_token):
    first = api.list([1, 2], Idempotency_Key="a").json()
    api.token = make_token("write", name="another")
    assert api.list([1, 2], Idempotency_Key="a").json()["task_id"] != first["task_id"]


def test_idempotency_key_forgets_refused_requests(api):
    assert api.list("x", type="text/plain", Idempotency_Key="a").status_code == 422
    assert api.list("1", type="text/plain", Idempotency_Key="a").status_code == 201


def test_response_names_the_column_and_both_ends_of_the_list(api):
    body = api.list(
        '\ufeffsep=;\r\nBenutzer-Nr.;Vorname\r\n70001;Zoë\r\n70002;"Müller; Jan"\r\n',
        query="?task_name=x&column=Benutzer-Nr.",
        type="text/csv",
    ).json()
    assert body["column"] == "Benutzer-Nr."
    assert body["column_number"] == 1
    assert body["first_ids"] == body["last_ids"] == ["70001", "70002"]


def test_response_names_the_sheet_and_sheets_that_could_be_meant_are_asked_about(api):
    cover = sheet_xml({1: {"A": text("Report year"), "B": number(2026)}})
    data = sheet_xml({1: {"A": text("user_id")}, 2: {"A": number(1001)}})

    def send(sheets, query=""):
        body = form(("file", workbook(sheets), "list.xlsx"))
        return api.list(body, query=f"?task_name=x{query}", type=MULTIPART)

    assert send({"Data": data}).json()["sheet"] == "Data"
    response = send({"Cover": cover, "Data": data})
    assert response.status_code == 422
    place = response.json()["errors"][0]
    assert place["parameter"] == "sheet"
    assert [(choice["name"], choice["values"]) for choice in place["choices"]] == [
        ("Cover", ["Report year", "2026"]),
        ("Data", ["user_id", "1001"]),
    ]
    answer_body = send({"Cover": cover, "Data": data}, "&sheet=Data").json()
    assert (answer_body["sheet"], answer_body["first_ids"]) == ("Data", ["1001"])
    assert send({"Data": data}, "&sheet=Nosuch").status_code == 422


def test_bytes_that_are_not_utf8_never_end_in_an_error_of_the_server(api):
    for type in ("text/csv", "text/plain", "application/x-ndjson", "application/json"):
        for body in (
            b"Num\xe9ro;Nom\r\n1001;Ann",
            b"Num\xe9ro\r\n1001",
            b"\x89PNG\r\n\x1a\n",
            b"\x1f\x8b\x08\0",
        ):
            for query in ("", "&column=1", "&on_error=skip"):
                answer = api.list(body, query=f"?task_name=x{query}", type=type)
                assert answer.status_code in (201, 415, 422), answer.content
    answer_body = api.list(
        b"Num\xe9ro;Nom\r\n1001;Ann", query="?task_name=x&column=1", type="text/csv"
    ).json()
    assert (answer_body["column"], [warning["kind"] for warning in answer_body["warnings"]]) == (
        "Num<0xE9>ro",
        ["not_utf8", "columns_left_out"],
    )


def test_ambiguous_column_is_422_with_choices(api):
    response = api.list("name,amount\nAnn,12\nBob,13\n", type="text/csv")
    assert response.status_code == 422
    assert [choice["values"] for choice in response.json()["errors"][0]["choices"]] == [
        ["Ann", "Bob"],
        ["12", "13"],
    ]
    answer = api.list("a,b\n1,90017\n2,90018\n", type="text/csv")
    assert answer.status_code == 422
    place = answer.json()["errors"][0]
    assert place["parameter"] == "column"
    assert [choice["name"] for choice in place["choices"]] == ["a", "b"]
    assert (
        api.list("a,b\n1,90017\n2,90018\n", query="?task_name=x&column=b", type="text/csv").status_code == 201
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"payload": [1]}, 422),
        ({"task_name": "", "payload": [1]}, 422),
        ({"task_name": "n" * 201, "payload": [1]}, 422),
        ({"task_name": "a\0b", "payload": [1]}, 422),
        ({"task_name": 5, "payload": [1]}, 422),
        ({"task_name": "x"}, 422),
        ({"task_name": "x", "payload": None}, 422),
        ({"task_name": "x", "payload": {}}, 422),
        ({"task_name": "x", "payload": []}, 422),
        ({"task_name": "x", "payload": ""}, 422),
        ({"task_name": "x", "payload": [1], "queue": "nosuch"}, 422),
        ({"task_name": "x", "payload": [1], "not_before": "2031-01-01T00:00:00"}, 422),
        ({"task_name": "x", "payload": [1], "not_before": "soon"}, 422),
        ({"task_name": "x", "payload": [1], "not_before": "2100-01-01T00:00:00Z"}, 422),
        ({"task_name": "x", "payload": [1], "not_before": "9999-12-31T23:59:59Z"}, 422),
        ({"task_name": "x", "payload": [1], "not_before": "9999-12-31T23:59:59-12:00"}, 422),
        ({"task_name": "x", "payload": [1], "expires_at": "2001-01-01T00:00:00Z"}, 409),
        ([1, 2], 422),
        ("", 422),
        ('{"task_name": "x"', 422),
        ('{"task_name": "x", "payload": [1,2], "payload": [3]}', 422),
    ],
)
def test_invalid_bodies_are_problems_and_store_nothing(api, body, status):
    answer = api.send("POST", "/celery_ids_tasks/", body)
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert nothing_is_left()


def test_not_before_selects_the_first_window_after_it(api):
    body = api.send(
        "POST",
        "/celery_ids_tasks/",
        {"task_name": "x", "payload": [1], "not_before": "2031-03-05T12:07:00+01:00"},
    ).json()
    assert body["plan"]["first_at"] == "2031-03-05T11:15:00Z"
    assert body["task"]["first_at"] == "2031-03-05T11:15:00Z"


def test_full_disk_is_507_and_stores_nothing(api, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("scheduling.parsing.spool.os.pwrite", full)
    answer = api.list("\n".join(map(str, range(1, 300_000))), type="text/plain")
    assert answer.status_code == 507
    assert answer.json()["type"].endswith(":disk-full")
    assert nothing_is_left()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OperationalError("database or disk is full"), 507),
        (OperationalError("database is locked"), 503),
        (InterfaceError("connection already closed"), 503),
        (RuntimeError("anything"), 500),
    ],
)
def test_internal_errors_are_problems_with_advice(api, monkeypatch, error, status):
    def broken(*args, **options):
        raise error

    monkeypatch.setattr("scheduling.intake.acceptance.submit", broken)
    answer = api.list([1])
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    if status == 503:
        assert int(answer["Retry-After"]) > 0
    if status == 500:
        assert answer.json()["id"] in answer.json()["detail"]
    assert "anything" not in answer.content.decode()


def test_too_many_ids_or_bytes_are_413(api, settings):
    settings.INTAKE_MAX_IDS = 5
    assert api.list([1, 2, 3, 4, 5]).status_code == 201
    assert api.list([1, 2, 3, 4, 5, 6]).status_code == 413
    settings.INTAKE_MAX_BODY_BYTES = 1000
    assert api.list("1 " * 501, type="text/plain").status_code == 413
    bomb = gzip.compress(b" " * 1_000_000)
    assert len(bomb) < 1200
    assert api.list(bomb, type="text/plain", Content_Encoding="gzip").status_code == 413


ZIPPED = gzip.compress(b"1 2 3", mtime=0)


@pytest.mark.parametrize("broken", [b"not gzip", ZIPPED[:-4], ZIPPED + b"x"], ids=["none", "cut", "followed"])
def test_broken_gzip_is_refused_even_with_on_error_skip(api, broken):
    answer = api.list(broken, query="?task_name=x&on_error=skip", type="text/plain", Content_Encoding="gzip")
    assert answer.status_code == 422
    assert nothing_is_left()


@pytest.mark.parametrize("name", ["dry_run", "on_error", "allow_peak", "expect"])
def test_query_parameter_in_the_body_is_refused(api, name):
    # If it were ignored, a dry run would be a real one.
    answer = api.send("POST", "/celery_ids_tasks/", {"task_name": "x", "payload": [1], name: True})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == name
    assert nothing_is_left()


@pytest.mark.parametrize(
    ("name", "nearest"), [("not_befor", "not_before"), ("que", "queue"), ("colour", None)]
)
def test_unknown_field_is_refused_with_the_nearest_name(api, name, nearest):
    response = api.send("POST", "/celery_ids_tasks/", {"task_name": "x", "payload": [1], name: "mail"})
    assert response.status_code == 422
    (place,) = response.json()["errors"]
    assert place["field"] == name
    assert (f"Did you mean {nearest}?" in place["reason"]) == (nearest is not None)
    assert nothing_is_left()


def test_unknown_field_is_ignored_with_a_warning_if_asked(api):
    body = {"task_name": "x", "payload": [1], "colour": "red"}
    response = api.send("POST", "/celery_ids_tasks/?unknown_fields=ignore", body)
    assert response.status_code == 201
    (warning,) = response.json()["warnings"]
    assert (warning["kind"], warning["count"]) == ("unknown_fields", 1)
    assert "colour" in response["Warning"]


@pytest.mark.parametrize("name", [" ", "\u200b", "\u200b\u2060 \ufeff", "\u3164"])
def test_task_name_without_a_visible_character_is_refused(api, name):
    response = api.send("POST", "/celery_ids_tasks/", {"task_name": name, "payload": [1]})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "task_name"


def test_column_name_of_any_length_is_stored(api):
    header = "n\u00e4" * 300
    response = api.list(f"{header}\n7\n8\n", type="text/csv")
    assert response.status_code == 201, response.content
    assert header.startswith(response.json()["column"][:150])
    assert models.Task.objects.get().column == header[:200]


def test_start_next_window_is_the_default(api):
    default, chosen = api.list([1]), api.list([1], query="?task_name=x&start=next_window")
    assert (default.status_code, chosen.status_code) == (201, 201)
    body = {"task_name": "x", "payload": [1]}
    assert api.send("POST", "/celery_ids_tasks/?start=now", body).status_code == 400
    assert api.send("POST", "/celery_ids_tasks/", body | {"start": "now"}).status_code == 422


@pytest.mark.parametrize("in_body", [True, False])
def test_start_first_free_takes_the_next_free_minute(api, in_body):
    body = {"task_name": "x", "payload": [1, 2]} | ({"start": "first_free"} if in_body else {})
    query = "?dry_run=true" if in_body else "?dry_run=true&start=first_free"
    response = api.send("POST", f"/celery_ids_tasks/{query}", body)
    assert response.status_code == 200, response.content
    first = datetime.fromisoformat(response.json()["plan"]["first_at"])
    assert first - store.now() <= timedelta(minutes=2)


def test_query_and_body_must_agree(api):
    body = {"task_name": "x", "payload": [1]}
    assert api.send("POST", "/celery_ids_tasks/?task_name=x", body).status_code == 201
    answer = api.send("POST", "/celery_ids_tasks/?task_name=y", body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "task_name"
