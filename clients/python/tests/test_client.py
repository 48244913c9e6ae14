"""What the client does without a service: it describes requests, waits, draws plans and verifies webhooks."""

import gzip
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from quarterdeck import ApiError, InvalidWebhook, Plan, PlannedWindow, verify_webhook
from quarterdeck.cli import draw, main
from quarterdeck.requests import delay, read_json, submission
from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOTHING = dict.fromkeys(
    [
        "queue",
        "column",
        "not_before",
        "expires_at",
        "deadline",
        "max_failed_percent",
        "min_finished",
        "canary",
        "start",
        "reference",
        "on_error",
        "expect",
        "idempotency_key",
    ]
)


def described(ids):
    return submission(ids, task_name="x", allow_peak=False, dry_run=False, **NOTHING)


def test_submission_sends_large_ids_as_strings_and_makes_a_key():
    first, second = described([1, "2", 2**53]), described([1])
    assert first.json == {"payload": [1, "2", "9007199254740992"]}
    assert first.params == {"task_name": "x"}
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]


@pytest.mark.parametrize(
    ("name", "type", "encoding"),
    [
        ("a.csv", "text/csv", None),
        ("a.CSV", "text/csv", None),
        ("a.txt", "text/plain", None),
        ("a", "text/plain", None),
        ("a.ndjson.gz", "application/x-ndjson", "gzip"),
    ],
)
def test_submission_of_a_file_has_its_type_and_length(tmp_path, name, type, encoding):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"1") if encoding else b"1,2")
    headers = described(path).headers
    assert headers["Content-Type"] == type
    assert headers.get("Content-Encoding") == encoding
    assert headers["Content-Length"] == str(path.stat().st_size)


def test_delay_follows_retry_after_and_grows_otherwise():
    assert delay(0, httpx.Response(503, headers={"Retry-After": "7"})) == 7
    soon = datetime.now(UTC) + timedelta(seconds=30)
    date = soon.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert 25 < delay(0, httpx.Response(503, headers={"Retry-After": date})) <= 30
    assert delay(0, None) < delay(1, None) < delay(2, None)
    assert delay(50, None) == 60


def test_problem_becomes_an_error_with_its_kind_and_places():
    problem = {
        "type": "urn:quarterdeck:problem:bad-list",
        "detail": "No.",
        "errors": [{"line": 2, "reason": "x"}],
    }
    with pytest.raises(ApiError, match="No") as raised:
        read_json(httpx.Response(422, json=problem))
    assert (raised.value.kind, raised.value.status, raised.value.errors) == (
        "bad-list",
        422,
        problem["errors"],
    )
    with pytest.raises(ApiError, match="502"):
        read_json(httpx.Response(502, text="<html>"))


def test_plan_is_drawn_with_a_column_for_each_minute():
    at = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
    window = PlannedWindow(at, (4,) + (0,) * 14, (4, 8, 1) + (0,) * 12)
    runs_at = at + timedelta(minutes=15)
    text = draw(Plan(runs_at, runs_at + timedelta(minutes=2), 8, 120, (window,)))
    assert "from 2026-11-25 12:15 to 2026-11-25 12:17 UTC." in text
    assert "2026-11-25 12:15 |\u2588\u2588\u2581            | 13 IDs" in text


def test_webhook_is_verified():
    body, at = b'{"user_id": 1}', datetime.now(UTC)
    headers = {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": Webhook(SECRET).sign("msg_1", at, body.decode()),
    }
    webhook = verify_webhook(SECRET, body, headers)
    assert (webhook.id, webhook.body) == ("msg_1", {"user_id": 1})
    for wrong in (body + b" ", b""):
        with pytest.raises(InvalidWebhook):
            verify_webhook(SECRET, wrong, headers)
    with pytest.raises(InvalidWebhook):
        verify_webhook(SECRET, body, {})


def test_command_without_a_token_or_a_service_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("QUARTERDECK_TOKEN", raising=False)
    assert main(["follow", "7"]) == 2
    assert "QUARTERDECK_TOKEN" in capsys.readouterr().err
    monkeypatch.setattr("quarterdeck.requests.FIRST_DELAY_SECONDS", 0.001)
    assert main(["--url", "http://127.0.0.1:9", "--token", "t", "follow", "7"]) == 2
    assert "can't be reached" in capsys.readouterr().err
    assert main(["--token", "t", "send", str(tmp_path / "nosuch")]) == 2
