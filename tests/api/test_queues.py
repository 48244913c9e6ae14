"""Queues."""

import json
from datetime import datetime, timedelta

import pytest

from scheduling import models, store
from scheduling.dispatch import test_request

from .test_reading import walk

pytestmark = pytest.mark.django_db
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_queue_created_by_name_has_the_documented_defaults(api):
    answer = api.send("POST", "/queues/", {"name": "mail"})
    assert answer.status_code == 201, answer.content
    assert answer["Location"] == "mail/"
    queue = answer.json()
    expected = {
        "name": "mail",
        "overflow": "disperse",
        "max_peak": None,
        "handler": "record",
        "paused": False,
        "max_attempts": 6,
        "late_policy": "place_again",
        "late_after_seconds": None,
        "headroom": 0,
        "breaker_threshold": 20,
        "webhook_method": "POST",
        "connect_timeout_seconds": 5,
        "read_timeout_seconds": 10,
    }
    assert expected.items() <= queue.items()
    assert api.get("/queues/mail/").json() == queue
    assert [each["name"] for each in walk(api, "/queues/?limit=1")] == ["mail", "default"]


def test_secret_can_be_written_but_not_read(api):
    body = {
        "name": "hook",
        "handler": "webhook",
        "webhook_url": "https://hook.example.com/in",
        "webhook_secret": SECRET,
    }
    answer = api.send("POST", "/queues/", body)
    assert answer.status_code == 201, answer.content
    assert models.Queue.objects.get(name="hook").webhook_secret == SECRET
    for path in ("/queues/", "/queues/hook/"):
        assert SECRET not in api.get(path).content.decode()
        assert "webhook_secret" not in api.get(path).content.decode()


def test_patch_accepts_the_whole_get(api):
    whole = api.get("/queues/default/").json()
    answer = api.send("PATCH", "/queues/default/", whole | {"rpm": 60})
    assert answer.status_code == 200, answer.content
    assert answer.json() == whole | {"rpm": 60}


def test_patch_keeps_absent_fields(api):
    api.send("PATCH", "/queues/default/", {"rpm": 60, "max_peak": 100})
    answer = api.send("PATCH", "/queues/default/", {"overflow": "carry_over"})
    assert {"rpm": 60, "max_peak": 100, "overflow": "carry_over"}.items() <= answer.json().items()
    assert api.send("PATCH", "/queues/default/", {"max_peak": None}).json()["max_peak"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rpm": 0}, "rpm"),
        ({"rpm": 1_000_001}, "rpm"),
        ({"rpm": True}, "rpm"),
        ({"rpm": 1.5}, "rpm"),
        ({"rpm": None}, "rpm"),
        ({"rmp": 5}, "rmp"),
        ({"overflow": "spill"}, "overflow"),
        ({"headroom": 120}, "headroom"),
        ({"handler": "webhook"}, "webhook_url"),
        ({"handler": "python", "python_callable": "os.system"}, "python_callable"),
        ({"webhook_url": "ftp://x"}, "webhook_url"),
        ({"webhook_secret": "secret"}, "webhook_secret"),
        ({"hours": {"zone": "UTC", "open": ["mon-fri 09:00-18:00"], "name": "office"}}, "hours"),
        ({"webhook_headers": {"Host": "x"}}, "webhook_headers"),
        ({"webhook_headers": ["x"]}, "webhook_headers"),
        ({"read_timeout_seconds": 21}, "read_timeout_seconds"),
        ({"read_timeout_seconds": True}, "read_timeout_seconds"),
        ({"max_attempts": 31}, "max_attempts"),
    ],
)
def test_invalid_fields_are_named_and_change_nothing(api, body, field):
    before = api.get("/queues/default/").json()
    answer = api.send("PATCH", "/queues/default/", body)
    assert answer.status_code == 422, answer.content
    assert [place["field"].split(".")[0] for place in answer.json()["errors"]] == [field]
    assert api.get("/queues/default/").json() == before


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"quotas": [{"limit": 1, "per": "day"}] * 6}, "It must have at most 5 entries."),
        ({"quotas": {"limit": 1, "per": "day"}}, "It must be a list."),
        ({"quotas": [{"limit": 10**20, "per": "day"}]}, "A quota's limit must be a whole number from 1 to"),
        ({"hours": {}}, "Hours need at least one span"),
        ({"ramp": {}}, "A ramp's start_rpm must be"),
        ({"retry_delays_minutes": []}, "It must have at least 1 entry."),
        ({"keep_answers": ""}, "It must be unexpected, all, or a pointer"),
    ],
)
def test_reasons_of_structured_fields_are_sentences(api, body, reason):
    answer = api.send("PATCH", "/queues/default/", body)
    assert answer.status_code == 422, answer.content
    assert answer.json()["errors"][0]["reason"].startswith(reason)


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "n" * 51, None, 5])
def test_queue_names_that_are_invalid_are_refused(api, name):
    answer = api.send("POST", "/queues/", {"name": name})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "name"


