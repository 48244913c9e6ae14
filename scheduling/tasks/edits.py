"""Change a task that exists: rename it, or replace its list."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain, compress, islice
from typing import Any

from django.conf import settings
from django.db.models import F, Max, Min, Q

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import id_tokens, keys, limits
from scheduling.core.batches import batches
from scheduling.core.errors import BadFields, StaleVersion, StillPlacing, TaskCancelled, UnexpectedCount
from scheduling.handlers import columns
from scheduling.intake import acceptance
from scheduling.lists import stored_lists
from scheduling.lists.differences import CombinedSource, Difference, blocks_of
from scheduling.lists.record_lists import RecordSource, SomeRecords, StoredRecords
from scheduling.models import Group, Status
from scheduling.placement import canaries, ledger, reservations
from scheduling.placement.removals import ChangedMeanwhile, Removal, record_in_flight
from scheduling.store import later, outcomes
from scheduling.tasks.cancellation import Cancelled
from scheduling.tasks.edited_data import ChangedData, columns_after

NAME_LENGTH = 200


def rename(task: models.Task, name: str, *, by: Actor, at: datetime, if_version: int | None = None) -> None:
    """Give the task another name. Raises BadFields, StaleVersion."""
    _check_name(name)
    with store.write():
        unchanged = models.Task.objects.filter(pk=task.pk)
        if if_version is not None:
            unchanged = unchanged.filter(version=if_version)
        # Locked before it is read: of two renames at once, each says truly what was there before it.
        before = unchanged.select_for_update().values_list("name", flat=True).first()
        if before is None:
            raise StaleVersion
        unchanged.update(name=name, version=F("version") + 1)
        task.name = name
        activity.record(by, "renamed", task, at=at, before={"task_name": before}, after={"task_name": name})


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= NAME_LENGTH or not id_tokens.is_visible(name):
        raise BadFields(
            task_name=f"It must have 1 to {NAME_LENGTH} characters, at least one of them visible."
        )


# --- Another list ---


@dataclass(frozen=True)
class Replaced:
    """The result of replacing a task's list.

    Of the new list, `kept` IDs keep their place or their outcome, and `added` got a place by `plan`. Of the
    old list's other IDs, `cancelled` had not been sent, `already_sent` had, and `in_flight` were being sent;
    those that had expired are in none of these counts.
    """

    task: models.Task
    plan: reservations.Plan
    kept: int
    added: int
    cancelled: int
    already_sent: int
    in_flight: int


def replace(
    task: models.Task,
    source: stored_lists.Source,
    *,
    name: str | None = None,
    payload: Any = None,
    column: str = "",
    allow_peak: bool = False,
    expect: int | None = None,
    if_version: int | None = None,
    by: Actor,
    now: Callable[[], datetime],
) -> Replaced:
    """Replace a task's list, completely or not at all.

    An ID in both lists keeps its place. An ID that is only in the old one and was not sent is cancelled, and its
    place is free for the IDs that are only in the new one. The task's list is then the new one, followed by the
    removed IDs. Comparing holds no lock; the change is one transaction, as long as it takes to update the rows
    that are cancelled.

    Raises UnexpectedCount, BadFields, StillPlacing, TaskCancelled, StaleVersion, PastPeak, PastHorizon,
    PastExpiry, PastDeadline.
    """
    if expect is not None and expect != source.ids_count:
        raise UnexpectedCount(found=source.ids_count, expected=expect)
    if name is not None:
        _check_name(name)
    if getattr(source, "id_type", "integer") != task.id_type:
        raise BadFields(id_type=f"The IDs of this task are of the type {task.id_type}.")
    edit = partial(
        _replace,
        task,
        name=name,
        payload=payload,
        column=column,
        allow_peak=allow_peak,
        if_version=if_version,
        by=by,
        now=now,
    )
    if not isinstance(source, RecordSource) or source.id_type == "integer":
        return edit(source)
    with _numbered(source, at=now()) as numbered:
        return edit(numbered)


@contextmanager
def _numbered(source: RecordSource, *, at: datetime) -> Iterator[RecordSource]:
    """Give the text IDs of a source their numbers; they are taken back if the edit is refused."""
    draft = acceptance.write_draft(source, at=at, to_place=False)
    try:
        yield StoredRecords(draft)
    except BaseException:
        acceptance.delete_draft(draft)
        raise
    # They belong to the task now.
    draft.about = {"writing": True}
    draft.save(update_fields=["about"])
    acceptance.delete_draft(draft)


def _replace(
    task: models.Task,
    source: stored_lists.Source,
    *,
    name: str | None,
    payload: Any,
    column: str,
    allow_peak: bool,
    if_version: int | None,
    by: Actor,
    now: Callable[[], datetime],
) -> Replaced:
    while True:
        task = models.Task.objects.select_related("list").get(pk=task.pk)
        _check_replaceable(task)
        if if_version not in (None, task.version):
            raise StaleVersion
        edit = _Edit(task, source, name or task.name, payload, column, allow_peak)
        try:
            with (
                _difference(task, source) as difference,
                Removal(task, difference, settings.SPOOL_DIR) as removal,
                ChangedData(task, source, difference) as changed,
            ):
                return _exchange(edit, difference, removal, changed, by=by, now=now)
        except ChangedMeanwhile:
            continue


def _check_replaceable(task: models.Task) -> None:
    if task.cancelled_at is not None:
        raise TaskCancelled
    if task.placed_at is None:
        raise StillPlacing


@dataclass(frozen=True)
class _Edit:
    """What is asked for. task: as it was when the lists were compared."""

    task: models.Task
    source: stored_lists.Source
    name: str
    payload: Any
    column: str
    allow_peak: bool


def _difference(task: models.Task, source: stored_lists.Source) -> Difference:
    def cancelled(ids: array[int]) -> frozenset[int]:
        if not task.cancelled_count:
            return frozenset()
        rows = models.Assignment.objects.filter(task=task, status=Status.CANCELLED)
        blocks = (rows.filter(user_id__in=batch).values_list("user_id", flat=True) for batch in batches(ids))
        return frozenset(chain.from_iterable(blocks))

    listed = task.list.about.get("listed_count", task.list.ids_count)
    return Difference.between(task.list_id, listed, source, folder=settings.SPOOL_DIR, cancelled=cancelled)


def _exchange(
    edit: _Edit,
    difference: Difference,
    removal: Removal,
    changed: ChangedData,
    *,
    by: Actor,
    now: Callable[[], datetime],
) -> Replaced:
    source, added, removed_ids = edit.source, difference.added, difference.removed
    at = now()
    whole = CombinedSource(
        source.ids_count + removed_ids.count,
        source.unique_blocks,
        lambda size: blocks_of(removed_ids, size),
        repeats_count=source.repeats_count,
        digest=source.same_as_digest,
    )
    drafts = []
    try:
        about = {"listed_count": source.ids_count}
        drafts.append(acceptance.write_draft(whole, at=at, about=about, to_place=False))
        if added.count:
            ids = CombinedSource(added.count, lambda size: blocks_of(added, size))
            with_data = SomeRecords(source, ids) if isinstance(source, RecordSource) else ids
            drafts.append(acceptance.write_draft(with_data, at=at))
        with store.write():
            return _exchange_locked(edit, difference, removal, changed, *drafts, by=by, now=now)
    except BaseException:
        for draft in drafts:
            acceptance.delete_draft(draft)
        raise


def _exchange_locked(
    edit: _Edit,
    difference: Difference,
    removal: Removal,
    changed: ChangedData,
    whole: models.IdList,
    added: models.IdList | None = None,
    *,
    by: Actor,
    now: Callable[[], datetime],
) -> Replaced:
    queue = reservations.lock_queue(edit.task.queue_id)
    at = now()
    task = models.Task.objects.get(pk=edit.task.pk)
    _check_replaceable(task)
    if task.version != edit.task.version:
        raise ChangedMeanwhile
    columns.check(queue, getattr(edit.source, "data_columns", None))
    ledger.lock_waiting_buckets(task)
    # Removed IDs first, so that their places are free for the added ones.
    removed = removal.cancel_waiting()
    record_in_flight(task, removed.in_flight)
    ledger.release_places(queue, task, removed.released, at=at)
    added_count = added.ids_count if added else 0
    plan = reservations.plan(queue, added_count, at=at, not_before=task.not_before_at)
    reservations.check(
        queue,
        plan,
        at=at,
        expires_at=task.expires_at,
        deadline=task.deadline_at,
        allow_peak=edit.allow_peak,
    )
    returning_count = _bring_back(task, queue, plan, difference, at=at) if any(difference.returning) else 0
    changed.write()
    if added:
        acceptance.place(task, queue, added, plan, at=at)
    list_ids = [id_list.pk for id_list in (whole, added) if id_list]
    models.IdList.objects.filter(pk__in=list_ids).update(accepted_at=at)
    cancelled_count = sum(removed.released.values())
    updated = models.Task.objects.filter(pk=task.pk, version=task.version).update(
        name=edit.name,
        list=whole,
        payload=edit.payload,
        column=edit.column,
        data_columns=columns_after(task, edit.source),
        ids_count=whole.ids_count,
        repeats_count=edit.source.repeats_count,
        same_as_digest=edit.source.same_as_digest,
        waiting_count=F("waiting_count") + added_count - cancelled_count,
        cancelled_count=F("cancelled_count") + cancelled_count - returning_count,
        version=F("version") + 1,
        **_minutes(task),
        **({"placed_at": None, **ledger.NOT_DONE} if added else {}),
    )
    if not updated:
        raise ChangedMeanwhile
    _release_unplaced_list(task.list_id, at=at)
    task.refresh_from_db()
    canaries.refill(task, whole.pk, edit.source.ids_count)
    canaries.decide([task.pk], at=at)
    ledger.finish([task.pk], at=at)
    task.refresh_from_db()
    replaced = Replaced(
        task,
        plan,
        kept=difference.kept_count,
        added=added_count,
        cancelled=cancelled_count,
        already_sent=removed.already_sent_count,
        in_flight=removed.in_flight_count,
    )
    numbers = {name: getattr(replaced, name) for name in ("kept", "added", *Cancelled.__annotations__)}
    before = {"task_name": edit.task.name, "ids": edit.task.ids_count}
    activity.record(
        by, "replaced", task, at=at, count=edit.source.ids_count, before=before,
        after={"task_name": edit.name, "ids": edit.source.ids_count, **numbers},
    )  # fmt: skip
    return replaced


def _release_unplaced_list(list_id: int, *, at: datetime) -> None:
    """Leave a list that no place depends on to the sweep, as a draft that nobody will finish."""
    segments = models.Segment.objects.filter(list=list_id)
    if not segments.exists():
        abandoned = {"writing": True}
        models.IdList.objects.filter(pk=list_id).update(accepted_at=None, created_at=at, about=abandoned)


def _bring_back(
    task: models.Task, queue: models.Queue, plan: reservations.Plan, difference: Difference, *, at: datetime
) -> int:
    """Delete the rows of IDs that an earlier edit had cancelled, so that they can be written anew. Returns how many.

    They are written at their new places with the rest of the list. Each leaves a move behind, so that every ID of
    the task is in one place.
    """
    buckets = reservations.buckets_in_order(queue, plan)
    returned_count = 0
    for start in range(0, difference.added.count, limits.IDS_PER_QUERY):
        users = difference.added.read(start, limits.IDS_PER_QUERY)
        flags = difference.returning[start : start + len(users)]
        new_buckets = dict(compress(zip(users, islice(buckets, len(users)), strict=True), flags))
        rows = models.Assignment.objects.filter(task=task, user_id__in=new_buckets, status=Status.CANCELLED)
        moved: dict[ledger.Route, list[int]] = defaultdict(list)
        cancelled_rows = list(rows.values_list("user_id", "pk", "attempts"))
        earlier = [
            models.EarlierAttempts(task=task, user_id=u, attempts=n) for u, _, n in cancelled_rows if n
        ]
        models.EarlierAttempts.objects.bulk_create(earlier, batch_size=limits.IDS_PER_QUERY)
        for user, pk, _ in cancelled_rows:
            moved[ledger.Route(task.pk, keys.bucket_of_assignment(pk), new_buckets[user])].append(user)
        later.must_be(len(new_buckets), len(cancelled_rows))
        outcomes.keep(pk for _, pk, _ in cancelled_rows)
        later.must_be(len(new_buckets), rows.delete()[0])
        ledger.record_returns(moved, at=at)
        returned_count += len(cancelled_rows)
    return returned_count


def _minutes(task: models.Task) -> dict[str, datetime]:
    """The first and the last minute of the task's places, as columns; none where all of it is cancelled."""
    has_places = Q()
    for status in Status.of(Group.PLACED):
        has_places |= Q(**{f"{status.counter}__gt": 0})
    buckets = models.TaskBucket.objects.filter(has_places, task=task)
    ends = buckets.aggregate(first=Min("bucket_id"), last=Max("bucket_id"))
    if ends["first"] is None:
        return {}
    return {
        "first_minute_at": keys.minute_of_bucket(ends["first"]),
        "last_minute_at": keys.minute_of_bucket(ends["last"]),
    }
