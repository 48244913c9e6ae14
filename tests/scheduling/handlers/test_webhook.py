"""What a webhook sends, and what each kind of response means."""

import asyncio
import gzip
import ipaddress
import os
import socket
import zlib
from datetime import UTC, datetime

import pytest
import uvloop
from standardwebhooks import Webhook as Verifier

from scheduling.core.retry import Verdict
from scheduling.handlers import ssrf, webhook
from scheduling.handlers.base import Request
from scheduling.handlers.webhook import Webhook
from tests.patience import wait_until
from tests.scheduling.target import Target, status

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


def request(user_id: int = 1029, attempt: int = 1) -> Request:
    return Request(user_id, 7, "a list", "default", datetime(2026, 11, 25, 12, 17, tzinfo=UTC), attempt)


def call(url: str, *requests: Request, allowed=LOOPBACK, pause: float = 0, **options):
    """Make requests one after the other with one handler; return their outcomes."""

    async def run():
        handler = Webhook(url, secret=SECRET, allowed=allowed, **options)
        outcomes = []
        for item in requests or (request(),):
            outcomes += await handler.handle([item])
            if pause:
                await asyncio.sleep(pause)
        await handler.close()
        return outcomes

    return uvloop.run(run())


def test_request_is_what_the_docs_say_and_verifies():
    with Target() as target:
        call(target.url, request(9007199254740993, attempt=2), headers={"X-Team": "a"})
    [received] = target.requests
    assert Verifier(SECRET).verify(received.body, received.headers) == {
        "user_id": 9007199254740993,
        "user_id_str": "9007199254740993",
        "task_id": 7,
        "task_name": "a list",
        "queue": "default",
        "planned_at": "2026-11-25T12:17:00Z",
        "attempt": 2,
    }
    assert received.headers["webhook-id"] == received.headers["idempotency-key"] == "msg_7_9007199254740993"
    assert (received.method, received.headers["x-team"]) == ("POST", "a")


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
def test_2xx_is_a_success_after_one_request_whatever_the_body(answer):
    # HTTP/1.0 ends the body by closing.
    with Target(lambda received: answer, close_after=True) as target:
        [outcome] = call(target.url)
    assert (outcome.verdict, len(target.requests)) == (Verdict.SUCCEEDED, 1)
    assert len(outcome.answer) <= 500


def test_success_whose_body_is_cut_gets_a_note():
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
    with Target(lambda received: cut, close_after=True) as target:
        [outcome] = call(target.url)
    assert (outcome.verdict, outcome.answer) == (Verdict.SUCCEEDED, "abc")
    assert outcome.error == "the connection was closed in the body of the response"


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
def test_status_decides_between_retry_and_failure(code, verdict):
    body = b"" if code == 304 else b"why"
    with Target(lambda received: status(code, body, Retry_After="20")) as target:
        [outcome] = call(target.url)
    assert (outcome.verdict, outcome.status, outcome.answer) == (verdict, code, body.decode())
    assert outcome.retry_after == "20"
    assert len(target.requests) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed_and_names_its_address(code):
    with Target(lambda received: status(code, Location=f"{target.url}/")) as target:
        [outcome] = call(target.url)
    assert (outcome.verdict, len(target.requests)) == (Verdict.RETRY, 1)
    assert outcome.error == f"answers {code} to {target.url}/: put this address into the queue"


def test_redirect_from_an_address_with_values_names_the_host_alone():
    with Target(lambda received: status(308, Location=f"{received.path}/")) as target:
        [outcome] = call(f"{target.url}/{{{{id}}}}")
    assert outcome.error == f"answers 308 to an address at 127.0.0.1:{target.port}"


@pytest.mark.parametrize("location", ["http://[", "//[x]/"])
def test_redirect_to_no_address_counts_by_its_status(location):
    with Target(lambda received: status(302, Location=location)) as target:
        [outcome] = call(target.url)
    assert (outcome.verdict, outcome.status) == (Verdict.RETRY, 302)
    assert outcome.error == "answers 302 to something that is no address"


async def hang(writer):
    await asyncio.sleep(600)


def drip(head: bytes):
    """Send a head, and then a byte each tenth of a second."""

    async def write(writer):
        writer.write(head)
        for _ in range(100):
            writer.write(b"x")
            await asyncio.sleep(0.1)

    return write


