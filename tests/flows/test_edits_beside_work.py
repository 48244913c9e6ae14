"""Edits, cancels, claims and writers at once: nobody waits in a circle, and every number adds up."""

import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import keys
from scheduling.core.errors import StillPlacing
from scheduling.dispatch import claims, messages
from scheduling.intake import allocation
from scheduling.tasks import cancellation, edits
from tests.patience import MOST_SECONDS
from tests.scheduling.lists_of_ids import NOON, check_counters, check_log, spool_of, submit, write_all

pytestmark = pytest.mark.django_db(transaction=True)

SECONDS = 5.0
# Lists of noon run from 12:15 on; what comes in now goes into the window of 12:15.
MINUTE = NOON.replace(minute=16, second=0)
NOW = MINUTE + timedelta(seconds=5)


class Crowd:
    """Threads that each do something again and again, until the time is up and it is enough, or one of them fails."""

    def __init__(self, is_enough: Callable[[], bool]) -> None:
        # On a busy machine it takes longer until anything has been done.
        self.is_enough = is_enough
        began = time.monotonic()
        self.until, self.at_most_until = began + SECONDS, began + SECONDS + MOST_SECONDS
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def add(self, act: Callable[[], None]) -> None:
        def run() -> None:
            try:
                while self.goes_on():
                    act()
            except BaseException as error:
                self.failures.append(error)
            finally:
                connection.close()

        self._threads.append(threading.Thread(target=run))

    def goes_on(self) -> bool:
        now = time.monotonic()
        is_over = now >= self.until and (self.is_enough() or now >= self.at_most_until)
        return not is_over and not self.failures

    def run(self) -> None:
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        if self.failures:
            raise self.failures[0]


class Seat:
    """Claims a minute's IDs a second at a time, and keeps an outcome of each in the next turn."""

    def __init__(self, queue: models.Queue, owner: int) -> None:
        self.owner, self.elapsed = owner, 0.0
        self.bucket = keys.bucket_at(queue.pk, MINUTE)
        self.want = queue
        self.batches: set[int] = set()
        self.results: list[messages.Result] = []
        self.done = 0

    def turn(self, *, claim: bool = True) -> None:
        until = self.elapsed + 1.0
        wants = (
            {self.bucket: messages.ClaimRequest(queue=self.want, until=until, immediate=False)}
            if claim
            else {}
        )
        turn = claims.commit_tick(
            owner=self.owner,
            elapsed=lambda: self.elapsed,
            requests=wants,
            results=self.results,
            open_batches=self.batches,
            now=lambda: NOW,
        )
        self.done += len(self.results)
        self.batches |= {item.batch_id for item in turn.claims}
        # Each fourth comes back unsent, as from a paused queue.
        self.results = [
            messages.Result(item, models.Status.WAITING)
            if number % 4 == 3
            else messages.Result(item, models.Status.SUCCEEDED, started_after_ms=round(item.offset * 1000))
            for number, item in enumerate(turn.claims)
        ]
        self.elapsed = until if until < 55 else 0.0
        time.sleep(0.01)


def test_concurrent_edits_cancels_and_claims_never_deadlock_and_add_up(transactional_db, tmp_path):
    by = Actor.command_line()
    queue = models.Queue.objects.create(name="default", rpm=600, created_at=NOON)
    tasks = [submit(range(first, first + 3_000), tmp_path, by=by).task for first in (1, 2_001, 4_001)]
    write_all()
    draw = random.Random(7)
    seats = [Seat(queue, owner) for owner in (11, 12)]
    counts = {"edits": 0, "cancels": 0}

    def is_enough() -> bool:
        return min(counts.values()) > 1 and sum(seat.done for seat in seats) > 20

    crowd = Crowd(is_enough)

    def edit(task: models.Task) -> None:
        ids = draw.sample(range(1, 12_001), draw.randint(500, 4_000))
        with spool_of(ids, tmp_path) as spool:
            try:
                edits.replace(task, spool, by=by, now=lambda: NOW)
                counts["edits"] += 1
            except StillPlacing:
                time.sleep(0.02)

    def submit_and_cancel() -> None:
        task = submit(draw.sample(range(1, 5_001), 500), tmp_path, by=by, at=NOW).task
        time.sleep(draw.random() / 20)
        cancellation.cancel(task, by=by, now=lambda: NOW)
        counts["cancels"] += 1

    for seat in seats:
        crowd.add(seat.turn)
    for task in tasks[:2]:
        crowd.add(lambda task=task: edit(task))
    # Not until nothing is left: an edit writes its own IDs under its lease, however long that takes it here.
    crowd.add(lambda: (allocation.write_segments(lambda: NOW), time.sleep(0.01)))
    crowd.add(submit_and_cancel)
    crowd.run()

    for seat in seats:
        seat.turn(claim=False)
    write_all(NOW + timedelta(minutes=1))
    for task in models.Task.objects.filter(cancelled_at__isnull=False):
        cancellation.update_rows(task.pk, lambda: NOW)
    assert is_enough()
    assert not models.Assignment.objects.filter(status=models.Status.IN_FLIGHT).exists()
    check_counters()
    check_log()
    wrong = [
        str(difference) for difference in proof.check(lambda: NOW) if "left behind" not in difference.check
    ]
    assert not [error for error in wrong if "older than two leases" not in error]
