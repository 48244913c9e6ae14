"""The board in a real browser: light and dark, at a desk and on a phone."""

import re
import time
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from operators.actor import Actor
from scheduling import allocation, clock, demo, models, store

pytestmark = pytest.mark.django_db(transaction=True)
LOOKS = [(size, scheme) for size in ("desk", "phone") for scheme in ("light", "dark")]


def place(count: int, name: str = "a list", first: int = 1) -> models.Task:
    # In a window's last seconds a list goes into the next one, which the board doesn't draw yet.
    while clock.quarter_start(store.now() + timedelta(seconds=15)) > clock.quarter_start(store.now()):
        time.sleep(1)
    models.Queue.objects.get_or_create(name="default", defaults={"rpm": 120, "created_at": store.now()})
    task = demo.submit("default", name, list(range(first, first + count)), by=Actor.system(), now=store.now)
    allocation.run(store.now)
    return task


def assert_fits(page) -> None:
    """Nothing is cut off at the side, and axe has nothing to say."""
    width = page.locator("html").evaluate("html => html.scrollWidth")
    assert width <= page.viewport_size["width"]
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_a_board_that_is_past_rpm_says_so_in_words_and_has_no_axe_violation(open_page, size, scheme):
    place(120 * 15 + 30)

    page = open_page("/dashboard/", size=size, scheme=scheme)

    expect(page.locator("#board")).to_contain_text("2 over 120")
    expect(page.locator("#fill-0 rect.past")).to_have_count(1)
    assert_fits(page)


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_an_empty_board_says_what_to_do_first(open_page, size, scheme):
    models.Queue.objects.get_or_create(name="default", defaults={"rpm": 120, "created_at": store.now()})

    page = open_page("/dashboard/", size=size, scheme=scheme)

    expect(page.get_by_role("heading", name="Nothing is planned yet")).to_be_visible()
    assert_fits(page)


def test_a_list_that_comes_in_is_seen_without_a_reload(open_page):
    place(10)
    page = open_page("/dashboard/")
    expect(page.locator("#board")).to_contain_text("10 IDs")

    place(32, first=1000)

    expect(page.locator("#board")).to_contain_text("42 IDs", timeout=4000)
    expect(page.locator("[data-live-words]")).to_have_text(re.compile("updated"))


def test_paused_updates_stay_paused_and_say_so(open_page):
    place(10)
    page = open_page("/dashboard/")

    page.get_by_role("button", name="Pause updates").click()
    place(32, first=1000)
    page.wait_for_timeout(2500)

    expect(page.locator("#board")).not_to_contain_text("42 IDs")
    expect(page.locator("[data-live-words]")).to_contain_text("updates paused")
    page.get_by_role("button", name="Resume updates").click()
    expect(page.locator("#board")).to_contain_text("42 IDs", timeout=4000)


def test_a_lost_connection_is_said_and_its_return_too(open_page):
    place(10)
    page = open_page("/dashboard/")

    page.context.set_offline(True)
    expect(page.locator("[data-live]")).to_have_class(re.compile("lost"), timeout=8000)
    expect(page.locator("[data-live-words]")).to_contain_text("connection lost")
    page.context.set_offline(False)

    expect(page.locator("[data-live]")).not_to_have_class(re.compile("lost"), timeout=8000)
    # What browser and htmx say of the requests that could not go out is expected here.
    expected = ("ERR_INTERNET_DISCONNECTED", "htmx:sendError", "htmx:afterRequest")
    open_page.errors[:] = [said for said in open_page.errors if not any(word in said for word in expected)]


def test_a_session_that_ended_leads_to_the_sign_in_page_and_back(open_page):
    place(10)
    page = open_page("/dashboard/")

    page.context.clear_cookies()

    page.wait_for_url(re.compile("/sign-in/"), timeout=5000)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Username").fill("m.ortiz")
    page.get_by_label("Password").fill("a long passphrase")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(r"/dashboard/\??"))


def test_a_bar_is_a_link_that_the_keyboard_reaches_and_keeps_focus_over_a_poll(open_page):
    place(10)
    page = open_page("/dashboard/")

    page.locator("#fill-0").focus()
    place(32, first=1000)
    expect(page.locator("#board")).to_contain_text("42 IDs", timeout=4000)

    expect(page.locator("#fill-0")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/dashboard/minutes/"))
    assert_fits(page)


def test_the_search_box_is_focused_by_a_slash_and_finds_an_id(open_page):
    place(10, first=9_007_199_254_740_990)
    page = open_page("/dashboard/")

    page.keyboard.press("/")
    page.keyboard.type("9007199254740993")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="9007199254740993")).to_be_visible()
    assert_fits(page)


def test_without_javascript_the_board_is_all_there(open_page):
    place(120)

    page = open_page("/dashboard/", javascript=False)

    expect(page.locator("#board")).to_contain_text("120 IDs")
    expect(page.get_by_role("button", name="Pause updates")).to_have_count(0)
    bars = page.locator("#board")
    expect(bars.get_by_role("link", name=re.compile(r"^\d\d:\d\d: 120 IDs"))).to_have_count(1)


def test_the_part_that_moves_shifts_nothing(open_page):
    place(10)
    page = open_page("/dashboard/")
    before = page.locator("#tasks-name").bounding_box()

    place(110, first=1000)
    expect(page.locator("#board")).to_contain_text("120 IDs", timeout=4000)

    assert page.locator("#tasks-name").bounding_box() == before
