"""Hours and budgets that would leave a queue no minute are refused where they are set."""

from datetime import UTC, datetime

import pytest

from scheduling import models
from scheduling.core.errors import BadFields
from scheduling.placement import reservations

pytestmark = pytest.mark.django_db
URL, ORIGIN = "https://hook.test/in", "https://hook.test:443"
MONDAY, SATURDAY = ({"zone": "UTC", "open": [f"{day} 09:00-10:00"]} for day in ("mon", "sat"))


@pytest.fixture
def mondays(api) -> str:
    """The path of a queue that is open on Mondays."""
    made = api.send(
        "POST",
        "/queues/",
        {"name": "w", "handler": "webhook", "webhook_url": URL, "hours": MONDAY, "rpm": 60},
    )
    assert made.status_code == 201, made.content
    return "/queues/w/"


def assert_refused(response) -> None:
    assert response.status_code == 422, response.content
    assert [error["field"] for error in response.json()["errors"]] == ["hours"]
    assert "ten years" in response.json()["detail"]


def test_budget_whose_hours_no_queue_shares_is_refused(api, mondays):
    assert_refused(api.send("POST", "/targets/", {"origin": ORIGIN, "rpm": 10, "hours": SATURDAY}))
    assert not models.Target.objects.exists()
    made = api.send("POST", "/targets/", {"origin": ORIGIN, "rpm": 10, "hours": MONDAY})
    path = f"/targets/{made.json()['id']}/"
    assert_refused(api.send("PATCH", path, {"hours": SATURDAY}))
    assert_refused(api.send("PATCH", f"{path}?dry_run=true", {"hours": SATURDAY}))
    assert models.Target.objects.get().hours == MONDAY


def test_hours_and_headroom_of_a_queue_have_to_fit_those_of_its_target(api, mondays):
    api.send("POST", "/targets/", {"origin": ORIGIN, "rpm": 10, "hours": MONDAY})
    for change in ({"hours": SATURDAY}, {"headroom": 10}):
        assert_refused(api.send("PATCH", mondays, change))
        assert_refused(api.send("PATCH", f"{mondays}?dry_run=true", change))
    other = {"name": "other", "handler": "webhook", "webhook_url": URL, "hours": SATURDAY}
    assert_refused(api.send("POST", "/queues/", other))
    assert not models.Queue.objects.filter(name="other").exists()
    assert api.send("PATCH", mondays, {"headroom": 9}).status_code == 200


def test_shared_hours_change_together_for_queue_and_target(api, mondays):
    api.send("POST", "/hours/", {"name": "office", **MONDAY})
    api.send("PATCH", mondays, {"hours": "office"})
    target = api.send("POST", "/targets/", {"origin": ORIGIN, "rpm": 10, "hours": "office"}).json()
    assert api.send("PATCH", "/hours/office/", SATURDAY).status_code == 200
    api.send("PATCH", f"/targets/{target['id']}/", {"hours": SATURDAY})
    assert_refused(api.send("PATCH", "/hours/office/", MONDAY))
    assert models.Queue.objects.get(name="w").hours == SATURDAY


def test_search_for_a_free_place_ends(mondays):
    """An earlier release has stored what is refused now."""
    target = models.Target.objects.create(origin=ORIGIN, rpm=10, hours=SATURDAY)
    queue = models.Queue.objects.get(name="w")
    queue.target = target
    with pytest.raises(BadFields, match="ten years"):
        list(reservations.free(queue, 1, datetime(2026, 12, 1, 12, tzinfo=UTC)))


@pytest.mark.parametrize("start", ["next_window", "first_free"])
def test_list_for_a_queue_that_never_opens_is_refused(api, mondays, start):
    target = models.Target.objects.create(origin=ORIGIN, rpm=10, hours=SATURDAY)
    models.Queue.objects.filter(name="w").update(target=target)
    assert_refused(api.list([1, 2], query=f"?task_name=x&queue=w&start={start}"))
