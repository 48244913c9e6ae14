"""What the palette (Ctrl K) finds, and the titles of pages in browser tabs."""

import re

import pytest

from operators.models import SavedView
from scheduling import models, store
from scheduling.core import clock

pytestmark = pytest.mark.django_db


def matches(client, text: str) -> list[tuple[str, str]]:
    return [(kind, name) for kind, name, _ in client.get("/dashboard/go-to/", {"q": text}).json()["found"]]


def title(client, path: str) -> str:
    return re.search(r"<title>(.*?) \|", client.get(f"/dashboard/{path}").content.decode(), re.DOTALL)[
        1
    ].strip()


def test_queues_tasks_and_views_are_found_by_their_names(place, sign_in):
    place([1], name="crm export")
    models.Queue.objects.create(name="crm", rpm=5, created_at=store.now())
    client = sign_in("operator")
    client.post("/dashboard/account/views/", {"page": "tasks", "name": "all crm", "query": "queue=crm"})

    assert matches(client, "crm") == [
        ("queue", "crm"),
        ("board", "crm"),
        ("pause or brake", "crm"),
        ("view of tasks", "all crm"),
        ("task", "crm export"),
    ]
    assert matches(client, "") == []


def test_text_ids_and_numbers_of_tasks_are_found(place, sign_in):
    task = place([1], name="a list")
    models.ExternalId.objects.create(pk=-1, external_id="Zo\u00eb/1")
    client = sign_in("viewer")

    assert matches(client, str(task.pk)) == [(f"task {task.pk}", "a list")]
    assert matches(client, "Zoe\u0308/1") == [("ID", "Zo\u00eb/1")]
    address = client.get("/dashboard/go-to/", {"q": "Zo\u00eb/1"}).json()["found"][0][2]
    assert client.get(address).status_code == 200
    assert matches(client, "9" * 30) == matches(client, "nobody") == []
    assert "nobody” was never received" in client.get("/dashboard/ids/?q=nobody").content.decode()


def test_every_address_that_is_found_is_a_page(place, sign_in):
    place([1], name="default list")
    client = sign_in("operator")
    client.post("/dashboard/account/views/", {"page": "tasks", "name": "default", "query": "queue=default"})

    addresses = [href for _, _, href in client.get("/dashboard/go-to/?q=default").json()["found"]]

    assert len(addresses) == 5
    assert all(client.get(address).status_code == 200 for address in addresses)


def test_palette_offers_a_viewer_no_actions_and_no_views_of_others(place, sign_in):
    client = sign_in("operator")
    client.post("/dashboard/account/views/", {"page": "tasks", "name": "default", "query": "queue=default"})
    assert SavedView.objects.exists()

    assert matches(sign_in("viewer"), "default") == [("queue", "default"), ("board", "default")]


def test_titles_tell_tabs_apart(place, sign_in):
    task = place([1], name="a list")
    client = sign_in("viewer")
    day, minute = f"{task.first_minute_at:%Y-%m-%d}", f"{task.first_minute_at:%Y-%m-%dT%H:%MZ}"
    window = f"{task.first_minute_at - clock.QUARTER:%Y-%m-%dT%H:%MZ}"

    paths = [
        "",
        "?queue=*",
        "tasks/",
        "tasks/?state=placed",
        "tasks/?state=placed&queue=default",
        f"tasks/{task.pk}/",
        "failures/",
        "failures/?status=404",
        "queues/",
        "queues/default/",
        f"history/{day}/",
        f"history/{day}/?queue=default",
        f"minutes/{minute}/",
        f"minutes/{minute}/?queue=default",
        f"windows/default/{window}/",
        f"drill-down/?queue=default&window={window}",
        f"drill-down/?queue=*&window={window}",
        "proof/",
        "activity/",
        "account/",
        "help/",
    ]
    titles = [title(client, path) for path in paths]

    assert len(set(titles)) == len(titles), titles
    assert titles[0] == "default: board"
    assert titles[4] == "Tasks: placed, default"


def test_title_has_the_label_of_the_instance(queue, sign_in, settings):
    settings.INSTANCE_LABEL = "staging"

    assert "| Quarterdeck staging</title>" in sign_in("viewer").get("/dashboard/").content.decode()
