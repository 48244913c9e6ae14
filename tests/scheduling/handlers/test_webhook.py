"""What a webhook sends, and what it makes of every kind of answer."""

import asyncio
import ipaddress
import os
import socket
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook as Verifier

from scheduling.core.retry import Verdict
from scheduling.handlers import ssrf, webhook
from scheduling.handlers.base import Request
from scheduling.handlers.webhook import Webhook
from tests.scheduling.target import Target, status

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


def request(user_id: int = 1029, attempt: int = 1) -> Request:
    return Request(user_id, 7, "a list", "default", datetime(2026, 11, 25, 12, 17, tzinfo=UTC), attempt)


def call(url: str, *requests: Request, allowed=LOOPBACK, pause: float = 0, **options):
    """Make requests one after the other with one handler; give their outcomes."""

    async def run():
        handler = Webhook(url, secret=SECRET, allowed=allowed, **options)
        outcomes = []
        for one in requests or (request(),):
            outcomes += await handler.handle([one])
            if pause:
                await asyncio.sleep(pause)
        await handler.close()
        return outcomes

    return asyncio.run(run())


def test_a_request_is_what_the_page_says_and_verifies():
    with Target() as target:
        call(target.url, request(9007199254740993, attempt=2), headers={"X-Team": "a"})
    [seen] = target.seen
    assert Verifier(SECRET).verify(seen.body, seen.headers) == {
        "user_id": 9007199254740993,
        "user_id_str": "9007199254740993",
        "task_id": 7,
        "task_name": "a list",
        "queue": "default",
        "planned_at": "2026-11-25T12:17:00Z",
        "attempt": 2,
    }
    assert seen.headers["webhook-id"] == seen.headers["idempotency-key"] == "msg_7_9007199254740993"
    assert (seen.method, seen.headers["x-team"]) == ("POST", "a")


@pytest.mark.parametrize(
    "answer",
    [
        status(204),
        status(200),
        status(202, b"later"),
        status(299),
        status(205),
        status(200, b"<html>", Content_Type="text/html"),
        status(200, b"\xff\xfe\x00", Content_Type="application/json"),
        status(200, b"not gzip", Content_Encoding="gzip"),
        b"HTTP/1.0 200 OK\r\n\r\nwithout a length",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + status(200, b"ok"),
    ],
)
def test_every_2xx_is_a_success_after_one_request_whatever_the_body(answer):
    # HTTP/1.0 ends the body by closing.
    with Target(lambda seen: answer, close_after=True) as target:
        [outcome] = call(target.url)
    assert (outcome.verdict, len(target.seen)) == (Verdict.SUCCEEDED, 1)
    assert len(outcome.answer) <= 500


def test_a_success_whose_body_is_cut_is_one_with_a_note():
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
    with Target(lambda seen: cut, close_after=True) as target:
        [outcome] = call(target.url)
    assert (outcome.verdict, outcome.answer) == (Verdict.SUCCEEDED, "abc")
    assert "cut" in outcome.error


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (304, Verdict.FAILED),
        (400, Verdict.FAILED),
        (404, Verdict.FAILED),
        (408, Verdict.RETRY),
        (425, Verdict.RETRY),
        (429, Verdict.RETRY),
        (500, Verdict.RETRY),
        (503, Verdict.RETRY),
    ],
)
def test_other_statuses(code, verdict):
    body = b"" if code == 304 else b"why"
    with Target(lambda seen: status(code, body, Retry_After="20")) as target:
        [outcome] = call(target.url)
    assert (outcome.verdict, outcome.status, outcome.answer) == (verdict, code, body.decode())
    assert outcome.retry_after == "20"
    assert len(target.seen) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_says_where_to(code):
    with Target(lambda seen: status(code, Location=f"{target.url}/")) as target:
        [outcome] = call(target.url)
    assert (outcome.verdict, len(target.seen)) == (Verdict.FAILED, 1)
    assert outcome.error == f"answers {code} to {target.url}/: put this address into the queue"


def test_a_target_that_hangs_is_left_after_the_deadline():
    async def hang(writer):
        await asyncio.sleep(5)

    with Target(lambda seen: hang) as target:
        [outcome] = call(target.url, read_seconds=0.3, connect_seconds=0.3)
    assert outcome.verdict == Verdict.RETRY
    assert outcome.duration_ms < 1_000


def test_a_header_that_drips_is_left_after_the_deadline_which_no_queue_can_put_off_for_long(monkeypatch):
    async def drip(writer):
        for letter in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 100:
            writer.write(bytes([letter]))
            await asyncio.sleep(0.1)

    with Target(lambda seen: drip) as target:
        [outcome] = call(target.url, read_seconds=0.4, connect_seconds=0.4)
        monkeypatch.setattr(webhook, "WEBHOOK_SECONDS", 0.7)
        [longest] = call(target.url, read_seconds=20, connect_seconds=20)
    assert outcome.verdict == longest.verdict == Verdict.RETRY
    assert longest.error == "no answer within 0.7 s"
    assert max(outcome.duration_ms, longest.duration_ms) < 1_500


