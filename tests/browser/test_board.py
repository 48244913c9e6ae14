"""The board in a real browser: light and dark, at a desk and on a phone."""

import re
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from operators.actor import Actor
from scheduling import demo, models, store
from scheduling.core import clock
from scheduling.intake import allocation
from scheduling.jobqueue import cluster

pytestmark = pytest.mark.django_db(transaction=True)
# Both sizes and both colours, once each: what a size changes, no colour does.
LOOKS = [("desk", "light"), ("phone", "dark")]


def place(count: int, name: str = "a list", first: int = 1) -> models.Task:
    models.Queue.objects.get_or_create(name="default", defaults={"rpm": 120, "created_at": store.now()})
    task = demo.submit("default", name, list(range(first, first + count)), by=Actor.system(), now=store.now)
    allocation.write_segments(store.now)
    return task


def assert_fits(page) -> None:
    """Nothing is cut off at the side, and axe has nothing to say."""
    width = page.locator("html").evaluate("html => html.scrollWidth")
    assert width <= page.viewport_size["width"]
    result = Axe().run(page)
    assert result.violations_count == 0, result.generate_report()


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_board_past_rpm_says_so_in_words_and_passes_axe(open_page, size, scheme):
    place(120 * 15 + 30)

    page = open_page("/dashboard/", size=size, scheme=scheme)

    expect(page.locator("#board")).to_contain_text("2 over 120")
    expect(page.locator("#fill-0 rect.past")).to_have_count(1)
    # By more than their colour, here and in the legend.
    for rects, pattern in ((".past", "qd-past"), (".in_flight", "qd-flight"), (".failed", "qd-hatch")):
        expect(page.locator(f"#board rect{rects}").last).to_have_css("fill", re.compile(pattern))
        expect(page.locator(f"pattern#{pattern}")).to_have_count(1)
    assert_fits(page)


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_empty_board_says_what_to_do_first(open_page, size, scheme):
    models.Queue.objects.get_or_create(name="default", defaults={"rpm": 120, "created_at": store.now()})

    page = open_page("/dashboard/", size=size, scheme=scheme)

    expect(page.get_by_role("heading", name="Nothing is planned yet")).to_be_visible()
    assert_fits(page)


def test_new_list_appears_without_a_reload(open_page):
    place(10)
    page = open_page("/dashboard/")
    expect(page.locator("#board")).to_contain_text("10 IDs")

    place(32, first=1000)

    expect(page.locator("#board")).to_contain_text("42 IDs")
    expect(page.locator("[data-live-words]")).to_have_text(re.compile("updated"))


@pytest.mark.parametrize("how", ["pointed at", "focused"])
def test_row_stays_in_place_while_hovered_or_focused(open_page, how):
    for number in range(3):
        place(10, name=f"list {number}", first=1 + 100 * number)
    page = open_page("/dashboard/")
    cancel = page.locator("tr", has_text="list 1").get_by_role("link", name="Cancel")
    if how == "pointed at":
        cancel.hover()
    else:
        cancel.focus()
    before = cancel.bounding_box()

    place(10, name="a newer one", first=5000)
    place(10, name="another", first=6000)

    expect(page.locator("[data-offer]")).to_have_text("2 new")
    page.wait_for_timeout(1500)
    # Between two looks a poll may have put the same row there anew.
    assert (cancel.bounding_box() or cancel.bounding_box()) == before
    assert page.evaluate("document.activeElement.id.startsWith('cancel-')") == (how == "focused")
    if how == "pointed at":
        page.get_by_role("heading", name="Tasks in progress").hover()
    else:
        # What is offered can be pressed in peace, and leads to what came.
        offer = page.locator("[data-offer]")
        offer.focus()
        page.wait_for_timeout(1500)
        expect(offer).to_have_text("2 new")
        expect(offer).to_be_focused()
        page.keyboard.press("Enter")
    expect(page.locator("tr", has_text="another")).to_be_visible()
    expect(page.locator("[data-offer]")).to_be_empty()
    if how == "focused":
        expect(page.locator("#board [data-hold] a").first).to_be_focused()


def test_paused_updates_stay_paused_and_say_so(open_page):
    place(10)
    page = open_page("/dashboard/")

    page.get_by_role("button", name="Pause updates").click()
    place(32, first=1000)
    page.wait_for_timeout(2500)

    expect(page.locator("#board")).not_to_contain_text("42 IDs")
    expect(page.locator("[data-live-words]")).to_contain_text("updates paused")
    page.get_by_role("button", name="Resume updates").click()
    expect(page.locator("#board")).to_contain_text("42 IDs")