def test_queue_name_that_is_taken_is_409(api):
    assert api.send("POST", "/queues/", {"name": "default"}).status_code == 409


def test_if_match_with_a_stale_tag_is_412(api):
    tag = api.get("/queues/default/")["ETag"]
    assert api.send("PATCH", "/queues/default/", {"rpm": 60}, If_Match=tag).status_code == 200
    assert api.send("PATCH", "/queues/default/", {"rpm": 70}, If_Match=tag).status_code == 412
    assert api.get("/queues/default/").json()["rpm"] == 60


def test_pause_resume_and_brake(api):
    assert api.send("POST", "/queues/default/pause/").json()["paused"] is True
    assert api.send("POST", "/queues/default/pause").status_code == 409
    assert api.list([1, 2]).status_code == 201
    assert api.send("POST", "/queues/default/resume").json()["paused"] is False
    assert api.send("POST", "/queues/default/resume/").status_code == 409
    assert api.send("POST", "/queues/default/brake/", {"per_minute": 30}).json()["brake_per_minute"] == 30
    assert api.send("POST", "/queues/default/brake/", {"per_minute": None}).json()["brake_per_minute"] is None
    for body in ({}, {"per_minute": -1}, {"per_minute": "fast"}, {"per_min": 5}):
        assert api.send("POST", "/queues/default/brake/", body).status_code == 422


@pytest.mark.parametrize("path", ["", "pause/", "resume/", "brake/"])
def test_queues_that_do_not_exist_are_404(api, path):
    method = "POST" if path else "PATCH"
    assert (
        api.send(method, f"/queues/nosuch/{path}", {"per_minute": 5} if path == "brake/" else {}).status_code
        == 404
    )


def test_request_shows_its_response(api):
    answer = api.send("POST", "/queues/default/test/")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert body["verdict"] == "succeeded"
    assert body["request"]["queue"] == "default"
    assert not models.Task.objects.exists()


def test_request_to_an_internal_address_explains_the_refusal(api):
    models.Queue.objects.filter(name="default").update(handler="webhook", webhook_url="http://127.0.0.1:9/in")
    body = api.send("POST", "/queues/default/test/").json()
    assert body["http_status"] is None
    assert "not allowed" in body["error"]
    assert body["sent"]["url"] == "http://127.0.0.1:9/in"
    assert body["sent"]["headers"]["webhook-id"].startswith("msg_test_")
    assert json.loads(body["sent"]["body"])["queue"] == "default"


def test_request_is_409_at_once_while_another_one_waits(api, queue):
    with test_request._only_one(queue):
        # The other one is not waited for: it would not end.
        response = api.send("POST", "/queues/default/test/")
    assert response.status_code == 409
    assert response.json()["type"].endswith(":test-waiting")
    assert int(response["Retry-After"]) > 0
    assert api.send("POST", "/queues/default/test/").status_code == 200


def test_request_without_a_free_slot_names_the_next(api, monkeypatch):
    monkeypatch.setattr("scheduling.dispatch.test_request.WAIT_SECONDS", -1.0)
    answer = api.send("POST", "/queues/default/test/")
    assert answer.status_code == 409
    assert answer.json()["type"].endswith(":no-free-slot")
    assert answer.json()["next"].endswith(":00Z")


HEADERS = {"Authorization": "Bearer s3cr3t", "X-Env": "prod"}


def test_header_values_are_shown_to_nobody(api, reader):
    body = {"name": "hook", "webhook_headers": HEADERS}
    created = api.send("POST", "/queues/", body)
    assert created.json()["webhook_headers"] == dict.fromkeys(HEADERS)
    for client in (api, reader):
        for path in ("/queues/", "/queues/hook/"):
            assert b"s3cr3t" not in client.get(path).content
    assert models.Queue.objects.get(name="hook").webhook_headers == HEADERS


