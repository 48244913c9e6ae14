"""The recipes of docs/requests.md: each is created by API, and sends the request that the page shows."""

import json
import re
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
import uvloop

from scheduling import models
from scheduling.core.retry import Verdict
from scheduling.handlers import factory
from scheduling.handlers.base import Request
from scheduling.queues import validation
from settings.place import BASE_DIR
from tests.scheduling.target import Target, status

PAGE = (BASE_DIR / "docs" / "requests.md").read_text()
RECIPES = re.findall(r"```json recipe\n(.*?)```\n\n```http\n(.*?)```", PAGE, re.DOTALL)

pytestmark = pytest.mark.django_db


def test_page_has_three_recipes_and_names_every_field_of_a_request():
    assert len(RECIPES) == 3
    listed = set(re.findall(r"`([a-z_]+)`", PAGE.split("## The fields")[1].split("\n## ")[0]))
    own = ("webhook_", "success_", "retry_", "keep_")
    assert {name for name in validation.FIELDS if name.startswith(own)} <= listed


@pytest.mark.parametrize(
    ("fields", "request_text"), RECIPES, ids=[json.loads(recipe[0])["name"] for recipe in RECIPES]
)
def test_recipe_sends_the_request_that_the_page_shows(api, settings, fields, request_text):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    values = json.loads(fields)
    head, _, body = request_text.partition("\n\n")
    line, *headers = head.splitlines()
    answer = status(202, b'{"message": {"id": "m-1"}}')
    with Target(lambda request: answer) as target:
        # The page's host is elsewhere; what comes after it is what counts.
        url = re.sub(r"https://[^/]+", f"http://127.0.0.1:{target.port}", values["webhook_url"])
        created = api.send("POST", "/queues/", values | {"webhook_url": url})
        assert created.status_code == 201, created.content
        queue = models.Queue.objects.get(name=values["name"])

        async def send():
            handler = factory.make_handler(queue)
            at = datetime(2026, 11, 25, 12, 17, tzinfo=UTC)
            [outcome] = await handler.handle(
                [Request(1029, 7, "November", queue.name, at, 1, "5f2c9a1b7d3e")]
            )
            await handler.close()
            return outcome

        outcome = uvloop.run(send())
    assert outcome.verdict == Verdict.SUCCEEDED
    assert outcome.keep_answer == ("keep_answers" in values)
    if outcome.keep_answer:
        assert outcome.answer == "m-1"
    [request] = target.requests
    assert f"{request.method} {request.path} HTTP/1.1" == line
    assert dict(header.split(": ", 1) for header in headers).items() <= request.headers.items()
    assert ("webhook-signature" in request.headers) == bool(values.get("webhook_secret"))
    assert (json.loads(request.body) if request.body else None) == (
        json.loads(body) if body.strip() else None
    )