def test_lost_and_restored_connection_are_both_shown(open_page):
    place(10)
    page = open_page("/dashboard/")

    page.context.set_offline(True)
    expect(page.locator("[data-live]")).to_have_class(re.compile("lost"))
    expect(page.locator("[data-live-words]")).to_contain_text("connection lost")
    page.context.set_offline(False)

    expect(page.locator("[data-live]")).not_to_have_class(re.compile("lost"))
    # What browser and htmx say of the requests that could not go out is expected here.
    expected = ("ERR_INTERNET_DISCONNECTED", "htmx:sendError", "htmx:afterRequest")
    open_page.errors[:] = [error for error in open_page.errors if not any(word in error for word in expected)]


def test_ended_session_leads_to_the_sign_in_page_and_back(open_page):
    place(10)
    page = open_page("/dashboard/")

    page.context.clear_cookies()

    page.wait_for_url(re.compile("/sign-in/"))
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Username").fill("m.ortiz")
    page.get_by_label("Password").fill("a long passphrase")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(r"/dashboard/\??"))


def test_bar_is_a_keyboard_link_and_keeps_focus_during_a_poll(open_page):
    place(10)
    page = open_page("/dashboard/")

    page.locator("#fill-0").focus()
    place(32, first=1000)
    expect(page.locator("#board")).to_contain_text("42 IDs")

    expect(page.locator("#fill-0")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/dashboard/minutes/"))
    assert_fits(page)


def test_slash_focuses_the_search_which_finds_an_id(open_page):
    place(10, first=9_007_199_254_740_990)
    page = open_page("/dashboard/")

    page.keyboard.press("/")
    page.keyboard.type("9007199254740993")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="9007199254740993")).to_be_visible()
    assert_fits(page)


def test_board_is_complete_without_javascript(open_page):
    place(120)

    page = open_page("/dashboard/", javascript=False)

    expect(page.locator("#board")).to_contain_text("120 IDs")
    expect(page.get_by_role("button", name="Pause updates")).to_have_count(0)
    bars = page.locator("#board")
    expect(bars.get_by_role("link", name=re.compile(r"^\d\d:\d\d: 120 IDs"))).to_have_count(1)


@pytest.mark.parametrize("javascript", [True, False])
def test_heat_map_cell_links_to_its_minute(open_page, javascript):
    place(3 * 120)
    page = open_page("/dashboard/", javascript=javascript)
    runs_at = clock.runs_at(clock.open_window_start(store.now()))
    column = page.locator(".columns a").last

    column.click(position={"x": 2, "y": 2 * 8 + 4})

    page.wait_for_url(re.compile("/dashboard/minutes/"))
    assert f"{runs_at + 2 * clock.MINUTE:%H:%M}Z" in page.url
    expect(page.locator("tbody tr")).not_to_have_count(0)


def test_heat_map_column_opens_its_window_by_keyboard(open_page):
    place(10)
    page = open_page("/dashboard/")

    page.locator(".columns a").last.focus()
    page.keyboard.press("Enter")

    page.wait_for_url(re.compile("/dashboard/windows/default/"))


@pytest.mark.parametrize("javascript", [True, False])
def test_paused_queue_is_resumed_by_the_button_on_the_board(open_page, javascript):
    place(10)
    models.Queue.objects.update(paused_at=store.now())
    page = open_page("/dashboard/", javascript=javascript)
    button = page.locator("#resume-default")
    if javascript:
        # One that a poll has drawn.
        with page.expect_response(lambda answer: answer.status == 200 and "version=" in answer.url):
            place(5, first=500)

    button.focus()
    page.keyboard.press("Enter")

    expect(page.locator(".messagelist")).to_contain_text("default has resumed")
    expect(page.locator("#board")).not_to_contain_text("paused since")
    assert "/dashboard/?queue=default" in page.url


