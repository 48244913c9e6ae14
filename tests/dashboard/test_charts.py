"""Bars of a plan, as numbers."""

from datetime import UTC, datetime

from dashboard.drawing import charts
from scheduling.core import clock
from scheduling.reports.cards import Minute

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def test_labels_of_many_minutes_leave_room_for_that_of_the_current_one():
    minutes = [Minute(minute=NOON + k * clock.MINUTE, capacity=60, waiting=1) for k in range(45)]
    bars = charts.chart(minutes, now=NOON + 23 * clock.MINUTE).bars

    labelled = [k for k, bar in enumerate(bars) if bar.is_labelled]
    # 20 and 25 are nearer to 23 than a label is wide.
    assert labelled == [0, 5, 10, 15, 30, 35, 40]
    # On a phone every second of them.
    assert [k for k in labelled if not bars[k].is_minor] == [0, 10, 30, 40]
