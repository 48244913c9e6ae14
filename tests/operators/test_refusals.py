"""Who tried what they may not do: the activity log says so."""

import pytest

from scheduling import models

pytestmark = pytest.mark.django_db


def refusals() -> list[tuple]:
    return [
        (line.actor_kind, line.actor_name, line.after)
        for line in models.Activity.objects.filter(verb="refused").order_by("pk")
    ]


def test_refused_action_of_a_viewer_is_logged(client, make_operator):
    client.force_login(make_operator("viewer"))
    assert client.get("/dashboard/upload/").status_code == 403
    path = {"method": "GET", "path": "/dashboard/upload/"}
    assert refusals() == [("operator", "viewer", path)]
    # Once a minute is enough.
    client.get("/dashboard/upload/")
    assert len(refusals()) == 1


def test_refused_action_of_a_token_is_logged(client, make_token):
    headers = {"Authorization": f"Bearer {make_token('read', name='reporting')}"}
    assert client.post("/queues/", headers=headers).status_code == 403
    assert refusals() == [("token", "reporting", {"method": "POST", "path": "/queues/"})]


def test_refused_anonymous_requests_are_not_logged(client):
    assert client.post("/sign-in/", headers={"Cookie": ""}).status_code in (200, 403)
    assert client.post("/queues/").status_code == 401
    assert refusals() == []
