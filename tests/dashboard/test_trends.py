"""The trends of a queue, as a page."""

import html
import re
from datetime import timedelta

import pytest

from dashboard.drawing import svg
from dashboard.drawing.charts import Amount
from scheduling import store
from scheduling.core import clock
from tests.dashboard.conftest import squeezed
from tests.dashboard.test_board import length

pytestmark = pytest.mark.django_db

ADDRESS = "/dashboard/queues/default/trends/"


def test_trends_show_the_last_days_and_hours_in_the_operators_zone(queue, place, fail, sign_in):
    fail(place([7, 8, 9], at=store.now() - 3 * clock.QUARTER), 404)
    page = sign_in("viewer", time_zone="Asia/Kathmandu").get(ADDRESS)
    days, hours = (panel.spans for panel in page.context["panels"])
    assert (len(days), len(hours)) == (7, 24)
    # 18:15 UTC is midnight in Nepal, and each hour there begins a quarter-hour later.
    assert {f"{day.begins_at:%H:%M}" for day in days} == {"18:15"}
    assert {f"{hour.begins_at:%M}" for hour in hours} == {"15"}
    assert hours[-1].begins_at <= store.now() < hours[-1].ends_at
    for spans in (days, hours):
        assert (sum(span.requests for span in spans), sum(span.failed for span in spans)) == (3, 3)


def test_each_number_of_failures_links_to_as_many_ids(queue, place, fail, sign_in):
    fail(place([7, 8, 9], at=store.now() - 3 * clock.QUARTER), 404)
    client = sign_in("viewer")
    page = client.get(ADDRESS).content.decode()
    links = re.findall(r'<a class="bad" href="([^"]+)">(\d+)</a>', page)
    assert len(links) == 2
    for address, number in links:
        assert length(client, html.unescape(address)) == int(number) == 3


def test_trends_of_an_idle_queue_say_what_to_do(queue, sign_in):
    page = squeezed(sign_in("viewer").get(ADDRESS))
    assert "Nothing was sent in the last 7 days" in page
    assert "Upload a list" in page


def test_days_of_trends_begin_at_local_midnight_when_clocks_change(queue, sign_in, monkeypatch):
    at = store.now().replace(year=2026, month=10, day=27, hour=8)
    monkeypatch.setattr(store, "now", lambda: at)
    page = sign_in("viewer", time_zone="Europe/Berlin").get(ADDRESS)
    lengths = [span.ends_at - span.begins_at for span in page.context["panels"][0].spans]
    assert lengths == [timedelta(hours=24)] * 4 + [timedelta(hours=25)] + [timedelta(hours=24)] * 2


def test_number_above_a_column_is_left_out_where_a_higher_one_is_behind_it():
    heights = [5, 9, 9, 3] + [1] * 20
    drawing = svg.amounts(
        [Amount(f"{k}", f"{k}", number, "#") for k, number in enumerate(heights)],
        kind="requests",
        name="Requests",
        prefix="a",
        every=1,
    )

    shown = re.findall(r'<text x="[^"]+" y="[^"]+">(\d*)</text><text class="minute"', drawing)
    assert shown[:5] == ["", "9", "9", "", ""]
