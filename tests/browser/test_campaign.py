"""A campaign as an operator plans it: hours, a daily quota, an error budget, a canary and a deadline, in a browser."""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from scheduling import models, store
from tests.browser.test_board import assert_fits
from tests.browser.test_upload import CSV

pytestmark = pytest.mark.django_db(transaction=True)
BERLIN = ZoneInfo("Europe/Berlin")
IDS = 400_000


def day_in(days: int) -> datetime:
    """A local noon, this many days ahead."""
    return (datetime.now(BERLIN) + timedelta(days=days)).replace(hour=12, minute=0, second=0, microsecond=0)


def test_campaign_of_400000_ids_is_planned_within_hours_quota_and_deadline(
    open_page, transactional_db, tmp_path
):
    models.Queue.objects.get_or_create(name="default", defaults={"rpm": 120, "created_at": store.now()})
    page = open_page("/dashboard/hours/", time_zone="Europe/Berlin")
    page.get_by_label("Name").fill("office")
    page.get_by_role("textbox", name="Hours").fill("Europe/Berlin\nmon-fri 09:00-18:00")
    page.get_by_role("button", name="Create hours").click()
    expect(page.get_by_role("status").first).to_contain_text("office")
    page.goto(page.url.split("/hours/")[0] + "/queues/default/?rpm=3000")
    page.get_by_role("button", name=re.compile("3,000")).click()
    expect(page.locator("main")).to_contain_text("runs at 3,000 a minute")
    page.get_by_label("When a list doesn't fit").select_option("carry_over")
    page.get_by_label("Shared hours").select_option("office")
    page.get_by_role("textbox", name="Quotas").fill(
        '[{"limit": 250000, "per": "day", "zone": "Europe/Berlin"}]'
    )
    page.get_by_role("button", name="Save the settings").click()
    expect(page.get_by_role("status").first).to_contain_text("Saved.")

    page.goto(page.url.split("/queues/")[0] + "/upload/")
    listed = tmp_path / "campaign.csv"
    listed.write_text("user_id\n" + "".join(f"{number}\n" for number in range(1, IDS + 1)))
    page.get_by_label("A file").set_input_files({**CSV, "name": listed.name, "buffer": listed.read_bytes()})
    page.get_by_role("button", name="Show the preview").click()
    page.wait_for_url(re.compile(r"/upload/\d+/"))
    # The quarter-hour that accepts lists now keeps the minutes that it had before the queue got its hours.
    page.get_by_label("Not before").fill(f"{day_in(1):%Y-%m-%d}T00:00")
    page.get_by_text("Stop automatically").click()
    page.get_by_label("Deadline").fill(f"{day_in(7):%Y-%m-%dT%H:%M}")
    page.get_by_label("On hold above this % of failed IDs").fill("2")
    page.get_by_label("once this many have finished").fill("200")
    page.get_by_label("Canary: number of IDs to send first").fill("100")
    expect(page.locator("#stops")).to_contain_text("The first 100 IDs are sent until")
    expect(page.locator("#stops")).to_contain_text("more than 2 % have failed, once 200 have finished")
    by_day = page.locator("#by-day")
    expect(by_day).to_contain_text("250,000")
    expect(by_day).to_contain_text("150,000")
    assert_fits(page)
    page.screenshot(path=tmp_path / "preview.png", full_page=True)
    page.get_by_role("button", name=re.compile("Place 400,000 IDs")).click()
    page.wait_for_url(re.compile(r"/tasks/\d+/"))

    expect(page.locator("#canary")).to_contain_text("0 of 100 succeeded, 98 needed")
    assert_fits(page)
    page.screenshot(path=tmp_path / "task.png", full_page=True)
    task = models.Task.objects.get()
    assert (task.max_failed_percent, task.min_finished, task.canary_ids) == (2, 200, 100)
    assert task.deadline_at == day_in(7)
    assert not task.misses_deadline_at(store.now())
    starts = {at.astimezone(BERLIN).hour for at in (task.first_minute_at, task.last_minute_at)}
    assert starts == {9}
