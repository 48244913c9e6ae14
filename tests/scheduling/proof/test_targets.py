"""The check of targets: the starts of several queues, as their receipts have them, in any 60 seconds."""

from datetime import UTC, datetime

import pytest

from scheduling import models, proof
from scheduling.core import clock, keys, receipt_chain
from scheduling.placement import shapes
from scheduling.proof import targets
from tests.scheduling.placed import make_queue

pytestmark = pytest.mark.django_db
STARTS_AT = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
AT = STARTS_AT + 3 * clock.QUARTER


def receipts(starts: dict[str, list[int]], *, slots: int = 5, shared: bool = True) -> None:
    """Receipts of queues at one target: when each started requests, in ms after the window's first minute."""
    target, _ = models.Target.objects.get_or_create(origin="https://t.test:443", rpm=5)
    for number, (name, times) in enumerate(starts.items()):
        queue = make_queue(name, rpm=5, target=target)
        window_id = keys.window_id(queue.pk, STARTS_AT)
        shapes.create_windows(queue, [window_id])
        models.Window.objects.filter(pk=window_id).update(totalled_at=AT)
        plan = {"slots": slots, "parts": [[queue.pk, 5]]} if shared else None
        models.Bucket.objects.filter(window=window_id).update(target_id=target.pk, target_slots=plan)
        models.ChainedReceipt.objects.create(
            pk=window_id,
            queue=queue,
            sequence=1,
            hash=str(number),
            starts=receipt_chain.write_starts(dict.fromkeys(times, 1)),
        )


def differences() -> list[proof.Difference]:
    return targets.piece(proof.START, AT).differences


def test_starts_within_the_budget_are_no_difference():
    receipts({"a": [0, 24_000, 59_000, 61_000], "b": [30_000, 31_000]})
    assert differences() == []


def test_starts_of_two_queues_past_the_budget_are_found():
    # Seven in the 60 s from 10 s on, over the border of two minutes.
    receipts({"a": [10_000, 24_000, 59_000, 61_000], "b": [30_000, 31_000, 69_000]})
    (result,) = differences()
    assert (result.check, result.said, result.found) == ("60 seconds of a target are within its budget", 6, 7)


def test_minute_that_was_sealed_before_the_budget_is_left_out():
    receipts({"a": [*range(0, 60_000, 5_000)]}, shared=False)
    assert differences() == []


def test_every_quarter_hour_is_checked_once():
    receipts({"a": [1_000]})
    step = targets.piece(proof.START, AT)
    assert step.checked == {"quarter-hour": 1}
    assert step.cursor is None
