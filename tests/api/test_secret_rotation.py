"""A secret is replaced with an overlap, in which requests carry a signature by each."""

import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
import uvloop
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from scheduling import models, store
from scheduling.handlers import factory
from scheduling.handlers.base import Request
from scheduling.queues import operations, secrets_at_rest
from tests.scheduling.target import Target

pytestmark = pytest.mark.django_db

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ROTATE = "/queues/default/rotate_secret/"


def verified_by(request, *secrets: str) -> list[bool]:
    def verifies(secret: str) -> bool:
        try:
            Verifier(secret).verify(request.body, request.headers)
        except WebhookVerificationError:
            return False
        return True

    return [verifies(secret) for secret in secrets]


def send(target: Target):
    models.Queue.objects.update(handler="webhook", webhook_url=target.url)
    queue = models.Queue.objects.get(name="default")

    async def run():
        handler = factory.make_handler(queue)
        await handler.handle([Request(1, 7, "a list", "q", datetime(2026, 11, 25, 12, 17, tzinfo=UTC), 1)])
        await handler.close()

    uvloop.run(run())
    return target.requests[-1]


def test_rotated_secret_is_shown_once_and_both_sign_during_the_overlap(api, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    models.Queue.objects.update(webhook_secret=OLD)
    with Target() as target:
        response = api.send("POST", ROTATE, {"secret": None, "overlap_seconds": 3_600})
        assert response.status_code == 200, response.content
        new = response.json()["webhook_secret"]
        until = datetime.fromisoformat(response.json()["previous_until"])
        assert timedelta(minutes=59) < until - store.now() <= timedelta(minutes=60)
        assert verified_by(send(target), OLD, new) == [True, True]
        models.Queue.objects.update(webhook_previous_secret_until=store.now() - timedelta(seconds=1))
        assert verified_by(send(target), OLD, new) == [False, True]
    for secret in (OLD, new):
        assert secret not in api.get("/queues/default/").content.decode()
        assert secret not in json.dumps(list(models.Activity.objects.values()), default=str)


def test_given_secret_replaces_at_once_without_an_overlap(api, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    models.Queue.objects.update(webhook_secret=OLD)
    new = "whsec_" + "A" * 44
    with Target() as target:
        response = api.send("POST", ROTATE, {"secret": new, "overlap_seconds": 0})
        assert response.json()["webhook_secret"] == new
        assert verified_by(send(target), OLD, new) == [False, True]


def test_second_rotation_within_the_overlap_leaves_the_first_secret_signing(api, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    models.Queue.objects.update(webhook_secret=OLD)

    def rotate(seconds: int) -> str:
        response = api.send("POST", ROTATE, {"secret": None, "overlap_seconds": seconds})
        return response.json()["webhook_secret"]

    with Target() as target:
        # The response of the first one was lost.
        lost, new = rotate(3_600), rotate(60)
        sent = send(target)
        assert verified_by(sent, OLD, lost, new) == [True, True, True]
        assert sent.headers["webhook-signature"].count("v1,") == 3
        later = store.now() + timedelta(seconds=90)
        assert secrets_at_rest.forget_earlier(at=later) == 1
        assert secrets_at_rest.forget_earlier(at=later) == 0
        assert verified_by(send(target), OLD, lost, new) == [True, False, True]
        newest = rotate(0)
        assert verified_by(send(target), OLD, lost, new, newest) == [False, False, False, True]
    assert secrets_at_rest.forget_earlier(at=later) == 1
    queue = models.Queue.objects.get(name="default")
    assert (queue.webhook_secret, queue.earlier_secrets) == (newest, [])


def test_rotation_is_refused_while_too_many_earlier_secrets_sign(api):
    models.Queue.objects.update(webhook_secret=OLD)
    statuses = [api.send("POST", ROTATE, {}).status_code for _ in range(operations.MOST_EARLIER_SECRETS)]
    assert statuses == [200] * 5
    refused = api.send("POST", ROTATE, {})
    assert refused.status_code == 422
    assert "5 earlier secrets still sign" in refused.json()["detail"]
    assert api.send("POST", ROTATE, {"overlap_seconds": 0}).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"secret": "secret"}, "webhook_secret"),
        ({"secret": ""}, "secret"),
        ({"overlap_seconds": -1}, "overlap_seconds"),
        ({"overlap_seconds": 10**9}, "overlap_seconds"),
        ({"overlap": 5}, "overlap"),
    ],
)
def test_bad_rotation_is_refused_and_changes_nothing(api, body, field):
    models.Queue.objects.update(webhook_secret=OLD)
    response = api.send("POST", ROTATE, body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field
    assert models.Queue.objects.get(name="default").webhook_secret == OLD
