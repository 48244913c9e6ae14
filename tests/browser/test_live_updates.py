"""The board updates each second under hands that press, select and read: nothing of what they do is lost."""

import random
import re
import time

import pytest
from django.db import transaction
from playwright.sync_api import Response, expect

from scheduling import models, store
from scheduling.core import clock, keys
from tests.browser.test_board import place

pytestmark = pytest.mark.django_db(transaction=True)
PRESSES = 200
# Presses on links and clicks of them, and how many panels of "Brake…" are still to come.
COUNT = """() => {
    const body = document.body.dataset;
    window.presses = window.clicks = body.panels = 0;
    document.addEventListener("pointerdown", (event) => {
        if (event.target.closest("a")) window.presses += 1;
    }, true);
    document.addEventListener("click", (event) => {
        if (!event.target.closest("a")) return;
        window.clicks += 1;
        if (event.target.closest("#to-brake")) body.panels = Number(body.panels) + 1;
        event.preventDefault();
    }, true);
    document.addEventListener("htmx:afterSettle", (event) => {
        if (event.detail.target.id === "slow-down") body.panels = Number(body.panels) - 1;
    });
}"""
SEED = 20261129


def stir(number: int) -> None:
    """What a busy second changes: a minute's counts, and those of a task."""
    changed = {"waiting_count": 100 - number % 50, "succeeded_count": number % 50}
    models.Bucket.objects.filter(filled_count=100).update(**changed)
    models.Task.objects.update(waiting_count=1000 - number % 500, succeeded_count=number % 500)


@pytest.fixture
def early_in_a_minute():
    """At the border of a minute the mark of the one that runs moves, which is a change of its own."""
    while not 2 <= store.now().second < 40:
        time.sleep(0.5)


@pytest.fixture
def busy(open_page):
    """A board on which something changes with each poll."""
    task = place(1000)
    buckets = models.Bucket.objects.filter(filled_count__gt=0)
    buckets.update(filled_count=100, waiting_count=100)
    return open_page("/dashboard/"), task


def test_every_press_on_a_changing_board_is_a_click(busy):
    page, task = busy
    page.evaluate(COUNT)
    dice = random.Random(SEED)
    links = [
        page.locator(name) for name in ("#fill-2 .hit", "#filling-counts", f"#ids-{task.pk}", "#to-brake")
    ]

    for number in range(PRESSES):
        if number % 4 == 0:
            stir(number)
        press_until_it_hits(page, links[number % len(links)], dice)

    assert page.evaluate("window.clicks") == page.evaluate("window.presses") >= PRESSES


def press_until_it_hits(page, link, dice):
    """The link may move between the look where it is and the press, which then is none of it: so press again."""
    before = page.evaluate("window.presses")
    for _ in range(20):
        link.scroll_into_view_if_needed()
        box = link.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.wait_for_timeout(dice.randrange(20, 160))
        page.mouse.up()
        # The panel takes room, and the focus: what was asked for by hand may move what is pressed next.
        expect(page.locator("body")).to_have_attribute("data-panels", "0")
        if page.evaluate("window.presses") > before:
            return
    pytest.fail(f"20 presses missed {link}")


def test_press_that_outlasts_a_poll_is_a_click(busy):
    page, _ = busy
    link = page.locator("#filling-counts")
    box = link.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    page.mouse.down()
    stir(7)
    page.wait_for_timeout(2500)
    page.mouse.up()

    page.wait_for_url("**/dashboard/drill-down/**")


def test_selected_text_stays_selected_and_catches_up_afterwards(busy):
    page, task = busy
    select = """(id) => {
        const range = document.createRange();
        range.selectNodeContents(document.getElementById(id));
        document.getSelection().removeAllRanges();
        document.getSelection().addRange(range);
        return document.getSelection().toString();
    }"""
    for number, name in enumerate(["filling-sentence", f"state-{task.pk}", "filling-counts"] * 10):
        selected = page.evaluate(select, name)
        stir(number + 1)
        page.wait_for_timeout(400)
        assert page.evaluate("document.getSelection().toString()") == selected, name
    page.evaluate("document.getSelection().removeAllRanges()")
    stir(123)
    expect(page.locator(f"#state-{task.pk}")).to_contain_text("123 succeeded")


def test_focus_and_an_open_menu_survive_polls(busy):
    page, task = busy
    page.locator("[data-menu] summary").click()
    page.locator(f"#cancel-{task.pk}").focus()
    page.locator("[data-menu]").evaluate("menu => { menu.open = true }")
    for number in range(4):
        stir(number + 50)
        page.wait_for_timeout(1100)
        expect(page.locator(f"#cancel-{task.pk}")).to_be_focused()
    expect(page.locator("[data-menu]")).to_have_attribute("open", "")


def test_unchanged_elements_are_not_replaced(busy):
    page, task = busy
    names = ["tabs", "fill-14-bar", f"task-{task.pk}", "filling-window"]
    page.evaluate("(names) => names.forEach((name) => { document.getElementById(name).mark = name })", names)
    stir(31)
    expect(page.locator(f"#state-{task.pk}")).to_contain_text("31 succeeded")

    assert page.evaluate("(names) => names.map((name) => document.getElementById(name).mark)", names) == names


def test_alarm_is_in_the_title_the_icon_and_the_live_region(busy):
    page, _ = busy
    # No cluster runs in these tests.
    expect(page).to_have_title(re.compile(r"^\([12]!\) default: board"))
    models.Queue.objects.update(paused_at=clock.EPOCH)

    expect(page.locator("[data-alarm-words]")).to_contain_text("default paused since")
    expect(page).to_have_title(re.compile(r"^\([23]!\) default: board"))
    expect(page.locator("link[rel=icon]")).to_have_attribute("href", "/static/quarterdeck/icon-alarm.svg")


def test_poll_returns_only_changed_parts(early_in_a_minute, busy, open_page):
    page, task = busy
    polls: list[Response] = []
    page.on("response", lambda answer: polls.append(answer) if "version=" in answer.url else None)
    stir(77)
    expect(page.locator(f"#state-{task.pk}")).to_contain_text("77 succeeded")
    polls.clear()
    bucket = models.Bucket.objects.filter(filled_count=100).order_by("pk").first()
    # No poll sees half of it.
    with transaction.atomic():
        models.Bucket.objects.filter(pk=bucket.pk).update(waiting_count=40, succeeded_count=60)
        models.Task.objects.update(waiting_count=640, succeeded_count=360)

    expect(page.locator(f"#state-{task.pk}")).to_contain_text("360 succeeded")
    assert keys.index_of_bucket(bucket.pk) < 15
    bodies = [poll.body() for poll in polls if poll.status == 200]
    text = b"".join(bodies).decode()
    assert max(map(len, bodies)) <= 5_000
    assert "tabs" not in text
    assert text.count('-bar"') <= 2


def test_alarm_is_in_the_title_and_the_icon_of_every_other_page(busy, open_page):
    models.Queue.objects.update(paused_at=clock.EPOCH)
    page = open_page("/dashboard/tasks/")

    expect(page).to_have_title(re.compile(r"^\([23]!\) Tasks"))
    expect(page.locator("link[rel=icon]")).to_have_attribute("href", "/static/quarterdeck/icon-alarm.svg")
    expect(page.locator("[data-page-alarms]")).to_contain_text("default paused since")
    expect(page.locator(".sections .badge")).to_have_attribute("title", re.compile("default paused since"))
