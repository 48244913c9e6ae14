"""What clients expect of any HTTP API: links, conditional requests, compression, request IDs, CORS, replays."""

import gzip
import json

import pytest

from scheduling import models

pytestmark = pytest.mark.django_db

ORIGIN = "https://app.example.com"


def test_options_needs_no_credentials_and_names_the_methods(anonymous):
    for path, allowed in (
        ("/celery_ids_tasks/", "GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("/users/5/", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/queues/default/pause", "OPTIONS, POST"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
    ):
        response = anonymous.generic("OPTIONS", path)
        assert (response.status_code, response["Allow"]) == (204, allowed), path
        assert not response.content


@pytest.mark.parametrize("path", ["/users/", "/users/5/", "/queues/", "/queues/default/", "/openapi.json"])
def test_if_none_match_is_304_for_resources_without_progress(api, path):
    api.send("POST", "/users/", {"id": 5, "name": "Ann"})
    first = api.get(path)
    assert first.status_code == 200
    etag = first["ETag"]
    for header in (etag, f"W/{etag}", f'{etag[:-1]}-gzip"', f'"other", {etag}', "*"):
        again = api.get(path, headers={"If-None-Match": header})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", etag)
    assert api.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    api.send("PATCH", "/users/5/", {"name": "Bo"})
    api.send("PATCH", "/queues/default/", {"rpm": 77})
    changed = api.get(path, headers={"If-None-Match": etag}).status_code
    assert changed == (304 if path == "/openapi.json" else 200)


def test_if_none_match_is_never_304_for_a_task(api):
    number = api.list([1]).json()["task_id"]
    path = f"/celery_ids_tasks/{number}/"
    assert api.get(path, headers={"If-None-Match": api.get(path)["ETag"]}).status_code == 200


@pytest.mark.parametrize(
    ("accept", "is_compressed"),
    [("gzip", True), ("gzip, deflate, br", True), ("identity", False), ("gzip;q=0", False), (None, False)],
)
def test_responses_are_compressed_for_clients_that_accept_gzip(api, accept, is_compressed):
    ids = f"/celery_ids_tasks/{api.list(list(range(1, 500))).json()['task_id']}/ids/"
    headers = {} if accept is None else {"Accept-Encoding": accept}
    for path in (ids, "/openapi.json"):
        response = api.get(path, headers=headers)
        assert (response.get("Content-Encoding") == "gzip") == is_compressed
        content = gzip.decompress(response.content) if is_compressed else response.content
        assert json.loads(content)
    stream = api.get(ids, headers=headers | {"Accept": "text/csv"})
    content = gzip.decompress(stream.getvalue()) if is_compressed else stream.getvalue()
    assert content.count(b"\n") == 500


def test_pages_are_not_compressed(client):
    assert "Content-Encoding" not in client.get("/sign-in/", headers={"Accept-Encoding": "gzip"})


def test_request_id_is_echoed_or_assigned(api, anonymous):
    assert api.get("/windows/", headers={"X-Request-ID": "mine-1"})["X-Request-ID"] == "mine-1"
    assigned = {anonymous.get("/windows/")["X-Request-ID"] for _ in range(3)}
    assert len(assigned) == 3
    for invalid in ("a b", "x" * 129, "\u00e9"):
        assert api.get("/windows/", headers={"X-Request-ID": invalid})["X-Request-ID"] != invalid


def test_internal_error_has_the_request_id(api, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError

    monkeypatch.setattr("scheduling.intake.acceptance.submit", broken)
    response = api.list([1], X_Request_ID="mine-2")
    assert (response.status_code, response.json()["id"]) == (500, "mine-2")


def test_cors_is_off_by_default(anonymous):
    response = anonymous.get("/openapi.json", headers={"Origin": ORIGIN})
    assert not [name for name in response.headers if name.startswith("Access-Control")]


def test_cors_allows_the_origins_of_the_setting(api, anonymous, settings):
    settings.CORS_ALLOWED_ORIGINS = frozenset({ORIGIN})
    preflight = anonymous.generic(
        "OPTIONS", "/users/", headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 204
    assert preflight["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in preflight["Access-Control-Allow-Methods"]
    assert "Authorization" in preflight["Access-Control-Allow-Headers"]
    response = api.get("/users/", headers={"Origin": ORIGIN})
    assert response["Access-Control-Allow-Origin"] == ORIGIN
    assert "Link" in response["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in response
    assert "Origin" in response["Vary"]
    other = api.get("/users/", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in other


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json;charset=utf-8", "application/json"),
        ("application/json; charset=UTF-8", "application/json"),
        ("text/html, application/json;q=0.9", "application/json"),
        ("text/csv; header=present", "text/csv"),
        ("application/x-ndjson;q=0.9, text/csv;q=0.8", "application/x-ndjson"),
        ("application/json;q=0.1, text/*", "text/csv"),
        ("*/*", "application/json"),
        ("application/json;q=0, */*;q=0.1", "application/x-ndjson"),
        ("application/xml", None),
        ("application/json;q=0", None),
    ],
)
def test_accept_is_read_with_its_parameters(api, accept, kind):
    number = api.list([1]).json()["task_id"]
    response = api.get(f"/celery_ids_tasks/{number}/ids/", headers={"Accept": accept})
    assert response.status_code == (200 if kind else 406)
    if kind:
        assert response["Content-Type"] == kind


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("/users/", {"name": "Ann"}, {"name": "Bo"}),
        ("/queues/", {"name": "mail", "rpm": 7}, {"name": "mail", "rpm": 8}),
        ("/celery_ids_tasks/", {"task_name": "x", "payload": [1]}, {"task_name": "x", "payload": [2]}),
    ],
)
def test_idempotency_key_marks_a_replay_on_every_post_that_creates(api, path, body, other):
    first = api.send("POST", path, body, Idempotency_Key="k")
    again = api.send("POST", path.rstrip("/"), body, Idempotency_Key="k")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert first.get("ETag") == again.get("ETag")
    refused = api.send("POST", path, other, Idempotency_Key="k")
    assert refused.status_code == 422
    assert refused.json()["type"].endswith(":key-reused")


def test_idempotency_key_of_one_endpoint_is_refused_by_another(api):
    assert api.send("POST", "/users/", {"name": "mail"}, Idempotency_Key="k").status_code == 201
    assert api.send("POST", "/queues/", {"name": "mail"}, Idempotency_Key="k").status_code == 422
    assert not models.Queue.objects.filter(name="mail").exists()


def test_idempotency_key_of_a_refused_user_is_free(api):
    assert api.send("POST", "/users/", {"id": 5, "name": "Ann"}).status_code == 201
    assert api.send("POST", "/users/", {"id": 5, "name": "Bo"}, Idempotency_Key="k").status_code == 409
    assert api.send("POST", "/users/", {"id": 6, "name": "Bo"}, Idempotency_Key="k").status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "body", "name", "nearest"),
    [
        ("POST", "/users/", {"name": "x", "nmae": 1}, "nmae", "name"),
        ("PATCH", "/users/5/", {"nam": "x"}, "nam", "name"),
        ("PUT", "/users/5/", {"name": "x", "ID": 5}, "ID", None),
        ("POST", "/queues/", {"name": "q", "rpmm": 5}, "rpmm", "rpm"),
        ("PATCH", "/queues/default/", {"webhook_header": {}}, "webhook_header", "webhook_headers"),
        ("POST", "/queues/default/brake/", {"per_minute": 1, "per_min": 5}, "per_min", "per_minute"),
        ("PATCH", "/celery_ids_tasks/{task}/", {"taskname": "new"}, "taskname", "task_name"),
        ("PATCH", "/celery_ids_tasks/", {"id": "{task}", "task_nam": "new"}, "task_nam", "task_name"),
    ],
)
def test_unknown_fields_are_refused_with_the_nearest_name_or_ignored(api, method, path, body, name, nearest):
    number = api.list([1]).json()["task_id"]
    path, body = path.format(task=number), {**body, **({"id": number} if body.get("id") == "{task}" else {})}
    api.send("POST", "/users/", {"id": 5, "name": "Ann"})
    refused = api.send(method, path, body)
    assert refused.status_code == 422, refused.content
    (place,) = refused.json()["errors"]
    assert place["field"] == name
    if nearest:
        assert place["reason"].endswith(f"Did you mean {nearest}?")
    ignored = api.send(method, f"{path}?unknown_fields=ignore", body)
    assert ignored.status_code in (200, 201), ignored.content
    assert name in ignored["Warning"]


def test_text_that_is_not_valid_unicode_is_refused(api):
    response = api.send("POST", "/users/", '{"name": "\\ud800"}')
    assert response.status_code == 422, response.content