def test_time_out_names_the_first_byte_and_its_limit():
    with Target(lambda received: hang) as target:
        [outcome] = call(target.url, read_seconds=0.3, connect_seconds=5)
    assert outcome.verdict == Verdict.RETRY
    assert outcome.error == "timed out after 0.3 s waiting for the first byte of the response"
    assert outcome.duration_ms > 250


def test_time_limit_of_a_kept_connection_begins_with_each_request():
    with Target(lambda received: status(200) if received.user_id < 3 else hang) as target:
        outcomes = call(target.url, *map(request, (1, 2, 3)), pause=0.2, read_seconds=0.3)
    assert [outcome.status for outcome in outcomes] == [200, 200, None]
    assert outcomes[2].error == "timed out after 0.3 s waiting for the first byte of the response"
    assert outcomes[2].duration_ms > 250


def test_time_out_names_the_limit_of_the_whole_call(monkeypatch):
    monkeypatch.setattr(webhook, "WEBHOOK_SECONDS", 2.0)
    with Target(lambda received: drip(b"HTTP/1.1 2")) as target:
        [outcome] = call(target.url, read_seconds=20, connect_seconds=20)
    assert (outcome.verdict, outcome.status) == (Verdict.RETRY, None)
    assert outcome.error == "timed out after 2 s in the headers of the response"


@pytest.mark.parametrize("part", ["headers", "body"])
@pytest.mark.parametrize(
    ("code", "verdict"), [(200, Verdict.SUCCEEDED), (503, Verdict.RETRY), (404, Verdict.FAILED)]
)
def test_status_counts_when_the_rest_of_the_response_drips(part, code, verdict):
    head = f"HTTP/1.1 {code} X\r\nRetry-After: 20\r\n".encode()
    head += b"X-Slow: " if part == "headers" else b"Content-Length: 100\r\n\r\n"
    with Target(lambda received: drip(head)) as target:
        [outcome] = call(target.url, read_seconds=1, connect_seconds=1)
    assert (outcome.verdict, outcome.status, outcome.retry_after) == (verdict, code, "20")
    if code == 200:
        assert outcome.error == f"timed out after 2 s in the {part} of the response"


def test_body_that_never_ends_is_not_waited_for():
    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * 100_000)
            await asyncio.sleep(0.01)

    with Target(lambda received: endless) as target:
        [outcome] = call(target.url)
    assert (outcome.verdict, outcome.error) == (
        Verdict.SUCCEEDED,
        "the response is longer than what is read of it",
    )


FLAWED = {
    "204 with a body": b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    "200 with length 0 and a body": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nok",
    "a length beside chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0"
    b"\r\n\r\n",
    "odd bytes": b"HTTP/1.1 201 Cr\xe9\xe9\r\nX-Odd: \x00\xff\r\n\x01\r\nContent-Length: 0\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n",
    "cut chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
}


@pytest.mark.parametrize("split", ["whole", "bytes", "head and rest"])
@pytest.mark.parametrize("name", FLAWED)
def test_flawed_success_is_one_request_and_leaves_the_next_one_alone(name, split):
    # The requests come in pairs on what may be one connection, and each pair is the flawed one and a 503.
    response = FLAWED[name]
    end = response.index(b"\r\n\r\n") + 4
    pieces = {
        "whole": [response],
        "bytes": [response[at : at + 1] for at in range(len(response))],
        "head and rest": [response[:end], response[end:]],
    }[split]

    async def flawed(writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)

    with Target(
        lambda received: flawed if received.user_id % 2 else status(503, b"busy"), stay=True
    ) as target:
        outcomes = call(target.url, *(request(user) for user in range(1, 5)), read_seconds=0.5)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.SUCCEEDED, Verdict.RETRY] * 2
    assert [outcome.answer for outcome in outcomes[1::2]] == ["busy"] * 2
    assert [received.user_id for received in target.requests] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("values", "longest"),
    [
        (["2", "9"], "9"),
        (["9", "2"], "9"),
        (["nonsense", "3"], "3"),
        (["2, 9"], "9"),
        (["5", "Sun, 29 Nov 2099 10:00:00 GMT"], "Sun, 29 Nov 2099 10:00:00 GMT"),
        (["Sun, 29 Nov 2026 00:00:00 GMT", "5"], "5"),
    ],
)
def test_longest_of_several_retry_after_headers_counts(values, longest):
    lines = "".join(f"Retry-After: {value}\r\n" for value in values)
    answer = f"HTTP/1.1 429 Slow\r\n{lines}Content-Length: 0\r\n\r\n".encode()
    with Target(lambda received: answer) as target:
        [outcome] = call(target.url)
    assert outcome.retry_after == longest


