import pytest

from scheduling import clock, models, store

pytestmark = pytest.mark.django_db


def page(sign_in, starts_at) -> str:
    return sign_in("viewer").get(f"/dashboard/windows/default/{starts_at:%Y-%m-%dT%H:%MZ}/").content.decode()


def test_a_window_that_ended_empty_waits_for_no_receipt(queue, sign_in):
    said = page(sign_in, clock.open_window_start(store.now()) - 9 * clock.QUARTER)

    assert "Nothing came in, so there is nothing to total." in said
    assert "took lists from" in said


def test_a_window_with_more_changes_than_are_shown_says_how_many_there_were(place, sign_in):
    place([1])
    window = models.Window.objects.get()
    line = models.Reservation.objects.get()
    for version in range(2, 103):
        line.pk, line.version = None, version
        line.save(force_insert=True)
    models.Window.objects.update(version=102)

    said = page(sign_in, window.starts_at)

    assert "Of 102 changes the latest 100 stand here." in said
    assert "takes lists from" in said
