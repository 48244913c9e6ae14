"""Accept a list: a draft that nobody sees, then one short transaction that turns it into a task.

Reading a body holds no lock and touches no table (`scheduling.parsing`). The IDs go into a draft in short
transactions, and acceptance takes the draft over, so either all of a list exists or none of it does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import F

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import disk, limits, stopping
from scheduling.core.batches import batches
from scheduling.core.errors import DraftGone, NoSuchQueue, UnexpectedCount
from scheduling.handlers import columns
from scheduling.intake import allocation, idempotency
from scheduling.intake.idempotency import IdempotencyKey
from scheduling.jobqueue import cluster, minute_jobs
from scheduling.lists import erased, external_ids, record_lists, stored_lists
from scheduling.lists.record_lists import RecordSource
from scheduling.parsing.errors import NoSpace
from scheduling.placement import canaries, reservations
from scheduling.store import grouped, inserting
from scheduling.store.prepared import PreparedQuery

# A list this short is stored in the accepting transaction itself.
SHORT = stored_lists.CHUNK_IDS
# The same of a list whose IDs have data.
SHORT_WITH_DATA = record_lists.DATA_CHUNK_IDS
# IDs that are sorted together before they are written: as many as keep inserts in the order of the index.
SEGMENT_IDS = 250_000
# Under carry_over a segment touches no more windows than this, so that a slice has few append points.
SEGMENT_WINDOWS = 8
SAME_AS_WITHIN = timedelta(hours=24)
# A draft that is still being written has a living web process behind it; a preview has a person.
WRITING_KEPT = timedelta(hours=1)
PREVIEW_KEPT = timedelta(hours=24)
_queue = PreparedQuery(lambda name: models.Queue.objects.filter(name=name), str)
_same_list = PreparedQuery(
    lambda queue_id, digest, since: (
        # As a sum: else SQLite looks through all tasks of the queue, instead of those with the digest.
        models.Task.objects.alias(in_queue=F("queue_id") + 0)
        .filter(in_queue=queue_id, same_as_digest=digest, created_at__gte=since)
        .order_by("-id")
        .values_list("id")[:1]
    ),
    int,
    str,
    datetime,
)


@dataclass(frozen=True)
class Submission:
    """A list as somebody submits it, without its IDs. Times are aware, UTC."""

    task_name: str
    queue_name: str = "default"
    payload: Any = None
    column: str = ""
    not_before: datetime | None = None
    expires_at: datetime | None = None
    # The end of its last minute must not be after it.
    deadline: datetime | None = None
    # Its error budget: once `min_finished` IDs have finished, more than this percentage of failures puts it on hold.
    max_failed_percent: float | None = None
    min_finished: int | None = None
    # Its first IDs, which run before the others.
    canary: stopping.Canary | None = None
    allow_peak: bool = False
    expect: int | None = None
    start: reservations.Start = reservations.Start.NEXT_WINDOW
    # The sender's own name for it, by which tasks can be filtered.
    reference: str = ""
    # The columns that travel with its IDs; None where none do.
    data_columns: Sequence[str] | None = None


@dataclass(frozen=True)
class Accepted:
    """The task and its plan. `answer` is what `render` made of them, the same for a repeated request."""

    task: models.Task | None
    plan: reservations.Plan | None
    same_as: int | None
    answer: Any = field(default=None)
    repeated: bool = False


Render = Callable[[Accepted], Any]


def queue_named(name: str, *, lock: bool = False) -> models.Queue:
    """Return the queue with this name. Raises NoSuchQueue.

    lock: until the transaction ends, as `reservations.lock_queue` does.
    """
    # On SQLite a write transaction is all the locking there is.
    is_locked = lock and connection.vendor == "postgresql"
    queues = store.lock_queues("name", [name]) if is_locked else _queue.rows(name)
    if not queues:
        raise NoSuchQueue(name=name)
    return queues[0]


def preview(submission: Submission, ids_count: int, *, at: datetime) -> reservations.Plan:
    """Return the plan that an acceptance at `at` would reserve; nothing is stored.

    Raises NoSuchQueue, UnexpectedCount, PastPeak, PastHorizon, PastExpiry, PastDeadline.
    """
    _expect(submission, ids_count)
    queue = queue_named(submission.queue_name)
    columns.check(queue, submission.data_columns)
    plan = reservations.plan(
        queue, ids_count, at=at, not_before=submission.not_before, start=submission.start
    )
    _check(queue, plan, submission, at=at)
    return plan


def find_same_list(queue: models.Queue, digest: str, *, at: datetime) -> int | None:
    """Return the latest task of the last 24 hours with the same IDs in this queue, in any order."""
    rows = _same_list.values(queue.pk, digest, at - SAME_AS_WITHIN)
    return rows[0][0] if rows else None


def check_room(ids_count: int) -> None:
    """Raise NoSpace for a list whose rows will not fit: now, and not when they are written."""
    # How full PostgreSQL's disk is, only its own server knows.
    if connection.vendor == "sqlite" and not disk.volume("DATA_DIR", settings.DATA_DIR).fits(ids_count):
        raise NoSpace


def write_draft(
    source: stored_lists.Source,
    *,
    at: datetime,
    about: Mapping[str, Any] | None = None,
    to_place: bool = True,
) -> models.IdList:
    """Store a list as a draft, in short transactions. A draft that nobody accepts is swept.

    to_place: whether its IDs will get places; otherwise the list only keeps what a task contains, and in which order.
    If this fails, nothing of the draft remains. Raises ErasedMeanwhile.
    """
    check_room(source.ids_count)
    # Known from the beginning, so that its numbers are taken back whatever becomes of it.
    kind = {"id_type": source.id_type} if isinstance(source, RecordSource) else {}
    draft = models.IdList.objects.create(created_at=at, about={**(about or {}), **kind, "writing": True})
    already_erased = erased.entries(at)
    try:
        remarks = _write(draft, source)
        # Data are read in the order of the list.
        by_range = to_place and not isinstance(source, RecordSource)
        ranges = -(-source.ids_count // SEGMENT_IDS) if by_range else 0
        counts = stored_lists.write_parts(draft, source, ranges) if ranges > 1 else []
        draft.ids_count, draft.repeats_count = source.ids_count, source.repeats_count
        draft.about = {**(about or {}), **remarks, "same_as_digest": source.same_as_digest, "ranges": counts}
        draft.save(update_fields=["ids_count", "repeats_count", "about"])
        erased.check(draft, already_erased)
    except BaseException:
        delete_draft(draft)
        raise
    return draft


def _write(id_list: models.IdList, source: stored_lists.Source) -> dict[str, Any]:
    """Store what a list contains. Returns what its `about` says of that."""
    if isinstance(source, RecordSource):
        return record_lists.write(id_list, source)
    stored_lists.write(id_list, source.unique_blocks(stored_lists.CHUNK_IDS))
    return {}


def discard_preview(draft: models.IdList, *, by: Actor, at: datetime) -> bool:
    """Discard a preview; the activity log keeps whose it was. Returns False if it was committed or is gone."""
    with store.write():
        # Locked, so that of two clicks one leaves a line, and none for a list that was committed.
        locked = models.IdList.objects.select_for_update().filter(pk=draft.pk, accepted_at=None).first()
        if locked is None:
            return False
        about = {"preview_of": draft.about.get("task_name"), "made_by": draft.about.get("operator")}
        activity.record(by, "discarded", at=at, count=draft.ids_count, after=about)
        models.IdList.objects.filter(pk=draft.pk).update(about={**draft.about, "writing": True})
    delete_draft(draft)
    return True


def delete_draft(draft: models.IdList) -> None:
    """Delete a draft, in short transactions; an accepted list is never touched."""
    if not models.IdList.objects.filter(pk=draft.pk, accepted_at=None).exists():
        return
    if draft.about.get("id_type") == "text" and not _release_ids(draft):
        return
    for table in (models.Chunk, models.SegmentPart, models.DataChunk):
        while numbers := list(table.objects.filter(list=draft.pk).values_list("pk", flat=True)[:32]):
            table.objects.filter(pk__in=numbers, list__accepted_at=None).delete()
    models.IdList.objects.filter(pk=draft.pk, accepted_at=None).delete()


def _release_ids(draft: models.IdList) -> bool:
    """Take back the numbers of a draft's text IDs; if that isn't possible now, leave the draft to the sweep."""
    record_lists.delete_chunks([draft.pk])
    while (chunk := models.Chunk.objects.filter(list=draft.pk).order_by("-number").first()) is not None:
        with store.write():
            if not external_ids.release(draft, stored_lists.ids_of_chunk(chunk)):
                given_up = {"id_type": "text", "writing": True, "given_up": True}
                models.IdList.objects.filter(pk=draft.pk, accepted_at=None).update(about=given_up)
                return False
            models.Chunk.objects.filter(pk=chunk.pk, list__accepted_at=None).delete()
    return True


def sweep_drafts(*, at: datetime) -> int:
    """Delete drafts whose process died, previews that nobody committed, and idempotency keys after a week."""
    old = models.IdList.objects.filter(accepted_at=None, created_at__lt=at - WRITING_KEPT)
    swept = 0
    for draft in old.order_by("created_at")[:100]:
        if draft.about.get("writing") or draft.created_at < at - PREVIEW_KEPT:
            delete_draft(draft)
            swept += 1
    idempotency.forget_old(at=at)
    return swept


def submit(
    submission: Submission,
    source: stored_lists.Source,
    *,
    by: Actor,
    now: Callable[[], datetime],
    render: Render,
    key: IdempotencyKey | None = None,
) -> Accepted:
    """Accept a list, completely or not at all. Raises what `accept` raises.

    source: read once. render: makes the response, inside the transaction, because it is kept for repeated requests.
    """
    _expect(submission, source.ids_count)
    is_short = source.ids_count <= (SHORT_WITH_DATA if isinstance(source, RecordSource) else SHORT)
    # Of a short list nothing is stored before its queue is locked.
    if key is not None or not is_short:
        columns.check(queue_named(submission.queue_name), submission.data_columns)
    if key is not None and (stored_answer := idempotency.stored(key, at=now())):
        return _repeated(stored_answer)
    if is_short:
        return _accept(submission, partial(_store_short, source), by=by, now=now, render=render, key=key)
    draft = write_draft(source, at=now())
    try:
        accepted = _accept(submission, partial(_claim_draft, draft), by=by, now=now, render=render, key=key)
    except BaseException:
        delete_draft(draft)
        raise
    if accepted.repeated:
        delete_draft(draft)
    return accepted


def accept(
    submission: Submission,
    draft: models.IdList,
    *,
    by: Actor,
    now: Callable[[], datetime],
    render: Render,
    confirm: Callable[[reservations.Plan], None] | None = None,
) -> Accepted:
    """Turn a draft (a preview, say) into a task.

    confirm: is given the plan under the lock and raises if it isn't what was promised; then nothing is done.
    Raises DraftGone, NoSuchQueue, UnexpectedCount, PastPeak, PastHorizon, PastExpiry, PastDeadline.
    """
    _expect(submission, draft.ids_count)
    take_list = partial(_claim_draft, draft)
    return _accept(submission, take_list, by=by, now=now, render=render, key=None, confirm=confirm)


def _accept(
    submission: Submission,
    take_list: Callable[[datetime], models.IdList],
    *,
    by: Actor,
    now: Callable[[], datetime],
    render: Render,
    key: IdempotencyKey | None,
    confirm: Callable[[reservations.Plan], None] | None = None,
) -> Accepted:
    """Accept a list in one transaction, recognised if the answer to its COMMIT is lost."""

    def change() -> Accepted:
        if key is not None and (stored_answer := idempotency.take(key, at=now())):
            return _repeated(stored_answer)
        queue = queue_named(submission.queue_name, lock=True)
        # Read after the lock: a time from before the wait can name a window that has closed.
        at = now()
        id_list = take_list(at)
        columns.check(queue, id_list.about.get("data_columns"))
        plan = reservations.plan(
            queue, id_list.ids_count, at=at, not_before=submission.not_before, start=submission.start
        )
        _check(queue, plan, submission, at=at)
        if confirm is not None:
            confirm(plan)
        digest = id_list.about["same_as_digest"]
        duplicate_of = find_same_list(queue, digest, at=at)
        at_once = allocation.may_write_at_once(id_list, plan, at=at)
        task = _make_task(submission, queue, id_list, plan, digest=digest, by=by, at=at)
        if at_once:
            task.placed_at = at
        inserting.insert([task])
        place(task, queue, id_list, plan, at=at, at_once=at_once)
        canaries.begin(task, id_list.pk)
        activity.record(by, "submitted", task, at=at, count=id_list.ids_count, after={"queue": queue.name})
        accepted = Accepted(task, plan, duplicate_of)
        accepted = Accepted(task, plan, duplicate_of, answer=render(accepted))
        if key is not None:
            idempotency.keep(key, accepted.answer, task_id=task.pk)
        return accepted

    return grouped.write_together(change, _is_committed)


def _is_committed(accepted: Accepted) -> bool:
    task = accepted.task
    if task is None:
        # Of a repeated request whose task is so old that it was deleted.
        return accepted.repeated
    # Also of one that repeats a request which was committed with it. A key draws from a sequence; should the row be
    # another's nevertheless, it has another moment.
    return models.Task.objects.filter(pk=task.pk, created_at=task.created_at).exists()


def place(
    task: models.Task,
    queue: models.Queue,
    id_list: models.IdList,
    plan: reservations.Plan,
    *,
    at: datetime,
    at_once: bool = False,
) -> None:
    """Reserve the plan for the list's IDs, divide them into segments, arm their minutes, and queue the jobs.

    at_once: write the rows here, without a job.
    """
    log = reservations.reserve(queue, plan, task_id=task.pk, list_id=id_list.pk, at=at)
    segments = _segments(id_list, plan)
    for segment in segments:
        segment.task, segment.lease_until = task, at + limits.SEGMENT_LEASE
    if at_once:
        allocation.write_at_once(segments, log, at=at)
    inserting.insert(segments)
    # The first may run, the second be open; later windows are armed when they open.
    minute_jobs.arm_windows([window.starts_at for window in plan.windows[:2]], at=at)
    if not at_once:
        for _ in range(min(settings.Q_CLUSTER["workers"], -(-plan.ids_count // SEGMENT_IDS))):
            cluster.enqueue("scheduling.jobs.allocate")


def _segments(id_list: models.IdList, plan: reservations.Plan) -> list[models.Segment]:
    """Divide a list by ranges of IDs if it has parts and goes into few windows, otherwise by positions."""
    ranges = id_list.about.get("ranges")
    if ranges and len(plan.windows) <= SEGMENT_WINDOWS:
        return [
            models.Segment(list=id_list, number=number, ids_count=count)
            for number, count in enumerate(ranges)
            if count
        ]
    return [
        models.Segment(list=id_list, number=number, first_position=first, ids_count=count)
        for number, (first, count) in enumerate(
            _stretches(plan, id_list.about.get("segment_ids", SEGMENT_IDS))
        )
    ]


def _stretches(plan: reservations.Plan, most_ids: int) -> Iterator[tuple[int, int]]:
    """Yield (first position, count): consecutive, of much the same size, over few windows each."""
    for group in batches(plan.windows, SEGMENT_WINDOWS):
        position, remaining = group[0].first_position, sum(window.ids_count for window in group)
        for parts in range(-(-remaining // most_ids), 0, -1):
            count = -(-remaining // parts)
            yield position, count
            position, remaining = position + count, remaining - count


def _make_task(
    submission: Submission,
    queue: models.Queue,
    id_list: models.IdList,
    plan: reservations.Plan,
    *,
    digest: str,
    by: Actor,
    at: datetime,
) -> models.Task:
    first_at, last_at = plan.first_at, plan.last_at
    if first_at is None or last_at is None:
        raise ValueError("a list without IDs has no minute")
    return models.Task(
        name=submission.task_name,
        queue=queue,
        list=id_list,
        payload=submission.payload,
        ids_count=id_list.ids_count,
        repeats_count=id_list.repeats_count,
        waiting_count=id_list.ids_count,
        first_minute_at=first_at,
        last_minute_at=last_at,
        not_before_at=submission.not_before,
        expires_at=submission.expires_at,
        deadline_at=submission.deadline,
        max_failed_percent=submission.max_failed_percent,
        min_finished=submission.min_finished,
        **_canary(submission.canary, id_list.ids_count),
        created_at=at,
        created_by=f"token: {by.name}" if by.kind == "token" else by.name,
        same_as_digest=digest,
        column=submission.column,
        reference=submission.reference,
        id_type=id_list.about.get("id_type", "integer"),
        data_columns=id_list.about.get("data_columns"),
    )


def _canary(canary: stopping.Canary | None, ids_count: int) -> dict[str, Any]:
    """The columns of a task that say what its canary is."""
    if canary is None:
        return {}
    return {
        "canary_ids": canary.ids,
        "canary_percent": canary.min_succeeded_percent,
        "canary_state": models.CanaryState.RUNNING,
        "canary_count": min(canary.ids, ids_count),
    }


def _claim_draft(draft: models.IdList, at: datetime) -> models.IdList:
    """Mark the draft as accepted. Raises DraftGone if somebody else has taken it."""
    if not models.IdList.objects.filter(pk=draft.pk, accepted_at=None).update(accepted_at=at):
        raise DraftGone
    return draft


def _store_short(source: stored_lists.Source, at: datetime) -> models.IdList:
    """Store a short list in the transaction that is open."""
    id_list = models.IdList(
        created_at=at,
        accepted_at=at,
        ids_count=source.ids_count,
        repeats_count=source.repeats_count,
        about={"same_as_digest": source.same_as_digest},
    )
    inserting.insert([id_list])
    if isinstance(source, RecordSource):
        # Its IDs are looked up now.
        store.keep_people()
    if remarks := _write(id_list, source):
        id_list.about |= remarks
        id_list.save(update_fields=["about"])
    return id_list


def _check(queue: models.Queue, plan: reservations.Plan, submission: Submission, *, at: datetime) -> None:
    reservations.check(
        queue,
        plan,
        at=at,
        expires_at=submission.expires_at,
        deadline=submission.deadline,
        allow_peak=submission.allow_peak,
    )


def _expect(submission: Submission, ids_count: int) -> None:
    if submission.expect is not None and submission.expect != ids_count:
        raise UnexpectedCount(found=ids_count, expected=submission.expect)


def _repeated(stored_answer: models.IdempotentAnswer) -> Accepted:
    """Return what the first request with this key was answered."""
    task = models.Task.objects.filter(pk=stored_answer.task_id or 0).first()
    return Accepted(task, None, None, answer=stored_answer.answer, repeated=True)