GZIP = gzip.compress("Kündigung läuft".encode(), mtime=0)


@pytest.mark.parametrize(
    ("body", "headers", "text"),
    [
        ("Zoë".encode(), {}, "Zoë"),
        ("Zoë".encode("latin-1"), {"Content_Type": "text/plain; charset=iso-8859-1"}, "Zoë"),
        ("Zoë".encode("utf-16"), {"Content_Type": 'text/plain; charset="UTF-16"'}, "Zoë"),
        ("Zoë".encode(), {"Content_Type": "text/plain; charset=nonsense"}, "Zoë"),
        (b"abc", {"Content_Type": "text/plain; charset=base64"}, "abc"),
        (GZIP, {"Content_Encoding": "gzip"}, "Kündigung läuft"),
        (zlib.compress(b"zlib"), {"Content_Encoding": "deflate"}, "zlib"),
        (zlib.compress(b"raw")[2:-4], {"Content_Encoding": "deflate"}, "raw"),
        (gzip.compress(GZIP, mtime=0), {"Content_Encoding": "gzip, gzip"}, "Kündigung läuft"),
        (GZIP[:-9], {"Content_Encoding": "gzip"}, "Kündigung läuft"[:13]),
    ],
)
def test_answer_is_readable_text(body, headers, text):
    with Target(lambda received: status(400, body, **headers)) as target:
        [outcome] = call(target.url)
    assert outcome.answer.startswith(text[:10])
    assert target.requests[0].headers["accept-encoding"] == "identity"


def test_compressed_answer_is_unpacked_within_a_limit():
    bomb = gzip.compress(b"a" * 50_000_000)
    with Target(lambda received: status(400, bomb, Content_Encoding="gzip")) as target:
        [outcome] = call(target.url)
    assert outcome.answer == "a" * 500


@pytest.mark.parametrize("headers", [{"X-Split": "a\r\nX-Evil: 1"}, {"X Evil": "1"}, {"X-Nul": "\0"}])
def test_header_that_would_break_out_of_its_line_fails_without_a_request(headers):
    with Target() as target:
        [outcome] = call(target.url, headers=headers)
    assert (outcome.verdict, target.connections) == (Verdict.FAILED, 0)


def test_headers_of_the_queue_replace_defaults_whatever_their_case():
    with Target() as target:
        call(
            target.url,
            headers={"user-AGENT": "Ours", "host": "front.test", "Content-length": "5", "X-Name": "Zoë"},
        )
    [received] = target.requests
    assert received.headers["user-agent"] == "Ours"
    assert received.headers["host"] == "front.test"
    assert received.headers["x-name"] == "Zoë"
    assert int(received.headers["content-length"]) == len(received.body)


def test_header_of_the_queue_with_a_name_of_ours_is_sent_once():
    handler = Webhook(
        "http://127.0.0.1/", secret=SECRET, allowed=LOOPBACK, headers={"webhook-id": "x", "X-A": "1"}
    )
    message = handler.message_of(request())
    assert message.headers["webhook-id"] == "msg_7_1029"
    assert message.queue_headers.keys().isdisjoint(message.own_headers)


def test_max_connections_bounds_what_is_open_at_once():
    async def run():
        handler = Webhook(target.url, allowed=LOOPBACK, connections=3)
        outcomes = await handler.handle([request(user) for user in range(1, 13)])
        await handler.close()
        return outcomes

    async def slow(writer):
        await asyncio.sleep(0.05)
        writer.write(status(200))

    with Target(lambda received: slow, stay=True) as target:
        outcomes = uvloop.run(run())
    assert {outcome.verdict for outcome in outcomes} == {Verdict.SUCCEEDED}
    assert target.connections == 3


def test_target_that_closes_each_connection_costs_no_attempt():
    with Target(close_after=True) as target:
        outcomes = call(target.url, *(request(user) for user in range(1, 101)), pause=0.001)
    assert {outcome.verdict for outcome in outcomes} == {Verdict.SUCCEEDED}
    assert sorted(received.user_id for received in target.requests) == list(range(1, 101))


