"""Help and the palette, by keyboard."""

import pytest
from playwright.sync_api import expect

from scheduling import models, store
from tests.browser.test_board import assert_fits, place

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def queue() -> None:
    models.Queue.objects.get_or_create(name="default", defaults={"rpm": 120, "created_at": store.now()})


@pytest.mark.parametrize("size", ["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_question_mark_opens_help(open_page, size, scheme):
    page = open_page("/dashboard/tasks/", size=size, scheme=scheme)

    page.keyboard.press("?")

    page.wait_for_url("**/dashboard/help/")
    expect(page.get_by_role("heading", name="Terms")).to_be_visible()
    expect(page.locator("main")).to_contain_text("Late IDs take the next free places")
    assert_fits(page)


def test_question_mark_typed_in_a_field_does_not_open_help(open_page):
    page = open_page("/dashboard/tasks/")
    page.locator("#id_q").fill("")
    page.locator("#id_q").press("?")

    expect(page.locator("#id_q")).to_have_value("?")
    assert page.url.endswith("/dashboard/tasks/")


def test_palette_opens_pages_and_ids(open_page):
    page = open_page("/dashboard/")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("dialog", name="Go to")).to_be_visible()
    page.keyboard.type("hist")
    expect(page.get_by_role("option")).to_have_count(1)
    assert_fits(page)
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/history/**")

    page.keyboard.press("Control+k")
    page.keyboard.type("4711")
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/ids/4711/")
    page.keyboard.press("Control+k")
    page.keyboard.type("defa")
    expect(page.get_by_role("option", name="default queue")).to_be_visible()
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/queues/default/")
    page.keyboard.press("Control+k")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Go to")).to_be_hidden()


def test_chart_is_one_stop_of_the_tab_key(open_page):
    place(120)
    page = open_page("/dashboard/")

    page.locator("#fill-0").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator("#fill-1")).to_be_focused()
    page.keyboard.press("End")
    expect(page.locator("#fill-14")).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.plot')") is None
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.closest('.plot')") is not None
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.closest('#filling .plot')") is None
