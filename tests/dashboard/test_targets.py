"""The page of targets: what a form says before it saves a budget, and how much of it is used."""

import pytest

from operators.actor import Actor
from scheduling import models, store
from scheduling.queues import operations, targets

pytestmark = pytest.mark.django_db
ORIGIN = "https://api.vendor.example:443"
URL = "https://api.vendor.example/in"
BY = Actor.command_line()


@pytest.fixture
def vendor(queue, place):
    """A queue that sends to the vendor, with ten IDs in the fullest minute of its next quarter-hour."""
    changes = {"handler": "webhook", "webhook_url": URL, "rpm": 10}
    operations.update(queue, changes, by=BY, now=store.now)
    place(range(1, 31))
    return queue


def text_of(answer) -> str:
    return " ".join(answer.content.decode().split())


def test_form_asks_for_the_contract_and_says_why_rpm_is_less(vendor, sign_in):
    page = text_of(sign_in("operator").get("/dashboard/targets/"))
    assert "Requests that the vendor&#x27;s contract allows in 60 seconds" in page
    assert "3,000 sets rpm to 2,999" in page
    assert "No target has a budget." in page


def test_budget_that_moves_ids_says_so_before_it_is_saved(vendor, sign_in):
    client = sign_in("operator")
    sent = {"origin": ORIGIN, "limit_per_60s": "6", "hours": "", "quotas": ""}
    shown = client.post("/dashboard/targets/", sent)
    assert "would get a later minute" in text_of(shown)
    assert not models.Target.objects.exists()
    moves = shown.context["effect"].moved_count
    assert moves
    saved = client.post("/dashboard/targets/", {**sent, "moves": moves}, follow=True)
    target = models.Target.objects.get()
    assert (target.origin, target.rpm) == ("https://api.vendor.example:443", 5)
    assert "is saved" in text_of(saved)
    entry = models.Activity.objects.latest("pk")
    assert (entry.verb, entry.object_name, entry.after["rpm"]) == ("created", target.origin, 5)


def test_page_of_a_target_shows_its_use_and_changes_it(vendor, sign_in):
    target = targets.create(origin=ORIGIN, fields={"rpm": 60}, by=BY, now=store.now)
    client = sign_in("operator")
    path = f"/dashboard/targets/{target.pk}/"
    page = client.get(path)
    assert page.context["uses"][0].peak == 10
    assert 'value="61"' in text_of(page)
    stale = client.post(path, {"limit_per_60s": "101", "version": target.version - 1})
    assert stale.status_code == 422
    assert client.post(path, {"limit_per_60s": "101", "version": target.version}).status_code == 302
    target.refresh_from_db()
    assert target.rpm == 100
    assert client.post(f"{path}end/").status_code == 302
    assert client.get(path).status_code == 404
    vendor.refresh_from_db()
    assert vendor.target is None


def test_form_keeps_wrong_values_and_names_them(vendor, sign_in):
    client = sign_in("operator")
    answer = client.post("/dashboard/targets/", {"origin": "vendor", "limit_per_60s": "6"})
    assert answer.status_code == 422
    assert "It must be scheme, host and port" in text_of(answer)
    answer = client.post("/dashboard/targets/", {"origin": ORIGIN})
    assert "A budget needs rpm, hours or quotas." in text_of(answer)


def test_board_shows_how_much_of_a_budget_is_planned(vendor, sign_in):
    targets.create(origin=ORIGIN, fields={"rpm": 60}, by=BY, now=store.now)
    page = text_of(sign_in("viewer").get("/dashboard/ahead/"))
    assert "0 of 60 requests this minute" in page
    assert ">10</a> in a minute of the next half hour" in page


def test_page_of_a_queue_names_the_budget_that_it_shares(vendor, sign_in):
    targets.create(origin=ORIGIN, fields={"rpm": 60}, by=BY, now=store.now)
    page = text_of(sign_in("viewer").get(f"/dashboard/queues/{vendor.name}/"))
    assert "budget of https://api.vendor.example:443</a>" in page
    assert "60 requests a minute together" in page


def test_share_of_a_list_shows_its_cost_before_it_is_saved(queue, sign_in):
    client = sign_in("operator")
    operations.update(queue, {"overflow": "carry_over"}, by=BY, now=store.now)
    address = f"/dashboard/queues/{queue.name}/"
    form = client.get(address).context["form"]
    shown = {field.html_name: field.value() for field in form}
    sent = {name: "" if value is None else value for name, value in shown.items()}
    sent |= {"webhook_headers": "", "max_share_percent": "60"}
    page = text_of(client.post(address, sent))
    assert "A list of 10,000 IDs that is placed now would be done at" in page
    assert "and leaves 48 places in each minute for others" in page
    queue.refresh_from_db()
    assert queue.max_share_percent == 100
    assert client.post(address, {**sent, "moves": "0"}).status_code == 302
    queue.refresh_from_db()
    assert queue.max_share_percent == 60
