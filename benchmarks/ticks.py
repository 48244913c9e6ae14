"""Ticks of a minute worker without its requests. Imported where Django is set up."""

import time
from collections.abc import Iterator
from datetime import datetime

from scheduling import models, store
from scheduling.core import keys
from scheduling.dispatch import claims, messages


def claim_and_record(queue: models.Queue, minute: datetime, *, at_most: int) -> Iterator[float]:
    """Let the IDs of a minute succeed; yield the seconds of each tick.

    Each tick records what the one before it claimed, and claims anew. at_most: IDs of a tick.
    """
    requests = {keys.bucket_at(queue.pk, minute): messages.ClaimRequest(queue, 60.0, False, at_most)}
    claimed: list[messages.Claim] = []
    finished: set[int] = set()
    while True:
        results = [messages.Result(claim, models.Status.SUCCEEDED, 1) for claim in claimed]
        began = time.perf_counter()
        tick = claims.commit_tick(
            owner=1,
            elapsed=lambda: 0.0,
            requests=requests,
            results=results,
            finished_batches=finished,
            now=store.now,
        )
        yield time.perf_counter() - began
        # A batch is deleted by the tick after the one that recorded its results.
        finished = {claim.batch_id for claim in claimed}
        claimed = list(tick.claims)
        if not claimed and not results:
            return


def record_at_once(queue: models.Queue, minute: datetime, *, at_most: int, owner: int = 1) -> None:
    """Let the IDs of a minute succeed whose handler is `record`: a tick claims and completes `at_most` of them."""
    requests = {keys.bucket_at(queue.pk, minute): messages.ClaimRequest(queue, 60.0, True, at_most)}
    while claims.commit_tick(
        owner=owner, elapsed=lambda: 0.0, requests=requests, now=store.now
    ).recorded_count:
        pass
