"""Quarterdeck itself, from this tree, as `python -m runner` runs it with PostgreSQL.

The paced cells use its handler `python`, and their numbers are put into the minutes from PEER_START on. It has no "as
fast as it goes", since it spreads a list over minutes: there, two processes claim and record an accepted list with the
handler `record`, as minute workers do, and note each number after the commit. `add` and `enqueue` accept a list, as the
POST of one does, without HTTP.
"""

import os
import signal
import sys
import time
from array import array
from datetime import timedelta
from functools import partial
from pathlib import Path

from benchmarks.peers import contract, record

QUEUE = "jobs"
CALLABLE = "benchmarks.peers.record.start_batch"
PROCESSES = 2
TICK_IDS = 4_000


def setup() -> None:
    from django.core.management import call_command
    from django.utils import timezone

    from scheduling import models

    call_command("migrate", verbosity=0)
    call_command("prepare")
    models.Queue.objects.create(
        name=QUEUE, rpm=1_000_000, max_connections=contract.AT_ONCE, created_at=timezone.now()
    )


def enqueue(count: int, rpm: int) -> None:
    from scheduling import models, store
    from scheduling.intake import allocation
    from tests.scheduling import placed

    if not rpm:
        _submit(range(count))
        while models.Segment.objects.unwritten().exists():
            allocation.write_segments(store.now)
        return
    models.Queue.objects.filter(name=QUEUE).update(rpm=rpm, handler="python", python_callable=CALLABLE)
    queue = models.Queue.objects.get(name=QUEUE)
    minutes = {
        contract.start_of(first, rpm): range(first + 1, min(first + rpm, count) + 1)
        for first in range(0, count, rpm)
    }
    placed.place(queue, minutes, at=store.now() - timedelta(minutes=1))


def add(number: int) -> None:
    _submit(range(number, number + 1))


def _submit(numbers: range) -> None:
    from django.conf import settings

    from operators.actor import Actor
    from scheduling import store
    from scheduling.intake import acceptance
    from scheduling.parsing.spool import Spool

    with Spool(Path(settings.SPOOL_DIR)) as spool:
        spool.extend(array("q", (number + 1 for number in numbers)))
        spool.finish()
        acceptance.submit(
            acceptance.Submission(task_name="a list", queue_name=QUEUE, allow_peak=True),
            spool,
            by=Actor.system(),
            now=store.now,
            render=lambda accepted: None,
        )


def work(rpm: int) -> None:
    if rpm:
        os.execv(sys.executable, [sys.executable, "-m", "runner"])
    for number in range(PROCESSES):
        if not os.fork():
            _claim_and_record(number)
            os._exit(0)
    signal.pause()


def _claim_and_record(process: int) -> None:
    """Claim and record every bucket whose turn among the processes it is."""
    from scheduling import models, store
    from scheduling.dispatch import claims, messages

    queue = models.Queue.objects.get(name=QUEUE)
    tick = partial(claims.commit_tick, owner=os.getpid(), elapsed=lambda: 0.0, now=store.now)
    buckets = models.Bucket.objects.filter(filled_count__gt=0).order_by("pk")
    first_of: dict[int, int] = {}
    total = 0
    for bucket_id, filled in buckets.values_list("pk", "filled_count"):
        first_of[bucket_id] = total
        total += filled
    for bucket_id in list(first_of)[process::PROCESSES]:
        number = first_of[bucket_id]
        request = {bucket_id: messages.ClaimRequest(queue, 60.0, True, TICK_IDS)}
        began = time.time()
        while recorded := tick(requests=request).recorded_count:
            # The first one of a tick stands for its begin, so that the first tick's time is counted too.
            record.note(number, began)
            for each in range(number + 1, number + recorded):
                record.note(each, time.time())
            number += recorded
            began = time.time()


def pending() -> int:
    from scheduling import models

    unfinished: list[models.Status] = [models.Status.WAITING, models.Status.IN_FLIGHT]
    return models.Assignment.objects.filter(status__in=unfinished).count()


if __name__ == "__main__":
    import django

    django.setup()
    contract.main(setup=setup, enqueue=enqueue, add=add, work=work, pending=pending)
