import re
from datetime import UTC, datetime, timedelta

import pytest

from dashboard.drawing import heatmap
from scheduling import demo, models, store
from scheduling.core import clock, keys
from scheduling.reports import days
from scheduling.upkeep import quarter_hour
from tests.dashboard.test_board import length, numbers

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("day", "hours"), [("2026-10-25", 25), ("2026-03-29", 23), ("2026-11-25", 24)])
def test_day_has_the_hours_of_the_operators_zone(queue, sign_in, day, hours):
    page = sign_in("viewer", time_zone="Europe/Berlin").get(f"/dashboard/history/{day}/")

    assert len(page.context["map"].columns) == hours * 4


def test_day_begins_at_local_midnight_in_a_zone_45_minutes_off(queue, sign_in):
    page = sign_in("viewer", time_zone="Asia/Kathmandu").get("/dashboard/history/2026-11-25/")

    first = page.context["map"].columns[0].runs_at
    assert f"{first:%Y-%m-%d %H:%M}" == "2026-11-24 18:15"


@pytest.mark.parametrize(
    ("queue_name", "point", "leads_to"),
    [
        ("default/", "?3,0", "/dashboard/minutes/2026-11-25T12:15Z/?queue=default"),
        ("default/", "?3,57", "/dashboard/minutes/2026-11-25T12:22Z/?queue=default"),
        ("default/", "?0,119", "/dashboard/minutes/2026-11-25T12:29Z/?queue=default"),
        ("default/", "?0,400", "/dashboard/minutes/2026-11-25T12:29Z/?queue=default"),
        ("", "?3,57", "/dashboard/minutes/2026-11-25T12:22Z/?queue=%2A"),
        # By a key there is no point: the window has all its minutes as bars.
        ("default/", "?0,0", "/dashboard/windows/default/2026-11-25T12:00Z/"),
        ("default/", "", "/dashboard/windows/default/2026-11-25T12:00Z/"),
        ("", "?0,0", "/dashboard/drill-down/?queue=%2A&window=2026-11-25T12%3A00Z"),
        ("", "", "/dashboard/drill-down/?queue=%2A&window=2026-11-25T12%3A00Z"),
    ],
)
def test_heat_map_cell_links_to_its_minute(queue, sign_in, queue_name, point, leads_to):
    answer = sign_in("viewer").get(f"/dashboard/heat/{queue_name}2026-11-25T12:15Z/{point}")

    assert answer.url == leads_to


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("2026-11-25T12:16Z/", 404),
        ("never/", 404),
        ("0001-01-01T00:00Z/", 404),
        ("2026-11-25T12:15Z/?x=1", 400),
    ],
)
def test_heat_map_address_that_is_no_cell_is_refused(queue, sign_in, address, status):
    assert sign_in("viewer").get(f"/dashboard/heat/{address}").status_code == status


def test_heat_map_contains_exactly_the_filled_minutes(queue):
    begin = datetime(2026, 11, 25, tzinfo=UTC)
    filled = {0: 60, 1: 60, 2: 300, 4: 120, 13: 1, 14: 60}

    def column(runs_at: datetime, counts: dict[int, int]) -> days.Column:
        cells = [
            days.Cell(runs_at + k * clock.MINUTE, 120, counts.get(k, 0), 0, 0) for k in range(clock.BUCKETS)
        ]
        return days.Column(runs_at, tuple(cells))

    result = heatmap.draw([column(begin, {}), column(begin + clock.QUARTER, filled)], at=begin)

    assert dict(result.inks) == {
        "heat-1": "M1 13v1",
        "heat-2": "M1 0v2m0 12v1",
        "heat-4": "M1 4v1",
        "heat-past": "M1 2v1",
    }
    assert result.now_x == 0


def test_past_minute_with_unsent_ids_is_marked_in_the_heat_map(queue):
    at = clock.quarter_start(store.now()) + timedelta(minutes=10)

    def column(runs_at: datetime, sent: int) -> days.Column:
        minutes = (runs_at + k * clock.MINUTE for k in range(15))
        return days.Column(runs_at, tuple(days.Cell(minute, 120, 100, sent, 0) for minute in minutes))

    now = clock.quarter_start(at)
    drawn = heatmap.draw([column(now - clock.QUARTER, 100), column(now, 99)], at=at)

    # Ten minutes are over; the last of them may have some in flight.
    assert drawn.unsent == "M1 0v9"
    assert heatmap.draw([column(now - clock.QUARTER, 100)], at=at).unsent == ""


def test_minute_past_rpm_has_a_dot_as_well_as_a_colour(place, sign_in):
    task = place(range(1, 120 * 15 + 31))

    page = sign_in("viewer").get(f"/dashboard/history/{task.first_minute_at:%Y-%m-%d}/").content.decode()

    [drawn] = re.findall(r'<path class="heat-past" d="([^"]+)"/>', page)
    assert f'<path class="past-dots" d="{drawn}"/>' in page
    assert '<circle class="sign-dot"' in page.split('aria-label="Colours"')[1].split("past rpm")[0]


def test_export_of_a_day_has_a_line_for_each_minute(queue, place, sign_in):
    task = place(range(1, 131), at=store.now() - 2 * clock.QUARTER)
    runs_at = task.first_minute_at

    answer = sign_in("viewer").get(f"/dashboard/history/{runs_at:%Y-%m-%d}/?format=csv")

    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert len(lines) == 1 + 24 * 60
    assert f"{runs_at:%Y-%m-%dT%H:%M:%SZ},120,120,0,0" in lines


