"""Shared hours by the API."""

import pytest

from scheduling import models
from tests.deletions import deleted_after_first_read

pytestmark = pytest.mark.django_db
OFFICE = {"zone": "Europe/Berlin", "open": ["mon-fri 09:00-18:00"], "closed": ["2026-12-25"]}


def test_hours_are_made_read_changed_and_deleted(api, queue):
    made = api.send("POST", "/hours/", {"name": "office", **OFFICE})
    assert made.status_code == 201
    assert made.json() == {
        "name": "office",
        **OFFICE,
        "queues": [],
        "targets": [],
        "date_created": made.json()["date_created"],
    }
    assert made["Location"].endswith("office/")
    assert api.send("POST", "/hours/", {"name": "office", **OFFICE}).json()["type"].endswith(":name-taken")
    named = api.send("PATCH", f"/queues/{queue.name}/", {"hours": "office"}).json()
    assert named["hours"] == "office"
    assert api.send("PATCH", f"/queues/{queue.name}/", named).status_code == 200
    assert api.get("/hours/").json()[0]["queues"] == [queue.name]

    change = {"open": ["mon-fri 10:00-16:00"]}
    (effect,) = api.send("PATCH", "/hours/office/?dry_run=true", change).json()
    assert (effect["queue"], effect["moved"]) == (queue.name, 0)
    changed = api.send("PATCH", "/hours/office/", change)
    assert changed.json()["open"] == change["open"]
    assert changed.json()["closed"] == OFFICE["closed"]
    assert api.get("/hours/office/")["ETag"] == changed["ETag"]
    assert api.send("PATCH", "/hours/office/", api.get("/hours/office/").json()).status_code == 200

    refused = api.delete("/hours/office/")
    assert refused.status_code == 409
    assert queue.name in refused.json()["detail"]
    api.send("PATCH", f"/queues/{queue.name}/", {"hours": None})
    assert api.delete("/hours/office/").status_code == 204
    assert api.get("/hours/office/").status_code == 404


def test_target_has_shared_hours_by_their_name(api):
    api.send("POST", "/hours/", {"name": "office", **OFFICE})
    made = api.send("POST", "/targets/", {"origin": "https://a.test", "hours": "office"})
    assert (made.status_code, made.json()["hours"]) == (201, "office")
    path = f"/targets/{made.json()['id']}/"
    assert api.send("PATCH", path, made.json()).status_code == 200
    assert api.get("/hours/office/").json()["targets"] == ["https://a.test:443"]

    change = {"open": ["mon-fri 10:00-16:00"]}
    (effect,) = api.send("PATCH", "/hours/office/?dry_run=true", change).json()
    assert (effect["queue"], effect["target"], effect["moved"]) == (None, "https://a.test:443", 0)
    api.send("PATCH", "/hours/office/", change)
    assert models.Target.objects.get().hours["open"] == change["open"]

    refused = api.delete("/hours/office/")
    assert refused.status_code == 409
    assert "https://a.test:443" in refused.json()["detail"]
    unknown = api.send("PATCH", path, {"hours": "nights"})
    assert [error["field"] for error in unknown.json()["errors"]] == ["hours"]
    own = api.send("PATCH", path, {"hours": OFFICE})
    assert own.json()["hours"] == OFFICE
    assert api.delete("/hours/office/").status_code == 204


def test_hours_that_cannot_be_meant_are_refused(api, queue):
    assert api.send("POST", "/hours/", {"name": "x", "open": ["always"]}).status_code == 422
    assert api.send("POST", "/hours/", {"name": "x y", **OFFICE}).status_code == 422
    assert api.send("POST", "/hours/", {"name": "x", **OFFICE, "opens": []}).status_code == 422
    unknown = api.send("PATCH", f"/queues/{queue.name}/", {"hours": "nights"})
    assert unknown.json()["errors"][0]["field"] == "hours"


def test_deletion_of_what_somebody_has_just_deleted_is_404(api, queue):
    api.send("POST", "/hours/", {"name": "office", **OFFICE})
    with deleted_after_first_read(models.Hours.objects.get()):
        response = api.delete("/hours/office/")
    assert (response.status_code, response.json()["detail"]) == (404, "It has been deleted in the meantime.")

    api.send("POST", "/queues/", {"name": "old"})
    with deleted_after_first_read(models.Queue.objects.get(name="old")):
        assert api.delete("/queues/old/").status_code == 404