def test_request_lost_unread_on_a_kept_connection_is_sent_again_at_once():
    async def respond_and_stop_reading(writer):
        writer.write(status(200, b"ok"))
        writer.transport.pause_reading()
        await asyncio.sleep(0.2)

    with Target(lambda received: respond_and_stop_reading) as target:
        outcomes = call(target.url, request(1), request(2))
    assert [outcome.verdict for outcome in outcomes] == [Verdict.SUCCEEDED] * 2
    assert [received.user_id for received in target.requests] == [1, 2]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_request_read_without_a_response_is_an_attempt_and_takes_another_slot(method):
    async def run():
        handler = Webhook(target.url, method=method, allowed=LOOPBACK)
        # Two kept connections: a client that tried again by itself would use the second one.
        await handler.handle([request(1), request(3)])
        [outcome] = await handler.handle([request(2)])
        await handler.close()
        return outcome

    with Target(lambda received: None if received.user_id == 2 else status(200, b"ok")) as target:
        before = len(os.listdir("/proc/self/fd"))
        outcome = uvloop.run(run())
        # The target is in this process too, and learns a moment later that its connections ended.
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "all connections are closed")
    assert (outcome.verdict, outcome.started, outcome.retry_in_this_minute) == (Verdict.RETRY, True, True)
    # It isn't sent again at once: that would be a start that the plan doesn't know.
    assert [received.user_id for received in target.requests] == [1, 3, 2]


def test_requests_get_connections_of_their_own_after_two_resets():
    with Target(lambda received: None if received.user_id % 2 == 0 else status(200, b"ok")) as target:
        outcomes = call(target.url, *(request(user) for user in range(1, 9)))
    assert [outcome.retry_in_this_minute for outcome in outcomes if outcome.verdict == Verdict.RETRY] == [
        True,
        True,
        False,
        False,
    ]
    by_connection = [received.connection for received in target.requests if received.user_id > 4]
    assert len(set(by_connection)) == len(by_connection)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_close_without_a_response_on_a_new_connection_is_an_attempt(method):
    with Target(lambda received: None) as target:
        [outcome] = call(target.url, method=method)
    assert (outcome.verdict, outcome.retry_in_this_minute) == (Verdict.RETRY, False)
    assert len(target.requests) == 1


def test_refused_connection_is_retried():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # Bound, so that nobody else gets the port, and not listening.
        [outcome] = call(f"http://127.0.0.1:{free.getsockname()[1]}/")
    assert outcome.verdict == Verdict.RETRY


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "localhost.", "2130706433", "0x7f.1", "127.1", "0.0.0.0", "[::1]"],
)
def test_internal_addresses_are_refused_at_each_call_before_connecting(host):
    with Target() as target:
        [outcome] = call(f"http://{host}:{target.port}/", allowed=())
    assert outcome.error.startswith("address not allowed")
    assert outcome.verdict == Verdict.FAILED
    assert target.connections == 0


@pytest.mark.parametrize(
    "host",
    ["127\u30020\u30020\u30021", "127\uff610\uff610\uff611", "127\uff0e0.0.1", "\uff11\uff12\uff17.0.0.1"],
)
def test_internal_address_in_unicode_digits_or_dots_is_refused(host):
    with Target() as target:
        [outcome] = call(f"http://{host}:{target.port}/", allowed=())
    assert outcome.error.startswith("address not allowed")
    assert target.connections == 0


@pytest.mark.parametrize(
    "url",
    ["http://foo\u00adbar.com/", "http://foo\\bar.com/", "http://ex\u200bample.com/", "http://\ufffd.com/"],
)
def test_address_that_the_client_cannot_read_fails_and_is_refused_when_saved(url):
    [outcome] = call(url)
    assert outcome.verdict == Verdict.FAILED
    with pytest.raises(ssrf.AddressNotAllowed):
        ssrf.check_url(url, ())


def test_redirect_names_the_whole_address_even_if_its_header_is_not_utf_8():
    async def relative(writer):
        writer.write(
            b"HTTP/1.1 308 Permanent Redirect\r\nLocation: /caf\xe9/in/\r\nContent-Length: 0\r\n\r\n"
        )

    with Target(lambda received: relative) as target:
        [outcome] = call(target.url)
    assert outcome.verdict == Verdict.RETRY
    outcome.error.encode()
    assert outcome.error.startswith(f"answers 308 to http://127.0.0.1:{target.port}/caf")
    assert outcome.error.endswith(": put this address into the queue")


def test_success_may_have_long_headers():
    async def wordy(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 20_000 + b"\r\nContent-Length: 2\r\n\r\nok")

    with Target(lambda received: wordy) as target:
        [outcome] = call(target.url)
    assert outcome.verdict == Verdict.SUCCEEDED


def test_proxies_from_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Target() as target:
        [outcome] = call(target.url)
    assert outcome.verdict == Verdict.SUCCEEDED