@pytest.mark.parametrize(
    "path", ["history/2026-13-01/", "history/never/", "minutes/12:00/", "windows/default/2026-11-25T12:07Z/"]
)
def test_invalid_time_in_an_address_is_404_with_a_sentence(queue, sign_in, path):
    answer = sign_in("viewer").get(f"/dashboard/{path}")

    assert answer.status_code == 404
    assert "2026-11-25" in answer.content.decode() or "window begins" in answer.content.decode()


def test_window_page_has_its_receipt_and_its_log(queue, place, sign_in):
    task = place(range(1, 4), name="the list", at=store.now() - 3 * clock.QUARTER)
    demo.catch_up(task.first_minute_at, at=store.now())
    quarter_hour.total(store.now)
    window = models.Window.objects.get()

    client = sign_in("viewer")
    page = client.get(f"/dashboard/windows/default/{window.starts_at:%Y-%m-%dT%H:%MZ}/").content.decode()

    assert "first planned <b>3</b>" in page
    assert "Requests made <b>3</b>" in page
    assert "the list" in page
    counted = [(address, number) for address, number in numbers(page) if "succeeded" in address]
    # Of the window, and of each minute that has some.
    assert sum(number for _, number in counted) == 6
    for address, number in counted:
        assert number == length(client, address), address


def test_drill_down_says_if_the_receipt_has_another_number(queue, place, sign_in):
    task = place(range(1, 4), at=store.now() - 3 * clock.QUARTER)
    demo.catch_up(task.first_minute_at, at=store.now())
    quarter_hour.total(store.now)
    window = models.Window.objects.get()
    address = f"/dashboard/drill-down/?queue=default&window={window.starts_at:%Y-%m-%dT%H:%MZ}&kind=succeeded"
    client = sign_in("viewer")
    assert "The receipt says" not in client.get(address).content.decode()

    window.receipt["succeeded"] = 5
    window.save(update_fields=["receipt"])

    page = client.get(address).content.decode()
    assert "3 IDs: succeeded" in page
    assert "The receipt says 5" in page


def test_active_queues_come_first_and_one_is_chosen_from_a_list(place, sign_in):
    models.Queue.objects.bulk_create(
        models.Queue(name=f"q{number:02d}", rpm=5, created_at=store.now()) for number in range(60)
    )
    task = place([1, 2], into="q40")
    day = f"{task.first_minute_at:%Y-%m-%d}"
    client = sign_in()

    page = client.get(f"/dashboard/history/{day}/").content.decode()
    assert page.count('"?queue=q') == 60
    assert page.index('"?queue=q40') < page.index('"?queue=q00')

    chosen = client.get("/dashboard/history/", {"day": day, "queue": "q40"}, follow=True)
    assert [row.record[0] for row in chosen.context["queues_table"].rows] == ["q40"]
    assert 'href="?queue=q40" aria-current="page"' in chosen.content.decode()


def test_minute_page_lists_only_queues_with_ids_in_it(place, sign_in):
    models.Queue.objects.bulk_create(
        models.Queue(name=f"q{number:02d}", rpm=5, created_at=store.now()) for number in range(60)
    )
    task = place([1, 2], into="q40")

    page = sign_in().get(f"/dashboard/minutes/{task.first_minute_at:%Y-%m-%dT%H:%MZ}/")

    assert [row.record[0].name for row in page.context["counts_table"].rows] == ["q40"]
    assert "60 other queues have nothing in it." in page.content.decode()


@pytest.mark.parametrize("query", ["", "?queue=default"])
def test_every_number_of_a_days_windows_links_to_a_list_of_that_length(place, fail, sign_in, query):
    fail(place(range(1, 41), at=store.now() - 2 * clock.QUARTER), 404)
    task = place(range(100, 230))
    client = sign_in("viewer")
    window = keys.starts_at_of_window(keys.window_of_bucket(models.Bucket.objects.last().pk))

    page = client.get(f"/dashboard/history/{task.first_minute_at:%Y-%m-%d}/{query}").content.decode()
    page += client.get(f"/dashboard/windows/default/{window:%Y-%m-%dT%H:%MZ}/").content.decode()
    page += client.get(f"/dashboard/minutes/{task.first_minute_at:%Y-%m-%dT%H:%MZ}/{query}").content.decode()
    for path in ("tasks/", "queues/", "queues/default/"):
        page += client.get(f"/dashboard/{path}").content.decode()
    page += client.get("/dashboard/ahead/").content.decode()

    result = numbers(page)
    assert 130 in [number for _, number in result]
    # Of a window, of a minute, of the day; a task's.
    for error in ("window=", "minute=", "from=", "status=failed#ids"):
        assert any(error in address for address, _ in result), error
    for address, number in result:
        assert number == length(client, address), address


def test_day_past_retention_does_not_claim_that_nothing_was_planned(queue, sign_in):
    client = sign_in("viewer")
    for days_ago, error in (
        (100, "so the data of this day has been deleted"),
        (1, "Nothing was planned on this day"),
    ):
        day = store.now() - timedelta(days=days_ago)
        assert error in client.get(f"/dashboard/history/{day:%Y-%m-%d}/").content.decode()
