"""A target that repeats what a queue sent: no secret of the queue is kept of its responses."""

import base64
import json

import pytest

from scheduling.handlers import oauth
from scheduling.handlers.masking import Mask
from scheduling.handlers.oauth import Credentials
from tests.scheduling.handlers.test_webhook import SECRET, call, request
from tests.scheduling.target import Target, status

KEY = "k-0123456789abcdef"
HEADERS = {
    "Authorization": f"Bearer {KEY}",
    "X-Customer": "{{id}} key-of-templates",
    "Accept": "application/json",
}
BASIC = base64.b64encode(b"deck:open sesame").decode()


def echo(received) -> bytes:
    """As debugging proxies and some error pages do."""
    return status(500, json.dumps({"headers": received.headers, "path": received.path}).encode())


def test_repeated_headers_are_masked_in_what_is_kept():
    with Target(echo) as target:
        [outcome] = call(target.url, headers=HEADERS)
    assert KEY not in outcome.answer
    assert "key-of-templates" not in outcome.answer
    # What is no secret stays, so that people can see what happened.
    assert "application/json" in outcome.answer
    assert "1029" in outcome.answer
    assert '"authorization": "***"' in outcome.answer


@pytest.mark.parametrize(
    ("headers", "repeated"),
    [
        ({"Authorization": f"Bearer {KEY}"}, KEY),
        ({"Authorization": f"token {KEY}"}, f"the key {KEY} has expired"),
        ({"Authorization": f"Basic {BASIC}"}, "deck:open sesame"),
        ({"Authorization": f"Basic {BASIC}"}, "open sesame is no password"),
        ({"X-Api-Key": 'quote"d key'}, json.dumps('quote"d key')),
        ({"X-Api-Key": "a key/with signs"}, "https://example.com/?key=a%20key%2Fwith%20signs"),
        ({}, SECRET),
        ({}, SECRET.removeprefix("whsec_")),
    ],
)
def test_secret_is_masked_in_each_form(headers, repeated):
    with Target(lambda received: status(400, repeated.encode())) as target:
        [outcome] = call(target.url, headers=headers)
    secrets = (KEY, BASIC, "open sesame", "quote", "with", SECRET.removeprefix("whsec_"))
    assert not [secret for secret in secrets if secret in outcome.answer]
    assert "***" in outcome.answer


@pytest.mark.parametrize("before", range(480, 500))
def test_secret_is_masked_where_what_is_kept_ends_within_it(before):
    with Target(lambda received: status(400, b"x" * before + KEY.encode() * 200)) as target:
        [outcome] = call(target.url, headers={"X-Api-Key": KEY})
    assert KEY[:2] not in outcome.answer
    assert len(outcome.answer) <= 500


def test_secret_is_masked_where_what_is_read_ends_within_it():
    mask = Mask.of({"X-Api-Key": KEY}, [])
    for length in range(len(KEY) * 3):
        assert "k-" not in mask((KEY * 3)[:length], is_cut=True)


def test_secret_is_masked_in_redirects_reasons_and_kept_values():
    fields = {"headers": {"X-Api-Key": KEY}}
    with Target(lambda received: status(302, Location=f"/next?key={KEY}")) as target:
        [redirected] = call(target.url, **fields)
    body = json.dumps({"id": f"made with {KEY}", "error": KEY}).encode()
    with Target(lambda received: status(200, body)) as target:
        [stored] = call(target.url, keep_answers="/id", **fields)
        [unmet] = call(target.url, when={"pointer": "/error", "equals": None, "otherwise": "fail"}, **fields)
    assert stored.answer == "made with ***"
    assert "key=***" in redirected.error
    assert not [outcome for outcome in (redirected, stored, unmet) if KEY in outcome.error + outcome.answer]


def test_token_and_client_secret_are_masked():
    token = status(200, b'{"access_token": "t-0123456789", "token_type": "bearer", "expires_in": 60}')
    oauth.forget_all()
    with Target(lambda received: token) as issuer, Target(echo) as target:
        credentials = Credentials(issuer.url, "deck", "hush-hush")
        [outcome] = call(target.url, request(), oauth=credentials)
    assert target.requests[0].headers["authorization"] == "Bearer t-0123456789"
    assert "t-0123456789" not in outcome.answer
    assert "***" in outcome.answer


def test_short_value_of_a_header_is_no_secret():
    with Target(lambda received: status(400, b"no product")) as target:
        [outcome] = call(target.url, headers={"X-Env": "prod"})
    assert outcome.answer == "no product"
