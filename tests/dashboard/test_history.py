import pytest

from scheduling import clock, demo, models, quarter_hour, store

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("day", "hours"), [("2026-10-25", 25), ("2026-03-29", 23), ("2026-11-25", 24)])
def test_a_day_has_as_many_hours_as_the_operators_zone_gives_it(queue, sign_in, day, hours):
    page = sign_in("viewer", time_zone="Europe/Berlin").get(f"/dashboard/history/{day}/")

    assert len(page.context["map"].stripes) == hours * 4


def test_a_day_begins_at_its_own_midnight_also_45_minutes_off(queue, sign_in):
    page = sign_in("viewer", time_zone="Asia/Kathmandu").get("/dashboard/history/2026-11-25/")

    first = page.context["map"].stripes[0].column.runs_at
    assert f"{first:%Y-%m-%d %H:%M}" == "2026-11-24 18:15"


def test_a_day_as_numbers_is_a_line_for_each_minute(queue, place, sign_in):
    place(range(1, 131), at=store.now() - 2 * clock.QUARTER)
    runs_at = clock.runs_at(clock.quarter_start(store.now() - 2 * clock.QUARTER))

    answer = sign_in("viewer").get(f"/dashboard/history/{runs_at:%Y-%m-%d}/?format=csv")

    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert len(lines) == 1 + 24 * 60
    assert f"{runs_at.isoformat()},120,120,0,0" in lines


@pytest.mark.parametrize(
    "path", ["history/2026-13-01/", "history/never/", "minutes/12:00/", "windows/default/2026-11-25T12:07Z/"]
)
def test_a_time_that_is_none_is_not_found_in_words(queue, sign_in, path):
    answer = sign_in("viewer").get(f"/dashboard/{path}")

    assert answer.status_code == 404
    assert "2026-11-25" in answer.content.decode() or "window begins" in answer.content.decode()


def test_a_windows_page_has_its_receipt_and_its_log(queue, place, sign_in):
    task = place(range(1, 4), name="the list", at=store.now() - 3 * clock.QUARTER)
    demo.catch_up(task.first_minute_at, at=store.now())
    quarter_hour.total(store.now)
    window = models.Window.objects.get()

    page = (
        sign_in("viewer")
        .get(f"/dashboard/windows/default/{window.starts_at:%Y-%m-%dT%H:%MZ}/")
        .content.decode()
    )

    assert "Planned <b>3</b>" in page
    assert "the list" in page
