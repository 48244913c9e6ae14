"""A task's own page in a real browser: what moves, moves; what is looked at or held stays."""

import pytest
from playwright.sync_api import expect

from operators.actor import Actor
from scheduling import demo, models, store
from scheduling.core import clock
from scheduling.intake import allocation
from tests.browser.test_board import LOOKS, assert_fits
from tests.browser.test_pages import _fail_some

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def task() -> models.Task:
    """A list of 50 whose minutes have come, with five that failed."""
    now = store.now()
    queue, _ = models.Queue.objects.get_or_create(name="default", defaults={"rpm": 120, "created_at": now})
    then = now - 2 * clock.QUARTER
    made = demo.submit("default", "Spring renewals", list(range(1, 51)), by=Actor.system(), now=lambda: then)
    allocation.write_segments(lambda: then)
    _fail_some(models.Bucket.objects.filter(waiting_count__gt=0).first(), queue)
    return made


def fail_five_more() -> None:
    bucket = models.Bucket.objects.filter(waiting_count__gt=0).first()
    _fail_some(bucket, models.Queue.objects.get())


def fail_the_rest() -> None:
    while models.Bucket.objects.filter(waiting_count__gt=0).exists():
        fail_five_more()


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_task_counts_and_bars_update_without_a_reload(open_page, task, size, scheme):
    page = open_page(f"/dashboard/tasks/{task.pk}/", size=size, scheme=scheme)
    expect(page.locator("#task")).to_contain_text("5 failed")
    page.evaluate("window.stayed = true")

    fail_five_more()

    expect(page.locator("#task")).to_contain_text("10 failed")
    expect(page.locator("#act-retry")).to_contain_text("Retry 10 failed")
    expect(page.locator("[data-live-words]")).to_have_text("live")
    assert page.evaluate("window.stayed")
    assert_fits(page)


def test_focus_and_rows_stay_in_place_during_updates(open_page, task):
    page = open_page(f"/dashboard/tasks/{task.pk}/?status=failed")
    expect(page.locator("#ids tbody tr")).to_have_count(5)
    page.locator("#to-failures").focus()
    acts = {
        act: page.locator(act).bounding_box() for act in ("#act-replace", "#act-send-again", "#act-cancel")
    }

    fail_five_more()

    expect(page.locator("#task")).to_contain_text("10 failed")
    expect(page.locator("#to-failures")).to_be_focused()
    expect(page.locator("#ids tbody tr")).to_have_count(5)
    assert {act: page.locator(act).bounding_box() for act in acts} == acts
    page.get_by_role("link", name="refresh").click()
    expect(page.locator("#ids tbody tr")).to_have_count(10)


def test_name_being_typed_survives_an_update(open_page, task):
    page = open_page(f"/dashboard/tasks/{task.pk}/")
    page.get_by_role("textbox", name="Name").fill("Summer ren")

    fail_five_more()

    expect(page.locator("#task")).to_contain_text("10 failed")
    expect(page.get_by_role("textbox", name="Name")).to_have_value("Summer ren")


def test_hidden_tab_does_not_poll(open_page, task):
    page = open_page(f"/dashboard/tasks/{task.pk}/")
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
    page.wait_for_timeout(500)
    polls = []
    page.on("request", lambda request: polls.append(request.url))

    fail_five_more()
    page.wait_for_timeout(4500)

    assert polls == []
    expect(page.locator("#task")).not_to_contain_text("10 failed")


def test_polling_ends_with_the_task(open_page, task):
    page = open_page(f"/dashboard/tasks/{task.pk}/")
    expect(page.locator("[data-live-words]")).to_have_text("live")

    fail_the_rest()

    expect(page.locator("[data-live-words]")).to_have_text("final")
    expect(page.locator("#task .state")).to_contain_text("done")
    polls = []
    page.on("request", lambda request: polls.append(request.url))
    page.wait_for_timeout(4500)
    assert polls == []


def test_lost_connection_is_shown(open_page, task):
    page = open_page(f"/dashboard/tasks/{task.pk}/")
    expect(page.locator("[data-live-words]")).to_have_text("live")

    page.route("**/dashboard/tasks/**", lambda route: route.abort())

    expect(page.locator("[data-live-words]")).to_contain_text("connection lost")
    expect(page.locator("[data-live]")).to_contain_class("lost")
    open_page.errors[:] = [
        error for error in open_page.errors if not error.startswith(("Failed to load", "htmx:"))
    ]


def test_task_page_is_complete_without_javascript_and_shows_its_time(open_page, task):
    page = open_page(f"/dashboard/tasks/{task.pk}/", javascript=False)

    expect(page.locator("#task")).to_contain_text("5 failed")
    expect(page.locator("#ids")).to_contain_text("as of")
    fail_five_more()
    page.get_by_role("link", name="refresh").click()
    expect(page.locator("#task")).to_contain_text("10 failed")
