"""A minute worker needs few round trips to its database, so that it keeps its pace from far away."""

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import DataError, connection, transaction

from scheduling import models, store
from scheduling.core import clock
from scheduling.core.retry import Verdict
from scheduling.dispatch import results
from scheduling.dispatch.minute_worker import MinuteWorker
from scheduling.handlers.base import Outcome
from scheduling.models import Status
from scheduling.store import later
from tests.far_database import way_to
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted, make_queue, place
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime

from .test_claims import BEFORE, MINUTE

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite is no round trip away"),
]


@pytest.fixture
def way():
    # Short: the path of a UNIX socket may have some 100 characters.
    with tempfile.TemporaryDirectory(prefix="qd-", dir="/tmp") as directory:
        connection.close()
        with way_to(connection.settings_dict, Path(directory)) as connection_way:
            yield connection_way
            connection.close()


def serve(way, handler, *, seconds: float = 20) -> list[int]:
    """Serve a minute; return how many round trips each tick took."""
    time = SimulatedTime(MINUTE - timedelta(seconds=3))
    worker = time.worker(MINUTE, make_handler=lambda queue: handler)
    taken, due = [], worker.tick()
    while due is not None and worker.clock.elapsed() < seconds:
        time.sleep(max(0.0, due - worker.clock.elapsed()))
        before = way.round_trips
        due = worker.tick()
        taken.append(way.round_trips - before)
    if worker.sender:
        worker.sender.stop()
    # What is still being sent would otherwise end in whichever test runs when it is collected.
    for request in asyncio.all_tasks(time.loop):
        request.cancel()
    time.loop.run_ready()
    time.loop.close()
    return taken


@pytest.mark.parametrize("handler", ["webhook", "record"])
def test_tick_takes_three_round_trips(way, handler):
    of_webhooks = {"webhook_url": "https://hook.test/in"} if handler == "webhook" else {}
    for name in ("a", "b"):
        place(make_queue(name, rpm=600, handler=handler, **of_webhooks), {MINUTE: range(1, 601)}, at=BEFORE)
    models.Installation.current()
    taken = serve(way, SimulatedHandler())
    assert counted()["succeeded"] > 200
    # A busy machine may lose its connection to the limit of a transaction, and connects again.
    assert sorted(taken)[-3] <= 3, Counter(taken)
    check_counters()


def test_returning_unsent_ids_takes_three_round_trips(way):
    """A queue of two connections and a target that takes 3 s: most of what is claimed isn't sent in time."""
    queue = make_queue(rpm=600, handler="webhook", webhook_url="https://hook.test/in", max_connections=2)
    place(queue, {MINUTE: range(1, 601)}, at=BEFORE)
    models.Installation.current()
    taken = serve(way, SimulatedHandler(seconds=3))
    assert models.Bucket.objects.filter(waiting_count__gt=0).exists()
    assert sorted(taken)[-3] <= 3, Counter(taken)
    check_counters()


def test_retries_are_placed_in_few_round_trips(way, monkeypatch):
    queue = make_queue(rpm=600, handler="webhook", webhook_url="https://hook.test/in", max_attempts=6)
    place(queue, {MINUTE: range(1, 601)}, at=BEFORE)
    models.Installation.current()
    taken, place_retries = [], results.place_retries

    def counting(*arguments):
        before = way.round_trips
        place_retries(*arguments)
        taken.append(way.round_trips - before)

    monkeypatch.setattr(results, "place_retries", counting)
    handler = SimulatedHandler(
        lambda request: Outcome(Verdict.RETRY if request.user_id % 10 == 0 else Verdict.SUCCEEDED, status=503)
    )
    serve(way, handler, seconds=10)
    assert len(taken) > 5
    # The first one arms the minutes that follow.
    assert sorted(taken)[-2] <= 3, taken
    check_counters()


def test_unchanged_rows_end_the_transaction():
    store.keep_waits_short()
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: [1, 2]}, at=BEFORE)
    keys = list(models.Assignment.objects.values_list("pk", flat=True))

    @transaction.atomic
    def change():
        models.Assignment.objects.filter(pk=keys[0]).update(status=Status.CANCELLED)
        store.set_status_of_all(keys, Status.IN_FLIGHT, was=Status.WAITING)

    with pytest.raises(DataError, match="2 rows were to change, 1 did"):
        change()
    assert counted() == {"waiting": 2}


def test_transaction_limits_do_not_outlive_the_transaction():
    store.keep_waits_short()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("500ms",)
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)


def test_postponed_statements_are_dropped_after_an_error():
    store.keep_waits_short()
    queue = make_queue(rpm=60)

    @transaction.atomic
    def fail():
        later.update(models.Queue.objects.filter(pk=queue.pk), rpm=7)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with transaction.atomic():
        later.update(models.Queue.objects.filter(pk=queue.pk), brake_per_minute=9)
    queue.refresh_from_db()
    assert (queue.rpm, queue.brake_per_minute) == (60, 9)


@pytest.mark.parametrize("seconds", [0.02, 0.055])
def test_host_far_from_its_database_keeps_its_pace(seconds):
    """Each statement that is sent takes as long as a round trip, by the simulation's clock."""
    queue = make_queue(rpm=600, handler="webhook", webhook_url="https://hook.test/in")
    place(queue, {MINUTE: range(1, 601)}, at=BEFORE)
    models.Installation.current()
    time = SimulatedTime(MINUTE - timedelta(seconds=3))

    def far(execute, sql, params, many, context):
        time.sleep(seconds / 2)
        try:
            return execute(sql, params, many, context)
        finally:
            time.sleep(seconds / 2)

    def now():
        time.sleep(seconds / 2)
        at = time.now()
        time.sleep(seconds / 2)
        return at

    handler = SimulatedHandler()
    clocks = replace(time.clocks(), now=now)
    worker = MinuteWorker(
        clock.minute_number(MINUTE), 0, clocks, owner=1, make_sender=time.sender(lambda queue: handler)
    )
    with connection.execute_wrapper(far):
        worker.serve()
    time.loop.close()
    assert counted() == {"succeeded": 600}
    started = models.Assignment.objects.order_by("pk").values_list("started_after_ms", flat=True)
    late = sorted(ms - number * 100 for number, ms in enumerate(started))
    assert late[590] <= 20, late[-20:]
