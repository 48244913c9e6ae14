"""Access tokens by OAuth 2.0 client credentials: fetched, kept, renewed; and what is said when there is none."""

import asyncio
import base64
import ipaddress
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest
import uvloop

from scheduling import models
from scheduling.core.retry import Verdict
from scheduling.handlers import oauth
from scheduling.handlers.base import Request
from scheduling.handlers.oauth import Credentials
from scheduling.handlers.shown_request import shown
from scheduling.handlers.webhook import Webhook
from tests.patience import MOST_SECONDS
from tests.scheduling.target import ReceivedRequest, Target, status

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
SECRET = "s3cret/+ of:the client"


@pytest.fixture(autouse=True)
def fresh_process():
    oauth.forget_all()
    yield
    oauth.forget_all()


def token_response(value: str = "token", **fields) -> bytes:
    body = {"access_token": value, "token_type": "Bearer", "expires_in": 3600} | fields
    return status(200, json.dumps({name: item for name, item in body.items() if item != "absent"}).encode())


class Issuer(Target):
    """A token server: token-0, token-1 and so on."""

    def __init__(self, answer=None, **fields) -> None:
        super().__init__(answer or (lambda received: token_response(f"token-{received.n}", **fields)))

    def credentials(self, **fields) -> Credentials:
        return Credentials(
            f"http://127.0.0.1:{self.port}/oauth/token?key=hush", "my client", SECRET, **fields
        )


def request(user_id: int = 1029) -> Request:
    return Request(user_id, 7, "a list", "default", datetime(2026, 11, 25, 12, 17, tzinfo=UTC), 1)


def call(target: Target, credentials: Credentials, *requests: Request, **options):
    """Make requests one after the other with one handler; return their outcomes."""

    async def run():
        handler = Webhook(target.url, allowed=LOOPBACK, oauth=credentials, **options)
        outcomes = [await handler.call(item) for item in requests or (request(),)]
        await handler.close()
        return outcomes

    return uvloop.run(run())


def sent_tokens(target: Target) -> list[str]:
    return [received.headers.get("authorization", "") for received in target.requests]


def test_client_auths_are_those_of_the_column():
    assert {oauth.IN_HEADER, oauth.IN_BODY} == set(models.ClientAuth.values)


def test_token_is_fetched_once_and_sent_with_each_request():
    with Issuer() as issuer, Target() as target:
        credentials = issuer.credentials(scope="a b", audience="https://api.example.com")
        outcomes = call(target, credentials, request(1), request(2))
        outcomes += call(target, credentials, request(3))
    assert [outcome.verdict for outcome in outcomes] == [Verdict.SUCCEEDED] * 3
    assert sent_tokens(target) == ["Bearer token-0"] * 3
    [token_request] = issuer.requests
    assert (token_request.method, token_request.path) == ("POST", "/oauth/token?key=hush")
    assert token_request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(token_request.body.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["a b"],
        "audience": ["https://api.example.com"],
    }
    scheme, _, pair = token_request.headers["authorization"].partition(" ")
    # RFC 6749, 2.3.1: each half as a form encodes it.
    assert (scheme, base64.b64decode(pair)) == ("Basic", b"my+client:s3cret%2F%2B+of%3Athe+client")


def test_client_in_the_body_is_no_header():
    with Issuer() as issuer, Target() as target:
        call(target, issuer.credentials(client_auth=oauth.IN_BODY))
    [token_request] = issuer.requests
    assert "authorization" not in token_request.headers
    fields = parse_qs(token_request.body.decode())
    assert (fields["client_id"], fields["client_secret"]) == (["my client"], [SECRET])
    assert "scope" not in fields


def test_many_requests_at_once_share_one_fetch():
    with Issuer() as issuer, Target() as target:

        async def run():
            handler = Webhook(target.url, allowed=LOOPBACK, oauth=issuer.credentials())
            await asyncio.gather(*(handler.call(request(user)) for user in range(20)))
            await handler.close()

        uvloop.run(run())
    assert (len(issuer.requests), len(target.requests)) == (1, 20)


