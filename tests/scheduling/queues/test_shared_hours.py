"""Hours with a name: a change acts on all queues that have them."""

from datetime import timedelta

import pytest

from scheduling import models, proof
from scheduling.core import clock, errors
from scheduling.placement import reservations
from scheduling.queues import operations, rates, shared_hours, targets
from tests.scheduling.lists_of_ids import check_log, submit, write_all
from tests.scheduling.placement.test_shapes import BY, FRIDAY, MONDAY, OFFICE

pytestmark = pytest.mark.django_db
EVENINGS = {"zone": "Europe/Berlin", "open": ["mon-fri 19:00-21:00"]}


@pytest.fixture
def office():
    return shared_hours.create(name="office", form=OFFICE, by=BY, at=FRIDAY)


def made(name, hours="office", **fields):
    return operations.create(name=name, fields={"rpm": 2, "hours": hours, **fields}, by=BY, at=FRIDAY)


def test_queue_plans_by_the_hours_that_it_shares(office):
    queue = made("q", overflow="carry_over")
    assert (queue.named_hours, queue.hours) == ("office", OFFICE)
    plan = reservations.plan(queue, 61, at=FRIDAY + timedelta(minutes=15))
    assert plan.last_at >= MONDAY


def test_change_of_shared_hours_moves_what_no_longer_fits_in_each_queue(office, tmp_path):
    first, two, other = made("one"), made("two"), made("other", hours=OFFICE)
    at = MONDAY + timedelta(minutes=5)
    for queue in (first, two, other):
        submit(range(1, 91), tmp_path, by=BY, at=at, queue_name=queue.name)
    write_all(at)

    effects = {
        queue.name: effect.moved_count for queue, effect in shared_hours.effects_of(office, EVENINGS, at=at)
    }
    shared_hours.update(office, EVENINGS, by=BY, now=lambda: at)
    rates.refit(lambda: at)

    assert effects.keys() == {"one", "two"}
    moved = dict.fromkeys(effects, 0)
    open_until = clock.runs_at(clock.open_window_start(at)) + clock.QUARTER
    for queue in (first, two):
        queue.refresh_from_db()
        assert queue.hours == EVENINGS
        filled = models.Bucket.objects.filter(window__queue=queue, filled_count__gt=0)
        late = [bucket for bucket in filled if bucket.minute_at >= open_until]
        assert all(18 <= bucket.minute_at.hour < 20 for bucket in late)
        moved[queue.name] = sum(bucket.filled_count for bucket in late)
    assert moved == effects
    other.refresh_from_db()
    assert other.hours == OFFICE
    assert [str(each) for each in proof.check(lambda: at)] == []
    check_log()
    log = models.Activity.objects.filter(object_kind="hours").latest("pk")
    assert (log.verb, log.count, log.before, log.after) == ("changed", 2, OFFICE, EVENINGS)


def test_change_of_shared_hours_acts_on_targets_and_counts_each_move_once(office, tmp_path):
    webhook = {"handler": "webhook", "webhook_url": "https://a.test/in"}
    target = targets.create(origin="https://a.test", fields={"hours": "office"}, by=BY, now=lambda: FRIDAY)
    first, two = made("one", **webhook), made("two", hours=None, **webhook)
    at = MONDAY + timedelta(minutes=5)
    for queue in (first, two):
        submit(range(1, 91), tmp_path, by=BY, at=at, queue_name=queue.name)
    write_all(at)

    [(user, effect)] = shared_hours.effects_of(office, EVENINGS, at=at)
    shared_hours.update(office, EVENINGS, by=BY, now=lambda: at)
    while rates.refit(lambda: at):
        continue

    assert user == target
    assert models.Move.objects.count() == effect.moved_count > 0
    filled = models.Bucket.objects.filter(filled_count__gt=0)
    assert max(bucket.minute_at for bucket in filled) + clock.MINUTE == effect.after.ends_at
    assert [str(each) for each in proof.check(lambda: at)] == []
    log = models.Activity.objects.filter(object_kind="hours").latest("pk")
    assert log.count == 2


def test_hours_of_its_own_end_the_share_of_a_queue(office):
    queue = operations.update(made("q"), {"hours": EVENINGS}, by=BY, now=lambda: FRIDAY)
    assert queue.shared_hours is None
    shared_hours.update(office, {**OFFICE, "closed": ["2026-12-25"]}, by=BY, now=lambda: FRIDAY)
    queue.refresh_from_db()
    assert queue.hours == EVENINGS
    queue = operations.update(queue, {"hours": None}, by=BY, now=lambda: FRIDAY)
    assert (queue.hours, queue.shared_hours) == (None, None)


def test_hours_stay_while_a_queue_has_them(office):
    queue = made("q")
    with pytest.raises(errors.HoursInUse, match="they are used by: q"):
        shared_hours.delete(office, by=BY, at=FRIDAY)
    operations.update(queue, {"hours": None}, by=BY, now=lambda: FRIDAY)
    shared_hours.delete(office, by=BY, at=FRIDAY)
    assert not models.Hours.objects.exists()
    with pytest.raises(errors.BadFields, match="There are no hours named 'office'"):
        made("p")


@pytest.mark.parametrize("form", [{"zone": "UTC", "open": []}, {"zone": "Mars", "open": ["mon 09:00-10:00"]}])
def test_invalid_hours_are_refused(office, form):
    with pytest.raises(errors.BadFields):
        shared_hours.create(name="other", form=form, by=BY, at=FRIDAY)
    with pytest.raises(errors.BadFields):
        shared_hours.update(office, form, by=BY, now=lambda: FRIDAY)
    with pytest.raises(errors.HoursTaken):
        shared_hours.create(name="office", form=OFFICE, by=BY, at=FRIDAY)
    with pytest.raises(errors.StaleVersion):
        shared_hours.update(office, OFFICE, by=BY, now=lambda: FRIDAY, if_version=7)
