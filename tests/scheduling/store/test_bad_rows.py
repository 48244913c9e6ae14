"""A row that can't be changed ends by itself: the other rows of its minute are served in it."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection

from scheduling import models
from scheduling.core import clock
from scheduling.dispatch import bad_rows, overdue, recovery
from scheduling.models import Status
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted, make_queue, place
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime

from .test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db
HOOK = {"handler": "webhook", "webhook_url": "https://hook.test/"}


def refuse(user: int, *, description: str = "") -> None:
    """Let a trigger refuse to change the row of an ID, or to change it in some way."""
    condition = f"NEW.user_id = {user} {description}"
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(
                f"CREATE TRIGGER refuse_{user} BEFORE UPDATE ON scheduling_assignment WHEN {condition}"
                " BEGIN SELECT RAISE(ABORT, 'no change of this row'); END"
            )
            return
        cursor.execute(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'no change of this row'; END $$"
        )
        cursor.execute(
            f"CREATE TRIGGER refuse_{user} BEFORE UPDATE ON scheduling_assignment FOR EACH ROW"
            f" WHEN ({condition}) EXECUTE FUNCTION refuse()"
        )


@pytest.fixture
def time():
    return SimulatedTime(MINUTE - timedelta(seconds=4))


@pytest.mark.parametrize("fields", [HOOK, {}], ids=["webhook", "record"])
@pytest.mark.parametrize("description", ["", "AND NEW.status = 2", "AND NEW.status = 3"])
def test_minute_is_served_except_for_rows_that_cannot_be_changed(time, caplog, fields, description):
    queue, handler = make_queue(rpm=600, **fields), SimulatedHandler()
    task = place(queue, {MINUTE: range(1, 101)}, at=BEFORE)
    models.Assignment.objects.filter(user_id=40).update(attempts=32_767)
    refuse(70, description=description)
    time.tick_to_the_end(time.worker(MINUTE, make_handler=lambda queue: handler))
    task.refresh_from_db()
    failed = set(models.Assignment.objects.filter(status=Status.FAILED).values_list("user_id", flat=True))
    # `record` never claims a row without finishing it; and SQLite counts on.
    assert failed <= {40, 70}
    assert Counter(counted()) == Counter(succeeded=100 - len(failed), failed=len(failed))
    if fields or description != "AND NEW.status = 2":
        assert 70 in failed
        reason = models.Attempt.objects.get(user_id=70).error
        assert reason.startswith("the database refuses to change its row: no change of this row")
    if fields:
        assert 40 in failed
        assert 40 not in {request.user_id for request in handler.requests}
    assert task.finished_at is not None
    text = [record for record in caplog.records if "bad_row_ended" in record.getMessage()]
    assert len(text) == len(failed)
    check_counters()


def test_unchangeable_row_blocks_neither_recovery_nor_moves():
    queue = make_queue(rpm=60, **HOOK)
    place(queue, {MINUTE: range(1, 31)}, at=BEFORE)
    worker = SimulatedWorker(queue)
    claimed = [claim for at in (0, 10, 20) for claim in worker.tick(at, at_most=2).claims]
    in_flight, waiting = claimed[0].user_id, 25
    assert waiting not in {claim.user_id for claim in claimed}
    refuse(in_flight)
    refuse(waiting)
    at = MINUTE + timedelta(seconds=80)
    recovery.recover(lambda: at)
    recovery.recover(lambda: at)
    assert overdue.run(lambda: at) == 28
    assert counted() == {"failed": 2, "waiting": 28}
    assert {row.minute_at for row in models.Assignment.objects.filter(status=Status.WAITING)} == {
        MINUTE + 2 * clock.MINUTE
    }
    check_counters()


def test_rows_are_not_ended_without_a_bad_row():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 31)}, at=BEFORE)
    [bucket] = models.Bucket.objects.filter(waiting_count=30)
    assert bad_rows.end_bad_rows(bucket.pk, lambda: MINUTE) == set()
    assert counted() == {"waiting": 30}
    assert set(models.Assignment.objects.values_list("attempts", "started_after_ms")) == {(0, None)}
