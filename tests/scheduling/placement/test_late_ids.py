"""Since when IDs are late: the first minute in which they were planned counts everywhere, however often they move."""

from datetime import timedelta

import pytest

from operators.actor import Actor
from scheduling import models
from scheduling.core import clock, keys
from scheduling.dispatch import overdue
from scheduling.models import MoveReason
from scheduling.placement import late_ids
from scheduling.queues import operations, rates
from scheduling.reports import board, days, health, id_history, metrics
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db


def postpone(times: int):
    """Let each minute of what is late pass in turn; return when the last one had passed."""
    at = MINUTE + timedelta(seconds=70)
    for _ in range(times):
        assert overdue.run(lambda at=at: at)
        at = models.Bucket.objects.filter(waiting_count__gt=0).last().minute_at + timedelta(seconds=70)
    return at


def test_late_since_is_the_first_minute_in_every_report_after_three_postponements():
    queue = make_queue("slow", rpm=60)
    task = place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
    over = postpone(3)
    planned = over - timedelta(seconds=90)
    [replanned] = days.replanned_late_ids([queue], at=planned)
    assert (replanned.count, replanned.since) == (3, MINUTE)
    [late] = health.late_queues(over)
    assert (late.overdue_count, late.oldest_at) == (3, MINUTE)
    [shown] = board.snapshot("slow", at=over).board().late
    assert (shown.ids, shown.since) == (3, MINUTE)
    [place_of_id] = id_history.places(task, [1], at=over)
    assert place_of_id.late_seconds == (over - MINUTE - clock.MINUTE).total_seconds()
    gauges = {gauge.name: gauge.value for gauge in metrics.gauges(over)}
    assert gauges["quarterdeck_oldest_late_seconds"] == (over - MINUTE).total_seconds()


def test_late_ids_that_a_change_of_quota_has_moved_on_no_longer_count_as_such():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 31)}, at=BEFORE)
    over = postpone(1) - timedelta(seconds=90)
    [replanned] = days.replanned_late_ids([queue], at=over)
    assert (replanned.count, replanned.since) == (30, MINUTE)
    quotas = [{"limit": 12, "per": "day", "zone": "UTC"}]
    queue = operations.update(queue, {"quotas": quotas}, by=Actor.command_line(), now=lambda: over)
    while rates.refit(lambda: over):
        continue
    [replanned] = days.replanned_late_ids([queue], at=over)
    assert (replanned.count, replanned.since) == (12, MINUTE)


def test_late_since_of_ids_that_share_a_minute_with_older_ones_is_their_own_first_minute():
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: [1]}, at=BEFORE)
    over = postpone(1)
    shared = models.Bucket.objects.get(waiting_count=1)
    other = place(queue, {shared.minute_at: [2]}, at=BEFORE)
    # The one that was late for longer has gone out; the other one is late since its own minute.
    models.Assignment.objects.filter(task=task).update(status=models.Status.SUCCEEDED)
    models.Bucket.objects.filter(pk=shared.pk).update(waiting_count=1, succeeded_count=1)
    assert overdue.run(lambda: over)
    [moved] = models.Bucket.objects.filter(waiting_count=1)
    assert moved.late_since_bucket_id == shared.pk
    assert late_ids.late_since([other.pk], [2]) == {(other.pk, 2): shared.pk}


def test_late_since_begins_anew_with_a_retry():
    late, retry = MoveReason.LATE, MoveReason.RETRY
    first, second, third = (keys.bucket_at(1, MINUTE + n * clock.MINUTE) for n in range(3))
    assert late_ids.late_since_by_moves([(first, late), (second, late)]) == first
    assert late_ids.late_since_by_moves([(first, late), (second, retry)]) is None
    assert late_ids.late_since_by_moves([(first, late), (second, retry), (third, late)]) == third
