"""What a queue has done by hour and day: as the receipts and counters of its windows say."""

from datetime import timedelta

import pytest

from scheduling import models
from scheduling.core import clock, keys
from scheduling.dispatch import overdue
from scheduling.reports import drill_down, trends
from scheduling.upkeep import quarter_hour
from tests.scheduling.placed import make_queue, place
from tests.scheduling.reports.test_request_log import answer
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
BEGIN = MINUTE - timedelta(minutes=15)
HOURS = [(BEGIN - HOUR, BEGIN), (BEGIN, BEGIN + HOUR), (BEGIN + HOUR, BEGIN + 2 * HOUR)]


def counted(queue: models.Queue) -> list[tuple[int, int, int]]:
    windows = trends.of_windows(queue, begin=HOURS[0][0], end=HOURS[-1][1])
    return [(span.requests, span.failed, span.late) for span in trends.by_span(windows, HOURS)]


def test_trends_count_requests_failures_and_late_ids_once(django_assert_num_queries):
    queue, other = make_queue(rpm=60), make_queue("other", rpm=60)
    place(queue, {MINUTE: [1, 2, 3], MINUTE + clock.MINUTE: [4, 5]}, at=BEFORE)
    place(other, {MINUTE: [9]}, at=BEFORE)
    answer(queue, {1: 200, 2: 404, 3: 201})
    after = MINUTE + 2 * clock.MINUTE + timedelta(seconds=30)
    overdue.run(lambda: after)
    with django_assert_num_queries(3):
        assert counted(queue) == [(0, 0, 0), (3, 1, 2), (0, 0, 0)]
    late = drill_down.DrillDown([queue.pk], drill_down.Kind.MOVED_LATE, after, *HOURS[1])
    assert late.count() == 2


def test_trends_read_late_ids_of_a_totalled_window_from_its_receipt(django_assert_num_queries):
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: [1]}, at=BEFORE)
    answer(queue, {1: 200})
    window_id = keys.window_of_bucket(keys.bucket_at(queue.pk, MINUTE))
    quarter_hour.total(lambda: MINUTE + HOUR)
    window = models.Window.objects.get(pk=window_id)
    assert window.receipt["late"] == 0
    models.Window.objects.filter(pk=window_id).update(receipt={**window.receipt, "late": 7})
    with django_assert_num_queries(2):
        assert counted(queue) == [(0, 0, 0), (1, 0, 7), (0, 0, 0)]