def test_handler_is_ready_once_its_token_is_there():
    async def run(handler: Webhook) -> list[bool]:
        handler.prepare()
        result = [handler.is_ready()]
        async with asyncio.timeout(MOST_SECONDS):
            while not handler.is_ready():
                await asyncio.sleep(0.01)
        await handler.close()
        return [*result, handler.is_ready()]

    with Issuer() as issuer, Target() as target:
        handler = Webhook(target.url, allowed=LOOPBACK, oauth=issuer.credentials())
        assert uvloop.run(run(handler)) == [False, True]
        assert len(issuer.requests) == 1
    assert Webhook(target.url).is_ready()


@pytest.mark.parametrize("renewal_fails", [False, True])
def test_token_is_renewed_before_it_ends_while_the_old_one_serves(monkeypatch, renewal_fails):
    now = 1000.0
    monkeypatch.setattr(oauth, "time", SimpleNamespace(monotonic=lambda: now))

    def answer(received: ReceivedRequest) -> bytes:
        fails = renewal_fails and received.n
        return status(503) if fails else token_response(f"token-{received.n}", expires_in=100)

    async def run() -> None:
        nonlocal now
        handler = Webhook(target.url, allowed=LOOPBACK, oauth=issuer.credentials())
        await handler.call(request(1))
        # 80 s later it is due to be renewed, but valid.
        now += 85
        await handler.call(request(2))
        async with asyncio.timeout(MOST_SECONDS):
            while not (oauth._failures or "token-1" in [token.value for token in oauth._tokens.values()]):
                await asyncio.sleep(0.01)
        await handler.call(request(3))
        await handler.close()

    with Issuer(answer) as issuer, Target() as target:
        uvloop.run(run())
    last = "Bearer token-0" if renewal_fails else "Bearer token-1"
    assert sent_tokens(target) == ["Bearer token-0", "Bearer token-0", last]
    assert len(issuer.requests) == 2


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (3600, 3600),
        ("3600", 3600),
        (3599.5, 3599.5),
        ("absent", 300),
        (None, 300),
        (True, 300),
        ("soon", 300),
        ([], 300),
        ("nan", 300),
        (0, 30),
        (-5, 30),
        (10**400, 300),
        (1e300, 86_400),
        ("inf", 86_400),
    ],
)
def test_expires_in_of_any_kind_leads_to_a_time(expires_in, seconds):
    with Issuer(expires_in=expires_in) as issuer, Target() as target:
        [outcome] = call(target, issuer.credentials())
    assert outcome.verdict is Verdict.SUCCEEDED
    [token] = oauth._tokens.values()
    assert token.ends_at - token.fetched_at == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(401, b'{"error": "invalid_client"}'), "it answered 401 (invalid_client)"),
        (status(400, json.dumps({"error": SECRET}).encode()), "it answered 400"),
        (status(500, b"<html>"), "it answered 500"),
        (status(302, Location="http://127.0.0.1:9/"), "it answered 302"),
        (status(200, b"<html>"), "its response has no access_token that can be sent"),
        (status(200, b'["token"]'), "its response has no access_token that can be sent"),
        (token_response("a\r\nX-Evil: 1"), "its response has no access_token that can be sent"),
        (token_response(""), "its response has no access_token that can be sent"),
        (token_response("a" * 20_000), "its response has no access_token that can be sent"),
        (token_response(token_type="mac"), "the token_type of its response is not Bearer"),
        (
            status(200, b'{"pad": "' + b"x" * 200_000 + b'"}'),
            "its response has no access_token that can be sent",
        ),
        (None, "the connection was closed instead of a response"),
    ],
)
def test_without_a_token_nothing_is_sent_and_the_reason_is_given(answer, reason):
    with Issuer(lambda received: answer) as issuer, Target() as target:
        outcomes = call(target, issuer.credentials(), request(1), request(2))
        url = f"http://127.0.0.1:{issuer.port}/oauth/token"
    for outcome in outcomes:
        assert (outcome.verdict, outcome.started, outcome.status) == (Verdict.RETRY, False, None)
        assert outcome.error == f"no token from {url}: {reason}"
        assert 20 < outcome.block_seconds <= 30
        assert SECRET not in repr(outcome)
        assert "hush" not in repr(outcome)
    assert not target.requests
    # It isn't asked again for each request.
    assert len(issuer.requests) == 1


