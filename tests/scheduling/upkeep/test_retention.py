"""Rows past their retention are deleted in small steps, and the proofs still hold for the rest."""

from datetime import datetime, timedelta

import pytest

from scheduling import models, proof
from scheduling.core import clock, keys
from scheduling.placement import shapes
from scheduling.proof import chain
from scheduling.upkeep import quarter_hour, retention
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db

NIGHT = MINUTE + timedelta(days=100)


@pytest.fixture
def old_and_young():
    """A task from 100 days ago that ran and was totalled, and one from yesterday."""
    queue = make_queue(rpm=60)
    old = place(queue, {MINUTE: range(1, 21)}, at=BEFORE)
    SimulatedWorker(queue).serve(0, 60)
    quarter_hour.run(lambda: MINUTE + timedelta(minutes=16))
    yesterday = clock.quarter_start(NIGHT - timedelta(days=1))
    young = place(queue, {yesterday: range(1, 21)}, at=yesterday - timedelta(minutes=5))
    return old, young


def test_old_task_is_pruned_with_its_rows_and_a_young_one_stays(old_and_young, settings):
    settings.RETENTION_DAYS = 90
    _old, young = old_and_young
    assert retention.prune(lambda: NIGHT)
    assert list(models.Task.objects.all()) == [young]
    assert set(models.Assignment.objects.values_list("task_id", flat=True)) == {young.pk}
    assert not models.Window.objects.filter(starts_at__lt=NIGHT - timedelta(days=90)).exists()
    assert models.IdList.objects.count() == models.Task.objects.count()
    assert proof.check(lambda: clock.quarter_start(NIGHT - timedelta(days=1))) == []


def test_rows_are_not_pruned_before_their_time(old_and_young, settings):
    settings.RETENTION_DAYS = 101
    rows = models.Assignment.objects.count()
    assert retention.prune(lambda: NIGHT)
    assert models.Assignment.objects.count() == rows
    assert models.Task.objects.count() == 2


def test_window_with_waiting_ids_is_not_pruned(settings):
    settings.RETENTION_DAYS = 90
    queue = make_queue(rpm=60, paused_at=BEFORE)
    place(queue, {MINUTE: range(1, 21)}, at=BEFORE)
    assert retention.prune(lambda: NIGHT)
    assert models.Assignment.objects.count() == 20


def test_rows_are_pruned_in_small_steps(old_and_young, settings, monkeypatch):
    settings.RETENTION_DAYS = 90
    monkeypatch.setattr(retention, "STEP_ROWS", 3)
    assert not retention.prune(lambda: NIGHT, seconds=0)
    assert retention.prune(lambda: NIGHT)
    assert models.Task.objects.count() == 1


def test_window_that_was_totalled_after_younger_ones_stays_until_they_go(settings):
    """A file of receipts from that time on has no gap in its chain."""
    settings.RETENTION_DAYS = 10
    queue = make_queue(rpm=60)
    begin = clock.quarter_start(MINUTE)
    starts = [begin + number * clock.QUARTER for number in (1, 2, 0, 3)]
    for start in starts:
        window = keys.window_id(queue.pk, start)
        shapes.create_windows(queue, [window])
        receipt = {"possible_repeats": 0, "sent": 0}
        models.Window.objects.filter(pk=window).update(totalled_at=begin, receipt=receipt)
        chain.append(queue, window, receipt, "")

    def kept_since(border: datetime) -> set[int]:
        at = border + 2 * clock.QUARTER + timedelta(days=10)
        while not retention.prune(lambda: at):
            continue
        return {starts.index(window.starts_at) + 1 for window in models.Window.objects.filter(queue=queue)}

    # The oldest window is the third of the chain, and the first two are younger.
    assert kept_since(begin + clock.QUARTER) == {1, 2, 3, 4}
    assert kept_since(begin + 2 * clock.QUARTER) == {2, 3, 4}
    assert kept_since(begin + 3 * clock.QUARTER) == {4}
