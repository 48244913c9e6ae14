"""Shared hours, by their pages and by the settings of a queue."""

import re

import pytest

from scheduling import models
from tests.dashboard.test_queues import fields
from tests.deletions import deleted_after_first_read

pytestmark = pytest.mark.django_db
OFFICE = "Europe/Berlin\nmon-fri 09:00-18:00\nclosed 2026-12-25"
FORM = {"zone": "Europe/Berlin", "open": ["mon-fri 09:00-18:00"], "closed": ["2026-12-25"]}


@pytest.fixture
def office(queue, sign_in):
    client = sign_in("operator")
    made = client.post("/dashboard/hours/", {"name": "office", "hours": OFFICE})
    assert made.status_code == 302
    return client


def test_hours_are_made_changed_and_deleted_on_their_pages(office):
    hours = models.Hours.objects.get()
    assert (hours.name, hours.form) == ("office", FORM)
    page = office.get("/dashboard/hours/office/")
    assert page.context["form"]["hours"].value() == OFFICE

    office.post("/dashboard/hours/office/", {"hours": "UTC\nsun 10:00-12:00", "version": 1})
    hours.refresh_from_db()
    assert hours.form == {"zone": "UTC", "open": ["sun 10:00-12:00"]}
    stale = office.post("/dashboard/hours/office/", {"hours": OFFICE, "version": 1})
    assert stale.status_code == 422
    wrong = office.post("/dashboard/hours/office/", {"hours": "UTC\nalways", "version": 2})
    assert "not a span" in wrong.content.decode()

    office.post("/dashboard/hours/office/", {"delete": "yes"})
    assert not models.Hours.objects.exists()


def test_labels_of_new_hours_end_as_those_of_other_forms_do(office):
    page = office.get("/dashboard/hours/").content.decode()
    assert re.findall(r"<label[^>]*>(Name|Hours)(:?)</label>", page) == [("Name", ""), ("Hours", "")]


def test_queue_takes_shared_hours_from_a_list_and_keeps_them_in_use(office):
    office.post("/dashboard/queues/default/", fields(office) | {"shared": "office"})
    queue = models.Queue.objects.get()
    assert (queue.named_hours, queue.hours) == ("office", FORM)

    office.post("/dashboard/hours/office/", {"delete": "yes"})
    assert models.Hours.objects.exists()
    assert "default" in office.get("/dashboard/hours/office/").content.decode()

    office.post("/dashboard/queues/default/", fields(office) | {"shared": "", "hours": ""})
    queue.refresh_from_db()
    assert (queue.named_hours, queue.hours) == (None, None)


def test_change_of_shared_hours_shows_first_what_it_moves(office, place):
    # Two days of minutes: in hours that close one of them, some no longer fit.
    models.Queue.objects.update(overflow="carry_over", rpm=1)
    place(range(1, 2_901))
    always = "UTC\nmon-sun 00:00-24:00"
    office.post("/dashboard/hours/", {"name": "always", "hours": always})
    office.post("/dashboard/queues/default/", fields(office) | {"shared": "always"})
    nights = {"hours": "UTC\nmon-sun 00:00-06:00", "version": 1}

    shown = office.post("/dashboard/hours/always/", nights)
    assert shown.status_code == 200
    assert shown.context["moved"] > 0
    assert "Nothing is saved yet" in shown.content.decode()
    assert models.Hours.objects.get(name="always").version == 1

    saved = office.post("/dashboard/hours/always/", nights | {"moves": shown.context["moved"]})
    assert saved.status_code == 302
    assert models.Queue.objects.get().hours["open"] == ["mon-sun 00:00-06:00"]


def test_disperse_queue_with_a_quota_says_so_when_it_is_saved(office):
    quotas = '[{"limit": 100, "per": "day"}]'
    page = office.post("/dashboard/queues/default/", fields(office) | {"quotas": quotas}, follow=True)
    assert "disperses and has a quota" in page.content.decode()
    again = office.post("/dashboard/queues/default/", fields(office) | {"max_attempts": 3}, follow=True)
    assert "disperses and has a quota" not in again.content.decode()


def test_page_of_what_somebody_has_just_deleted_says_so(office):
    with deleted_after_first_read(models.Hours.objects.get()):
        page = office.post("/dashboard/hours/office/", {"delete": "yes"})
    assert page.status_code == 404
    assert "It has been deleted in the meantime." in page.content.decode()