def test_header_with_null_keeps_its_value_and_one_left_out_is_removed(api):
    api.send("POST", "/queues/", {"name": "hook", "webhook_headers": HEADERS})
    whole = api.get("/queues/hook/").json()
    assert api.send("PATCH", "/queues/hook/", whole | {"rpm": 7}).status_code == 200
    queue = models.Queue.objects.get(name="hook")
    assert (queue.webhook_headers, queue.rpm) == (HEADERS, 7)
    changed = api.send("PATCH", "/queues/hook/", {"webhook_headers": {"authorization": None, "X-New": "1"}})
    assert changed.status_code == 200
    stored = models.Queue.objects.get(name="hook").webhook_headers
    assert stored == {"authorization": "Bearer s3cr3t", "X-New": "1"}


def test_stored_headers_are_not_sent_to_another_server(api):
    fields = {"handler": "webhook", "webhook_url": "https://hook.example.com/", "webhook_headers": HEADERS}
    api.send("POST", "/queues/", {"name": "hook", **fields})
    moved = api.get("/queues/hook/").json() | {"webhook_url": "https://evil.example.com/"}
    for path in ("/queues/hook/", "/queues/hook/?dry_run=true"):
        refused = api.send("PATCH", path, moved)
        assert refused.status_code == 422
        [error] = refused.json()["errors"]
        assert (error["field"], "names another server" in error["reason"]) == ("webhook_headers", True)
    assert api.send("PATCH", "/queues/hook/", moved | {"webhook_headers": HEADERS}).status_code == 200


def test_header_with_null_and_without_a_stored_value_is_refused(api):
    for method, path, body in (
        ("POST", "/queues/", {"name": "hook", "webhook_headers": {"X-A": None}}),
        ("PATCH", "/queues/default/", {"webhook_headers": {"X-A": None}}),
    ):
        response = api.send(method, path, body)
        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == "webhook_headers"


@pytest.mark.parametrize("secret", ["whsec_\u00e9" + "A" * 40, "whsec_" + "A" * 5, "\u00e9"])
def test_secret_that_is_not_base64_is_refused(api, secret):
    response = api.send("PATCH", "/queues/default/", {"webhook_secret": secret})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "webhook_secret"


def test_body_template_of_several_lines_is_stored(api):
    body = '{\n\t"to": "{{id}}",\r\n  "name": "{{data.first_name}}"\n}'
    response = api.send("PATCH", "/queues/default/", {"webhook_body": body})
    assert response.status_code == 200, response.content
    assert api.get("/queues/default/").json()["webhook_body"] == body
    assert api.send("PATCH", "/queues/default/", {"webhook_body": "a\x00b"}).status_code == 422
    assert api.send("PATCH", "/queues/default/", {"webhook_body": None}).json()["webhook_body"] is None


OFFICE = {"zone": "Europe/Berlin", "open": ["mon-fri 09:00-18:00"]}
RAMP = {"from": "2026-11-30", "start_rpm": 5, "factor": 2, "every": 1, "unit": "days"}


def test_hours_and_ramp_are_kept_shown_and_planned(api):
    made = api.send("POST", "/queues/", {"name": "mail", "rpm": 60, "hours": OFFICE, "ramp": RAMP})
    assert (made.json()["hours"], made.json()["ramp"]) == (OFFICE, RAMP)

    plan = api.list([1, 2], query="?task_name=x&queue=mail&dry_run=true").json()["plan"]

    capacity = plan["windows"][0]["capacity"]
    assert len(capacity) == 15
    assert max(capacity) > 0
    assert api.send("PATCH", "/queues/mail/", {"hours": None, "ramp": None}).json()["hours"] is None
    plan = api.list([1, 2], query="?task_name=x&queue=mail&dry_run=true").json()["plan"]
    assert plan["windows"][0]["capacity"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {"hours": {"zone": "Nowhere", "open": ["mon 09:00-10:00"]}},
        {"hours": {"zone": "UTC", "open": ["mon"]}},
        {"hours": ["mon 09:00-10:00"]},
        {"ramp": {"from": "2026-11-30", "start_rpm": 5, "factor": 1, "every": 1}},
    ],
)
def test_invalid_hours_and_ramps_are_refused(api, fields):
    answer = api.send("PATCH", "/queues/default/", fields)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, next(iter(fields)))


