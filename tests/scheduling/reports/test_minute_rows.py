"""The IDs of a minute one by one: when each was to start, when it did, and how late that is."""

from datetime import timedelta

import pytest

from operators.actor import Actor
from scheduling import models
from scheduling.core import keys
from scheduling.dispatch import overdue
from scheduling.models import Status
from scheduling.reports import minute_rows
from scheduling.tasks import cancellation
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db

AFTER = MINUTE + timedelta(seconds=70)


def rows(queue, minute=MINUTE, **options) -> list[minute_rows.Row]:
    return list(minute_rows.rows([keys.bucket_at(queue.pk, minute)], at=AFTER, **options))


def planned(result) -> list[float | None]:
    return [row.planned_at and (row.planned_at - MINUTE).total_seconds() for row in result]


def test_rows_before_their_minute_have_the_planned_slot():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 21)}, at=BEFORE)
    result = rows(queue)
    assert planned(result) == [3.0 * j for j in range(20)]
    assert {row.started_at for row in result} == {None}


def test_rows_after_their_minute_have_their_start_too():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 21)}, at=BEFORE)
    SimulatedWorker(queue).serve(0, 60)
    result = rows(queue)
    assert planned(result) == [3.0 * j for j in range(20)]
    assert {row.status for row in result} == {Status.SUCCEEDED}
    assert all(abs((row.started_at - row.planned_at).total_seconds()) <= 1 for row in result)
    assert {row.late_seconds for row in result} == {0}


def test_rows_of_the_next_page_continue_the_slots():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 21)}, at=BEFORE)
    whole = rows(queue)
    assert rows(queue, after=whole[6].key, at_most=5) == whole[7:12]


def test_rows_cancelled_before_sealing_have_no_slot():
    queue = make_queue(rpm=60)
    first = place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    place(queue, {MINUTE: range(11, 21)}, at=BEFORE)
    cancellation.cancel(first, by=Actor.command_line(), now=lambda: BEFORE)
    SimulatedWorker(queue).serve(0, 60)
    result = rows(queue)
    assert planned(result) == [None] * 10 + [6.0 * j for j in range(10)]
    assert [row.status for row in result[:10]] == [Status.CANCELLED] * 10
    assert rows(queue, after=result[12].key) == result[13:]


def test_rows_of_an_incomplete_minute_have_no_planned_slot():
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: range(1, 21)}, at=BEFORE)
    models.Assignment.objects.filter(task=task, user_id=7).delete()
    assert planned(rows(queue)) == [None] * 19


def test_rows_from_an_earlier_minute_are_late_since_it():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 21)}, at=BEFORE)
    overdue.run(lambda: AFTER)
    minute = keys.minute_of_bucket(models.Assignment.objects.first().bucket_id)
    result = rows(queue, minute)
    assert len(result) == 20
    assert {row.late_seconds for row in result} == {(minute - MINUTE).total_seconds() - 60}


def test_rows_keep_their_slots_after_others_have_moved_away():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 21)}, at=BEFORE)
    worker = SimulatedWorker(queue)
    worker.serve(0, 40)
    overdue.run(lambda: AFTER)
    result = rows(queue)
    assert len(result) == len(worker.sent) == 14
    assert planned(result) == [3.0 * j for j in range(14)]