def test_token_server_may_ask_to_wait():
    with Issuer(lambda received: status(429, Retry_After="120")) as issuer, Target() as target:
        [outcome] = call(target, issuer.credentials())
    assert 110 < outcome.block_seconds <= 120


def test_token_server_passes_the_same_guard():
    with Target() as target:
        credentials = Credentials("http://10.1.2.3/token", "client", "secret")
        [outcome] = call(target, credentials)
    assert "address not allowed: 10.1.2.3" in outcome.error
    assert (outcome.started, target.requests) == (False, [])


def test_token_server_that_is_silent_is_not_waited_for_longer_than_the_time_limit():
    async def silent(writer) -> None:
        await asyncio.sleep(600)

    with Issuer(lambda received: silent) as issuer, Target() as target:
        [outcome] = call(target, issuer.credentials(), read_seconds=0.3)
    assert "timed out after 0.3 s" in outcome.error


def test_new_token_that_is_refused_at_once_is_not_renewed():
    def answer(received: ReceivedRequest) -> bytes:
        return status(401)

    with Issuer() as issuer, Target(answer) as target:
        outcomes = call(target, issuer.credentials(), *map(request, range(5)))
    # They count as attempts, and for the circuit breaker.
    assert {(outcome.started, outcome.status, outcome.verdict) for outcome in outcomes} == {
        (True, 401, Verdict.RETRY)
    }
    assert len(issuer.requests) == 1


def test_token_that_was_accepted_before_is_renewed_after_a_401():
    revoked = set()

    def answer(received: ReceivedRequest) -> bytes:
        return status(401 if received.headers["authorization"] in revoked else 200)

    async def run():
        handler = Webhook(target.url, allowed=LOOPBACK, oauth=issuer.credentials())
        outcomes = [await handler.call(request(1))]
        revoked.add("Bearer token-0")
        # Both had been sent with the old token.
        outcomes += await handler.handle([request(2), request(3)])
        outcomes += [await handler.call(request(2)), await handler.call(request(3))]
        # An ID that the target always refuses is repeated once, whatever token it has.
        revoked.add("Bearer token-1")
        outcomes += [await handler.call(request(4))]
        revoked.add("Bearer token-2")
        outcomes += [await handler.call(request(4))]
        await handler.close()
        return outcomes

    with Issuer() as issuer, Target(answer) as target:
        outcomes = uvloop.run(run())
    assert [(outcome.started, outcome.status) for outcome in outcomes] == [
        (True, 200),
        (False, 401),
        (False, 401),
        (True, 200),
        (True, 200),
        (False, 401),
        (True, 401),
    ]
    assert len(issuer.requests) == 3


def test_target_that_refuses_every_token_does_not_wear_out_the_token_server():
    def answer(received: ReceivedRequest) -> bytes:
        return status(200 if received.n % 2 else 401)

    with Issuer() as issuer, Target(answer) as target:
        outcomes = call(target, issuer.credentials(), *map(request, range(1, 61)))
    assert len(issuer.requests) <= 1 + oauth.RENEWALS
    assert sum(outcome.started and outcome.status == 401 for outcome in outcomes) >= 15


def test_shown_request_masks_the_token():
    with Issuer() as issuer, Target() as target:
        handler = Webhook(target.url, allowed=LOOPBACK, oauth=issuer.credentials())
        sent = shown(handler, handler.message_of(request()))
    assert sent.headers["Authorization"] == "Bearer ***"
    assert SECRET not in repr(sent)


def test_callback_carries_the_token_and_is_made_again_at_once():
    def answer(received: ReceivedRequest) -> bytes:
        return status(401 if received.n == 1 else 200)

    async def run():
        handler = Webhook(target.url, allowed=LOOPBACK, oauth=issuer.credentials())
        outcomes = [await handler.post("msg_1", b"{}"), await handler.post("msg_2", b"{}")]
        await handler.close()
        return outcomes

    with Issuer() as issuer, Target(answer) as target:
        outcomes = uvloop.run(run())
    assert [outcome.status for outcome in outcomes] == [200, 200]
    assert sent_tokens(target) == ["Bearer token-0", "Bearer token-0", "Bearer token-1"]
