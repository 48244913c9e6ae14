import pytest

from scheduling import models, store
from scheduling.core import clock
from tests.dashboard.conftest import squeezed

pytestmark = pytest.mark.django_db


def page(sign_in, starts_at) -> str:
    return sign_in("viewer").get(f"/dashboard/windows/default/{starts_at:%Y-%m-%dT%H:%MZ}/").content.decode()


def test_empty_ended_window_waits_for_no_receipt(queue, sign_in):
    text = page(sign_in, clock.open_window_start(store.now()) - 9 * clock.QUARTER)

    assert "No list came in, so there is nothing to total." in text
    assert "accepted lists from" in text


def test_window_page_says_how_many_changes_are_not_shown(place, sign_in):
    place([1])
    window = models.Window.objects.get()
    line = models.Reservation.objects.get()
    for version in range(2, 103):
        line.pk, line.version = None, version
        line.save(force_insert=True)
    models.Window.objects.update(version=102)

    text = page(sign_in, window.starts_at)

    assert "The latest 100 of 102 changes." in text
    assert "accepts lists from" in text


def test_start_rounded_down_by_less_than_a_millisecond_is_on_its_slot(place, sign_in):
    """Of 11 in a minute the second has its slot at 5.4545 s, and its start is kept as 5.454."""
    task = place(range(1, 12), at=store.now() - 2 * clock.QUARTER)
    for row, ms in zip(models.Assignment.objects.order_by("pk"), (0, 5454, 10_909), strict=False):
        models.Assignment.objects.filter(pk=row.pk).update(
            status=models.Status.SUCCEEDED, attempts=1, started_after_ms=ms
        )
    models.Bucket.objects.filter(filled_count=11).update(capacity=11)
    minute = task.first_minute_at

    text = sign_in("viewer").get(f"/dashboard/minutes/{minute:%Y-%m-%dT%H:%MZ}/").content.decode()

    assert text.count(">0 ms<") == 3
    assert "-0 ms" not in text
    assert "-1 ms" not in text


def test_small_moves_for_one_reason_are_one_line(place, sign_in):
    task = place(range(1, 4), name="a list")
    window = models.Window.objects.get()
    latest = models.Reservation.objects.get()
    for version in (2, 3, 4):
        models.Reservation.objects.create(
            window=window, version=version, kind="move_out", ids_count=1, rpm=120, note="retry",
            fill_before=latest.fill_before, deltas=[-1] + [0] * 14, made_at=latest.made_at + version * clock.MINUTE,
        )  # fmt: skip
    models.Window.objects.update(version=4)

    page = sign_in("viewer").get(f"/dashboard/windows/default/{window.starts_at:%Y-%m-%dT%H:%MZ}/")

    assert [(entry.kind, entry.ids_count, entry.steps) for entry in page.context["changes"]] == [
        ("move_out", 3, 3),
        ("reserve", 3, 1),
    ]
    assert "another minute</a>, 3 IDs in 3 changes" in squeezed(page)
    assert task.name in squeezed(page)
