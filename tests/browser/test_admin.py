"""The admin in a browser: the dashboard's head over it, in light and dark, wide and narrow."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import expect

from operators.actor import Actor
from scheduling import models
from scheduling.core import keys
from scheduling.queues import operations
from tests.browser.test_board import LOOKS
from tests.browser.test_widths import overflows
from tests.scheduling.lists_of_ids import submit, write_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def deck(transactional_db, tmp_path):
    by, at = Actor.command_line(), timezone.now()
    queue = operations.create(name="letters", by=by, at=at)
    task = submit(range(1, 41), tmp_path, by=by, at=at, task_name="spring letters", queue_name="letters").task
    write_all(at)
    return {
        "queue": queue.pk,
        "task": task.pk,
        "window": keys.window_of_bucket(task.task_buckets.first().bucket_id),
    }


PAGES = {
    "index": "/admin/",
    "tasks": "/admin/scheduling/task/",
    "task": "/admin/scheduling/task/{task}/change/",
    "queue": "/admin/scheduling/queue/{queue}/change/",
    "window": "/admin/scheduling/window/{window}/change/",
    "assignments": "/admin/scheduling/assignment/?task={task}",
    "cancel": "/admin/scheduling/task/cancel/",
    "replace": "/admin/scheduling/task/{task}/replace/",
    "activity": "/admin/scheduling/activity/",
}


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_admin_pages_fit_and_pass_axe(open_page, deck, size, scheme):
    wrong = []
    for name, path in PAGES.items():
        page = open_page(path.format(**deck), size=size, scheme=scheme)
        assert page.locator("html").evaluate("html => html.scrollWidth") <= page.viewport_size["width"], name
        # Before axe, which puts styles into the page to try things out.
        assert not open_page.errors, (name, open_page.errors)
        result = Axe().run(page)
        open_page.errors.clear()
        wrong += [f"{name}: {result.generate_report()}"] if result.violations_count else []
    assert not wrong, "\n".join(wrong)


def test_admin_pages_overflow_at_no_width(open_page, deck):
    page = open_page("/admin/", role="admin")
    assert (
        overflows(page, [path.format(**deck) for path in [*PAGES.values(), "/admin/operators/token/add/"]])
        == []
    )


def test_matching_tasks_are_cancelled_by_keyboard_and_without_javascript(open_page, deck):
    for javascript in (True, False):
        page = open_page("/admin/scheduling/task/?q=spring", javascript=javascript)
        link = page.get_by_role("link", name="Cancel all that match")
        link.focus()
        link.press("Enter")
        expect(page.locator("#content")).to_contain_text("1 task")
        expect(page.locator("#content")).to_contain_text("40 waiting IDs")
    page.get_by_role("button", name="Cancel 1 task").press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("1 task is cancelled")
    assert models.Task.objects.get().cancelled_count == 40


def test_times_are_in_the_operators_zone_which_is_named(open_page, deck):
    page = open_page("/admin/scheduling/task/", time_zone="Asia/Tokyo")
    expect(page.locator("footer")).to_contain_text("Times are in Asia/Tokyo")