def test_a_body_that_drips_or_never_ends_is_a_success_that_is_not_waited_for():
    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(100):
            writer.write(b"x" * 100_000)
            await asyncio.sleep(0.01)

    async def drip(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            writer.write(b"x")
            await asyncio.sleep(0.1)

    for how in (endless, drip):
        with Target(lambda seen, how=how: how) as target:
            [outcome] = call(target.url, read_seconds=0.4, connect_seconds=0.4)
        assert outcome.verdict == Verdict.SUCCEEDED
        assert outcome.duration_ms < 1_500
        assert outcome.error


def test_what_closes_each_kept_connection_costs_no_attempt():
    with Target(close_after=True) as target:
        outcomes = call(target.url, *(request(user) for user in range(1, 101)), pause=0.001)
    assert {outcome.verdict for outcome in outcomes} == {Verdict.SUCCEEDED}
    assert sorted(seen.user_id for seen in target.seen) == list(range(1, 101))


def test_a_request_that_a_kept_connection_lost_unread_goes_again_at_once_and_was_no_attempt():
    async def answers_and_reads_no_more(writer):
        writer.write(status(200, b"ok"))
        writer.transport.pause_reading()
        await asyncio.sleep(0.2)

    with Target(lambda seen: answers_and_reads_no_more) as target:
        outcomes = call(target.url, request(1), request(2))
    assert [outcome.verdict for outcome in outcomes] == [Verdict.SUCCEEDED] * 2
    assert [seen.user_id for seen in target.seen] == [1, 2]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_request_that_was_read_and_not_answered_is_an_attempt_that_takes_another_slot(method):
    async def run():
        handler = Webhook(target.url, method=method, allowed=LOOPBACK)
        # Two kept connections: the client itself would try the second where the first was closed.
        await handler.handle([request(1), request(3)])
        [outcome] = await handler.handle([request(2)])
        await handler.close()
        return outcome

    with Target(lambda seen: None if seen.user_id == 2 else status(200, b"ok")) as target:
        before = len(os.listdir("/proc/self/fd"))
        outcome = asyncio.run(run())
        # The target, in this process too, hears a moment later that its connections ended.
        until = time.monotonic() + 5
        while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < until:
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= before
    assert (outcome.verdict, outcome.started, outcome.retry_in_this_minute) == (Verdict.RETRY, True, True)
    # It doesn't go again by itself: that would be a start beside the plan.
    assert [seen.user_id for seen in target.seen] == [1, 3, 2]


def test_after_two_resets_every_request_gets_a_connection_of_its_own():
    with Target(lambda seen: None if seen.user_id % 2 == 0 else status(200, b"ok")) as target:
        outcomes = call(target.url, *(request(user) for user in range(1, 9)))
    assert [outcome.retry_in_this_minute for outcome in outcomes if outcome.verdict == Verdict.RETRY] == [
        True,
        True,
        False,
        False,
    ]
    by_connection = [seen.connection for seen in target.seen if seen.user_id > 4]
    assert len(set(by_connection)) == len(by_connection)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_close_in_place_of_an_answer_on_a_fresh_connection_is_an_attempt(method):
    with Target(lambda seen: None) as target:
        [outcome] = call(target.url, method=method)
    assert (outcome.verdict, outcome.retry_in_this_minute) == (Verdict.RETRY, False)
    assert len(target.seen) == 1


def test_nobody_there_is_tried_again():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    [outcome] = call(f"http://127.0.0.1:{port}/")
    assert outcome.verdict == Verdict.RETRY


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "localhost.", "2130706433", "0x7f.1", "127.1", "0.0.0.0", "[::1]"],
)
def test_inner_addresses_are_refused_at_each_send_and_see_no_connection(host):
    with Target() as target:
        [outcome] = call(f"http://{host}:{target.port}/", allowed=())
    assert outcome.error.startswith("address not allowed")
    assert outcome.verdict == Verdict.FAILED
    assert target.connections == 0


@pytest.mark.parametrize(
    "host",
    ["127\u30020\u30020\u30021", "127\uff610\uff610\uff611", "127\uff0e0.0.1", "\uff11\uff12\uff17.0.0.1"],
)
def test_other_full_stops_and_digits_hide_no_inner_address(host):
    with Target() as target:
        [outcome] = call(f"http://{host}:{target.port}/", allowed=())
    assert outcome.error.startswith("address not allowed")
    assert target.connections == 0


@pytest.mark.parametrize(
    "url",
    ["http://foo\u00adbar.com/", "http://foo\\bar.com/", "http://ex\u200bample.com/", "http://\ufffd.com/"],
)
def test_an_address_that_the_client_can_not_read_fails_and_is_refused_when_saved(url):
    [outcome] = call(url)
    assert outcome.verdict == Verdict.FAILED
    with pytest.raises(ssrf.AddressNotAllowed):
        ssrf.check_url(url, ())


def test_a_redirect_says_the_whole_address_even_where_its_header_is_no_utf_8():
    async def relative(writer):
        writer.write(
            b"HTTP/1.1 308 Permanent Redirect\r\nLocation: /caf\xe9/in/\r\nContent-Length: 0\r\n\r\n"
        )

    with Target(lambda seen: relative) as target:
        [outcome] = call(target.url)
    assert outcome.verdict == Verdict.FAILED
    outcome.error.encode()
    assert outcome.error.startswith(f"answers 308 to http://127.0.0.1:{target.port}/caf")
    assert outcome.error.endswith(": put this address into the queue")


def test_a_success_with_long_headers_is_one():
    async def wordy(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 20_000 + b"\r\nContent-Length: 2\r\n\r\nok")

    with Target(lambda seen: wordy) as target:
        [outcome] = call(target.url)
    assert outcome.verdict == Verdict.SUCCEEDED


def test_proxies_of_the_environment_are_passed_by(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Target() as target:
        [outcome] = call(target.url)
    assert outcome.verdict == Verdict.SUCCEEDED
