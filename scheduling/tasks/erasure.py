"""Erase a person: what waits is cancelled, and nothing remains but the numbers that counts are made of."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.contrib.admin.models import LogEntry
from django.db.models import F, Q

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import keys
from scheduling.core.errors import NobodyToErase, StillInFlight, StillPlacing
from scheduling.intake import acceptance
from scheduling.lists import erased, external_ids, record_lists, stored_lists
from scheduling.models import Status
from scheduling.placement import canaries, ledger, reservations

# The text that replaces an erased text ID.
ERASED = "(erased)"


# While lists with the ID keep arriving.
TRIES = 3


class _ArrivedMeanwhile(Exception):
    """A list with the ID was accepted and written since its tasks were looked up."""


def erase(user_id: int, *, by: Actor, now: Callable[[], datetime]) -> int:
    """Erase a person everywhere; return how many requests were cancelled. Rows keep only the number.

    user_id: negative for an ID that is text. Raises NobodyToErase for an ID that nothing is known of, StillPlacing
    while a list with it is being written, and StillInFlight while a request for it is being made; then nothing is
    erased, except for previews with the ID, which are discarded.
    """
    texts = external_ids.texts([user_id])
    rows = models.Assignment.objects.filter(user_id=user_id)
    is_stored = models.User.objects.filter(pk=user_id).exists() or texts or rows.exists()
    _check_written(user_id)
    store.overwrite_what_is_deleted()
    if not _discard_previews(user_id, by=by, at=now()) and not is_stored:
        raise NobodyToErase
    for _ in range(TRIES):
        with suppress(_ArrivedMeanwhile):
            cancelled = _erase_rows(user_id, texts.get(user_id), by=by, now=now)
            store.overwrite_log()
            return cancelled
        _discard_previews(user_id, by=by, at=now())
    raise StillPlacing


def _erase_rows(user_id: int, text: str | None, *, by: Actor, now: Callable[[], datetime]) -> int:
    """Cancel what waits and forget the rest: one transaction. Raises _ArrivedMeanwhile for an ID of a new list."""
    rows = models.Assignment.objects.filter(user_id=user_id)
    task_ids = sorted(rows.values_list("task_id", flat=True))
    with store.write():
        # Queues first, in their order, as everywhere.
        tasks = models.Task.objects.filter(pk__in=task_ids).order_by()
        queue_ids = sorted(tasks.values_list("queue_id", flat=True).distinct())
        queues = reservations.lock_queues(queue_ids)
        store.lock_people()
        at = now()
        _check_tasks(user_id, task_ids)
        _check_drafts(user_id)
        if rows.filter(status=Status.IN_FLIGHT).exists():
            raise StillInFlight
        cancelled = sum(_cancel(row, queues, at) for row in rows.filter(status=Status.WAITING).order_by("pk"))
        if rows.with_status(Status.IN_FLIGHT, Status.WAITING).exists():
            # Claimed between the two looks.
            raise StillInFlight
        _forget(user_id, task_ids, text)
        activity.record(by, erased.VERB, models.User(pk=user_id), at=at, count=len(task_ids))
        _check_tasks(user_id, task_ids)
    return cancelled


def _check_tasks(user_id: int, task_ids: list[int]) -> None:
    """Raise _ArrivedMeanwhile if the ID is in other tasks too: in queues whose rows are not locked."""
    others = models.Assignment.objects.filter(user_id=user_id).exclude(task_id__in=task_ids)
    if others.exists():
        raise _ArrivedMeanwhile
    _check_written(user_id)


def _check_written(user_id: int) -> None:
    """Raise StillPlacing if a list that has the ID is being written: its chunks hold data."""
    placing = models.Segment.objects.unwritten().order_by().values("list_id")
    if stored_lists.positions_of(user_id, placing):
        raise StillPlacing


def _check_drafts(user_id: int) -> None:
    """Raise _ArrivedMeanwhile if a draft has the ID: of a list that is accepted now, or of a new preview."""
    drafts = models.IdList.objects.filter(accepted_at=None).exclude(about__has_key="given_up")
    if stored_lists.positions_of(user_id, drafts.order_by().values("pk")):
        raise _ArrivedMeanwhile


def _discard_previews(user_id: int, *, by: Actor, at: datetime) -> bool:
    """Discard the previews that have the ID; return whether there were any.

    Raises StillPlacing if a list with the ID is being read or accepted.
    """
    drafts = models.IdList.objects.filter(accepted_at=None).exclude(about__has_key="given_up")
    positions = stored_lists.positions_of(user_id, drafts.order_by().values("pk"))
    for draft in drafts.filter(pk__in=list(positions)):
        if "operator" in draft.about and not draft.about.get("writing"):
            acceptance.discard_preview(draft, by=by, at=at)
        elif draft.created_at > at - acceptance.WRITING_KEPT:
            raise StillPlacing
        else:
            # Its process died.
            acceptance.delete_draft(draft)
    return bool(positions)


def _cancel(row: models.Assignment, queues: dict[int, models.Queue], at: datetime) -> int:
    """Cancel a waiting row and free its place. Returns 0 for one of a cancelled task, whose place is free."""
    task = models.Task.objects.get(pk=row.task_id)
    if task.cancelled_at is not None:
        return 0
    ledger.lock_waiting_buckets(task)
    if not store.set_status([row.pk], Status.CANCELLED, was=Status.WAITING):
        return 0
    ledger.release_places(queues[task.queue_id], task, {keys.bucket_of_assignment(row.pk): 1}, at=at)
    models.Task.objects.filter(pk=task.pk).update(
        waiting_count=F("waiting_count") - 1, cancelled_count=F("cancelled_count") + 1
    )
    canaries.decide([task.pk], at=at)
    ledger.finish([task.pk], at=at)
    return 1


def _forget(user_id: int, task_ids: list[int], text: str | None) -> None:
    """Delete what is known of a person besides the number."""
    models.User.objects.filter(pk=user_id).delete()
    models.ExternalId.objects.filter(pk=user_id).delete()
    # Of lists that are written, these remain if their worker died.
    record_lists.delete_chunks(models.Task.objects.filter(pk__in=task_ids).values_list("list_id", flat=True))
    models.IdData.objects.filter(task_id__in=task_ids, user_id=user_id).delete()
    attempts = models.Attempt.objects.filter(task_id__in=task_ids, user_id=user_id)
    # A summary of failures is made again from what is kept.
    models.FailureCount.objects.filter(bucket_id__in=attempts.values("bucket_id")).delete()
    attempts.update(answer="", error="")
    of_user = models.Activity.objects.filter(object_kind="user", object_id=user_id)
    of_user.update(object_name=ERASED, before=None, after=None)
    # The response of the request that made the user.
    for stored_answer in models.IdempotentAnswer.objects.filter(task_id=None, answer__id=user_id):
        answer = stored_answer.answer or {}
        stored_answer.answer = answer | {name: ERASED for name in ("name", "external_id") if answer.get(name)}
        stored_answer.save(update_fields=["answer"])
    # The admin keeps a log of its own, with the name.
    of_admin = LogEntry.objects.filter(
        content_type__app_label="scheduling", content_type__model="user", object_id=str(user_id)
    )
    of_admin.update(object_repr=ERASED, change_message="")
    if text is not None:
        _forget_text(task_ids, text)


def _forget_text(task_ids: list[int], text: str) -> None:
    """Take a text ID out of what was shown of its lists: their first and last IDs."""
    lists = models.IdList.objects.filter(
        Q(task__in=task_ids) | Q(pk__in=models.Segment.objects.filter(task__in=task_ids).values("list"))
    )
    for id_list in lists.filter(about__has_key="first").distinct():
        id_list.about = _without(id_list.about, ("first", "last"), text)
        id_list.save(update_fields=["about"])
    for answer in models.IdempotentAnswer.objects.filter(task_id__in=task_ids):
        if isinstance(answer.answer, dict):
            answer.answer = _without(answer.answer, ("first_ids", "last_ids"), text)
            answer.save(update_fields=["answer"])


def _without(facts: dict[str, Any], names: Iterable[str], text: str) -> dict[str, Any]:
    changed = {name: [ERASED if item == text else item for item in facts.get(name) or ()] for name in names}
    return {**facts, **{name: value for name, value in changed.items() if name in facts}}
