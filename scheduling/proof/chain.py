"""The chain of receipts: each queue's are chained as they are written, and checked one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from scheduling import models
from scheduling.core import clock, keys, receipt_chain

from .base import Cursor, Difference, Piece, retained_since

RECEIPTS_AT_A_TIME = 50


def append(queue: models.Queue, window_id: int, receipt: Mapping[str, Any], starts: str) -> None:
    """Chain a receipt to the queue's last one, in the transaction that has locked the queue's row."""
    last = models.ChainedReceipt.objects.filter(queue=queue).order_by("-sequence").defer("starts").first()
    sequence, previous = (last.sequence + 1, last.hash) if last else (1, receipt_chain.GENESIS)
    own = _content(queue.name, window_id, sequence, previous, receipt, starts)
    models.ChainedReceipt.objects.create(
        pk=window_id,
        queue=queue,
        sequence=sequence,
        hash=receipt_chain.digest(receipt_chain.canonical(own)),
        starts=starts,
    )


def unchained() -> QuerySet[models.Window]:
    """Return the windows whose receipt was written by an earlier version, and isn't chained yet."""
    chained = models.ChainedReceipt.objects.filter(pk=OuterRef("pk"))
    return models.Window.objects.filter(~Exists(chained), totalled_at__isnull=False, receipt__isnull=False)


def _content(
    queue: str, window_id: int, sequence: int, previous: str, receipt: Mapping[str, Any], starts: str
) -> dict[str, Any]:
    return receipt_chain.content(
        queue=queue,
        sequence=sequence,
        previous=previous,
        runs_from=f"{clock.runs_at(keys.starts_at_of_window(window_id)):%Y-%m-%dT%H:%M:%SZ}",
        receipt=receipt,
        starts=starts,
    )


def lines(queue: models.Queue, chained: Sequence[models.ChainedReceipt]) -> Iterator[dict[str, Any]]:
    """Yield receipts of a queue as a file has them. chained: in order; those whose receipt is deleted are left out."""
    receipts = _receipts(chained)
    before = models.ChainedReceipt.objects.filter(queue=queue, sequence=chained[0].sequence - 1).first()
    previous = before.hash if before else receipt_chain.GENESIS
    for link in chained:
        if link.pk in receipts:
            own = _content(queue.name, link.pk, link.sequence, previous, receipts[link.pk], link.starts)
            yield own | {"hash": link.hash, "starts": link.starts}
        previous = link.hash


def _receipts(chained: Sequence[models.ChainedReceipt]) -> dict[int, Any]:
    windows = models.Window.objects.filter(pk__in=[link.pk for link in chained], receipt__isnull=False)
    return dict(windows.values_list("pk", "receipt"))


def piece(cursor: Cursor, at: datetime) -> Piece:
    """Check the next receipts, queue by queue. cursor: the queue and the sequence of the last one that was checked."""
    following = Q(queue_id=cursor[0], sequence__gt=cursor[1]) | Q(queue_id__gt=cursor[0])
    rows = models.ChainedReceipt.objects.filter(following).select_related("queue")
    links = list(rows.order_by("queue_id", "sequence")[:RECEIPTS_AT_A_TIME])
    before = models.ChainedReceipt.objects.filter(queue_id=cursor[0], sequence=cursor[1]).first()
    receipts = _receipts(links)
    differences: list[Difference] = []
    for link in links:
        if before is not None and before.queue_id != link.queue_id:
            before = None
        differences += _differences(link, before, receipts.get(link.pk), retained_since(at))
        before = link
    last = links[-1] if len(links) == RECEIPTS_AT_A_TIME else None
    return Piece(
        differences, (last.queue_id, last.sequence) if last else None, checked={"receipt": len(links)}
    )


def _differences(
    link: models.ChainedReceipt, before: models.ChainedReceipt | None, receipt: Any, since: datetime
) -> Iterator[Difference]:
    """Compare a receipt with its hash, and its place with the one before. since: when the retention began."""
    of = f"window {link.pk}, receipt {link.sequence}"
    if receipt is None:
        # Of the oldest, only the hash is kept.
        if keys.starts_at_of_window(link.pk) >= since:
            yield Difference("a chained receipt is kept", of, 1, 0)
    elif link.sequence != (before.sequence + 1 if before else 1):
        yield Difference(
            "a receipt follows the one before it", of, link.sequence - 1, before.sequence if before else 0
        )
    else:
        previous = before.hash if before else receipt_chain.GENESIS
        own = _content(link.queue.name, link.pk, link.sequence, previous, receipt, link.starts)
        if receipt_chain.digest(receipt_chain.canonical(own)) != link.hash:
            yield Difference("a receipt leads to its hash", of, 1, 0)