def test_heat_map_on_a_phone_starts_at_the_running_window(open_page):
    place(10)
    page = open_page("/dashboard/", size="phone")
    frame = page.locator(".heat-frame")
    expect(frame).to_have_count(1)

    page.wait_for_function(
        "() => { const seen = document.querySelector('.scroll:has(> .heat)').getBoundingClientRect(),"
        " now = document.querySelector('.heat-frame').getBoundingClientRect();"
        " return now.left >= seen.left && now.right <= seen.right }"
    )
    # Drawn anew, it stays where somebody moved it.
    page.evaluate("document.querySelector('.scroll:has(> .heat)').scrollLeft = 57")
    page.evaluate("document.querySelector('#ahead').dataset.old = 1")
    page.evaluate("htmx.ajax('GET', '/dashboard/ahead/', {target: '#ahead', swap: 'outerHTML'})")
    page.wait_for_function(
        "() => !document.querySelector('#ahead').dataset.old"
        " && document.querySelector('.scroll:has(> .heat)').scrollLeft === 57"
    )


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_drill_down_lists_as_many_ids_as_the_number_and_fits(open_page, size, scheme):
    place(32)
    page = open_page("/dashboard/", size=size, scheme=scheme)

    page.locator("#filling-counts").click()

    expect(page.get_by_role("heading", name="32 IDs: all that have a place")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(32)
    assert_fits(page)


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_viewer_sees_disabled_actions_with_the_reason(open_page, size, scheme):
    task = place(10)

    page = open_page("/dashboard/", size=size, scheme=scheme, role="viewer")

    for key in (f"cancel-{task.pk}", "to-queue", "to-upload"):
        expect(page.locator(f"#{key}")).to_be_disabled()
        expect(page.locator(f"#{key}")).to_have_attribute(
            "title", re.compile("You can view but not change things")
        )
    expect(page.locator("#board")).to_contain_text("You can view but not change things")
    assert_fits(page)


def test_hidden_tab_does_not_poll(open_page):
    place(10)
    page = open_page("/dashboard/")
    expect(page.locator("[data-live-words]")).to_have_text(re.compile("updated"))
    polls = []
    page.on("request", lambda request: polls.append(request.url))

    # What a browser does with a tab that is behind another one.
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {configurable: true, get: () => true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.wait_for_timeout(500)
    polls.clear()
    page.wait_for_timeout(2500)
    assert not polls

    with page.expect_request(re.compile("version=")):
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize("size", ["desk", "phone"])
def test_layout_does_not_shift_when_everything_changes(open_page, size):
    """By the browser's own measure too: a queue is braked, and there is more of each state."""
    place(10)
    for number, name in enumerate((cluster.DEFAULT, cluster.MINUTES)):
        signs = {
            "host": "a",
            "pid": 1,
            "started_at": store.now(),
            "seen_at": store.now() + timedelta(minutes=9),
        }
        models.Heartbeat.objects.create(owner=number, cluster=name, **signs)
    models.QuarterRun.objects.create(quarter_at=clock.quarter_start(store.now()), ran_at=store.now())
    page = open_page("/dashboard/", size=size)
    page.evaluate(
        "window.shifts = []; new PerformanceObserver((list) => list.getEntries().forEach((entry) =>"
        " window.shifts.push([entry.value, ...entry.sources.map((source) => source.node?.outerHTML?.slice(0, 90))]))"
        ").observe({type: 'layout-shift', buffered: false})"
    )
    before = page.locator("#tasks-name").bounding_box()

    models.Bucket.objects.filter(waiting_count__gt=0).update(
        filled_count=1_250, waiting_count=1_000, succeeded_count=200, failed_count=50
    )
    models.Queue.objects.update(brake_per_minute=10)

    expect(page.locator("#board")).to_contain_text("brake on default")
    assert page.locator("#tasks-name").bounding_box() == before
    assert sum(shift[0] for shift in page.evaluate("window.shifts")) < 0.01, page.evaluate("window.shifts")


def test_live_updates_do_not_shift_the_layout(open_page):
    place(10)
    page = open_page("/dashboard/")
    before = page.locator("#tasks-name").bounding_box()

    place(110, first=1000)
    expect(page.locator("#board")).to_contain_text("120 IDs")

    assert page.locator("#tasks-name").bounding_box() == before


def press_while_answers_arrive(page, button: str, answers: list) -> None:
    """Press a button with the mouse; the requests kept in `answers` go on between press and release."""
    page.locator(button).hover()
    page.mouse.down()
    for _ in range(100):
        page.wait_for_timeout(100)
        if answers:
            break
    assert answers
    page.unroute_all()
    page.wait_for_timeout(700)
    page.mouse.up()


def test_brake_pressed_straight_after_typing_is_the_number_typed(open_page):
    place(600)
    page = open_page("/dashboard/")
    page.locator("#to-brake").click()
    expect(page.locator("#slow-per-minute")).to_be_focused()
    answers: list = []
    page.route(re.compile("part=brake"), lambda route: answers.append(route))
    page.locator("#slow-per-minute").fill("7")
    press_while_answers_arrive(page, "#brake", answers)

    expect(page.locator("#board")).to_contain_text("brake on default: at most 7 a minute")
    assert models.Queue.objects.get().brake_per_minute == 7


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_brake_opens_on_the_board_and_shows_the_new_finish_as_it_is_typed(open_page, size, scheme):
    place(600)
    page = open_page("/dashboard/", size=size, scheme=scheme)

    page.locator("#to-brake").click()
    expect(page.locator("#slow-per-minute")).to_be_focused()
    assert page.url.endswith("/dashboard/")
    page.locator("#slow-per-minute").fill("7")
    expect(page.locator("#brake-effect")).to_contain_text("Limit default to 7 a minute")
    expect(page.locator("#brake-effect")).to_contain_text("instead of")
    assert_fits(page)

    page.get_by_role("link", name="Close").click()
    expect(page.locator("#slow-down-panel")).to_have_count(0)
    expect(page.locator("#to-brake")).to_be_focused()
    page.locator("#to-queue").click()
    expect(page.locator("#slow-per-minute")).to_be_focused()
    page.locator("#slow-per-minute").fill("7")
    page.get_by_role("button", name="Limit default to 7 a minute").click()
    expect(page.locator("#board")).to_contain_text("brake on default: at most 7 a minute")
