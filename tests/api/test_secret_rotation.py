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