def test_dry_run_of_a_change_says_what_would_move_and_changes_nothing(api):
    api.send("POST", "/queues/", {"name": "mail", "rpm": 2, "overflow": "carry_over"})
    api.list(list(range(1, 301)), query="?task_name=x&queue=mail")
    before = api.get("/queues/mail/").json()
    day = (store.now() + timedelta(days=3)).strftime("%a").lower()
    hours = {"zone": "UTC", "open": [f"{day} 00:00-24:00"]}

    effect = api.send("PATCH", "/queues/mail/?dry_run=true", {"hours": hours}).json()

    # All but those of the window that is open.
    assert 270 <= effect["moved"] <= 300
    assert effect["after"]["done_at"] > effect["before"]["done_at"]
    assert api.get("/queues/mail/").json() == before
    refused = api.send("PATCH", "/queues/mail/?dry_run=true", {"hours": {"zone": "UTC"}})
    assert refused.status_code == 422


def test_buckets_say_why_they_have_their_capacity(api):
    api.send("POST", "/queues/", {"name": "mail", "rpm": 60, "ramp": RAMP | {"from": "2026-01-01"}})
    number = api.list([1], query="?task_name=x&queue=mail").json()["task_id"]
    window = api.get(f"/celery_ids_tasks/{number}/distribution/").json()[0]["id"]

    bucket = api.get(f"/windows/{window}/").json()["buckets"][0]

    assert (bucket["capacity"], bucket["reason"]) == (60, "60: rpm")


def test_pause_and_brake_take_a_reason_that_the_activity_log_keeps(api):
    api.send("POST", "/queues/default/pause/?reason=vendor+asked")
    api.send("POST", "/queues/default/brake/", {"per_minute": 5, "reason": "night"})

    queue = models.Queue.objects.get(name="default")
    assert (queue.pause_reason, queue.brake_reason) == ("vendor asked", "night")
    reasons = models.Activity.objects.filter(verb__in=("paused", "braked")).order_by("pk")
    assert [entry.after["reason"] for entry in reasons] == ["vendor asked", "night"]


@pytest.mark.parametrize(
    "origin",
    ["https://a.test:0", "https://{{id}}.test", "https://a..test", " https://a.test", "https://a.test/\n"],
)
def test_target_that_no_queue_could_send_to_is_refused(api, origin):
    answer = api.send("POST", "/targets/", {"origin": origin, "rpm": 5})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["origin"]
    assert not models.Target.objects.exists()


@pytest.mark.parametrize(
    ("origin", "place"),
    [
        ("https://a.test/in", "without the path /in."),
        ("https://a.test:443//", "without the path //."),
        ("https://a.test?key=1", "without the query key=1."),
        ("https://a.test/#top", "without the fragment top."),
        ("https://u:secret@a.test", "without a user name or password before the @."),
    ],
)
def test_target_with_more_than_an_origin_is_refused_with_what_is_too_much(api, origin, place):
    answer = api.send("POST", "/targets/?dry_run=true", {"origin": origin, "rpm": 5})
    [error] = answer.json()["errors"]
    assert (answer.status_code, error["field"]) == (422, "origin")
    assert error["reason"] == (
        f"It must be scheme, host and port, such as https://api.vendor.example:443, {place}"
    )


def test_target_with_a_slash_at_its_end_is_the_same_target(api):
    made = api.send("POST", "/targets/", {"origin": "HTTPS://A.test/", "rpm": 5})
    assert made.json()["origin"] == "https://a.test:443"


def test_dry_run_of_a_share_shows_what_it_does_to_the_next_list(api):
    change = {"rpm": 100, "overflow": "carry_over", "max_share_percent": 25}
    share = api.send("PATCH", "/queues/default/?dry_run=true", change).json()["share"]
    assert (share["percent"], share["ids"], share["places_left"]) == (25, 10_000, 75)
    done, without = (datetime.fromisoformat(share[name]) for name in ("done_at", "done_at_without"))
    # 400 minutes instead of 100.
    assert done - without == timedelta(minutes=300)
    api.send("PATCH", "/queues/default/", change)
    assert api.send("PATCH", "/queues/default/?dry_run=true", {"rpm": 90}).json()["share"] is None
