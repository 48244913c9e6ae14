"""Rows that the database refuses to change: found one by one, and ended, so that the other rows continue.

An attempts counter at its end, a trigger or a constraint of the deployment, a damaged page: whatever it is, a statement
for many rows fails as a whole for one of them.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

import structlog
from django.db import DatabaseError, transaction
from django.db.models import F

from scheduling import models, store
from scheduling.core import keys
from scheduling.core.limits import ERROR_CHARACTERS
from scheduling.handlers.base import truncate
from scheduling.models import Status
from scheduling.placement import ledger, reservations
from scheduling.store import outcomes

log = structlog.get_logger(__name__)

# Rows of a bucket that are tried: the first that wait or are in flight, a few seconds' work at worst.
MOST_ROWS = 5_000
# The largest smallint.
MOST_ATTEMPTS = 32_767
# Rows that can't even be ended: each is logged once by a process.
_logged_keys: set[int] = set()


def end_bad_rows(bucket_id: int, now: Callable[[], datetime]) -> set[int]:
    """End the rows of a bucket that can't be changed as a minute changes them; return the keys of all that were found.

    Each gets the status `failed`, with the database's reason in its history.
    """
    first, last = keys.range_of_bucket(bucket_id)
    rows = models.Assignment.objects.filter(pk__gte=first, pk__lte=last)
    open_rows = rows.filter(status__in=(Status.WAITING, Status.IN_FLIGHT)).order_by("pk")
    reasons = _refused(list(open_rows.values_list("pk", flat=True)[:MOST_ROWS]))
    for key, reason in reasons.items():
        try:
            _end(bucket_id, key, reason, now)
        except DatabaseError as error:
            if store.is_unavailable(error):
                raise
            if key not in _logged_keys:
                log.exception("bad_row_not_ended", bucket=bucket_id, key=key)
            _logged_keys.add(key)
    return set(reasons)


def _refused(keys_tried: Sequence[int]) -> dict[int, str]:
    """Return the keys whose rows can't be changed, each with the reason. Nothing is changed."""
    try:
        with transaction.atomic():
            rows = models.Assignment.objects.filter(pk__in=keys_tried)
            for status in (Status.IN_FLIGHT, Status.SUCCEEDED):
                rows.update(status=status, attempts=F("attempts") + 1, started_after_ms=0)
                rows.update(attempts=F("attempts") - 1)
            # SQLite would take any number.
            most = rows.filter(attempts__gte=MOST_ATTEMPTS).values_list("pk", flat=True)
            too_many = dict.fromkeys(most, "it has had more attempts than can be counted")
            transaction.set_rollback(True)
            return too_many
    except DatabaseError as error:
        if store.is_unavailable(error):
            raise
        if len(keys_tried) == 1:
            return {keys_tried[0]: truncate(error, ERROR_CHARACTERS)}
    middle = len(keys_tried) // 2
    return _refused(keys_tried[:middle]) | _refused(keys_tried[middle:])


def _end(bucket_id: int, key: int, reason: str, now: Callable[[], datetime]) -> None:
    with store.write():
        reservations.lock_queue(keys.queue_of_bucket(bucket_id))
        models.Bucket.objects.select_for_update().get(pk=bucket_id)
        row = models.Assignment.objects.get(pk=key)
        was = Status(row.status)
        if was not in (Status.WAITING, Status.IN_FLIGHT):
            return
        ledger.lock_tasks([row.task_id])
        try:
            with transaction.atomic():
                store.set_status([key], Status.FAILED, was=was)
        except DatabaseError as error:
            if store.is_unavailable(error):
                raise
            # A row that refuses every change can perhaps be deleted and inserted again.
            models.Assignment.objects.filter(pk=key).delete()
            row.status = Status.FAILED
            row.save(force_insert=True)
            outcomes.add([key])
        counters = ledger.Counters()
        counters.change(row.task_id, bucket_id, was, Status.FAILED)
        counters.write()
        models.Attempt.objects.create(
            task_id=row.task_id,
            user_id=row.user_id,
            number=min(row.attempts + 1, MOST_ATTEMPTS),
            bucket_id=bucket_id,
            started_at=now(),
            error=truncate(f"the database refuses to change its row: {reason}", ERROR_CHARACTERS),
        )
        ledger.finish([row.task_id], at=now())
    log.error("bad_row_ended", bucket=bucket_id, key=key, reason=reason)
