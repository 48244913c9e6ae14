"""Reserve places in windows: for lists by the two rules, for late IDs and retries the first free ones.

Every function that changes a fill expects the caller to hold the queue's row (`lock_queue`), and with it the row of its
target, if that has a budget.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

from django.conf import settings

from scheduling import models, store
from scheduling.core import allocator, clock, keys, limits
from scheduling.core.errors import BadFields, PastDeadline, PastExpiry, PastHorizon, PastPeak
from scheduling.placement import budgets, quotas, shapes
from scheduling.placement.snapshot import Snapshot
from scheduling.store import inserting
from scheduling.store.prepared import PreparedQuery

EMPTY = (0,) * clock.BUCKETS
WINDOWS_A_DAY = 96
# The windows that a search for a free place reads at a time: a day of them.
STRIDE = WINDOWS_A_DAY


@dataclass(frozen=True)
class WindowPlan:
    """The places that a list takes in one window. `before`, `added` and `level` are 15 numbers each."""

    window_id: int
    before: tuple[int, ...]
    added: tuple[int, ...]
    first_position: int
    # What lists may plan of each minute, where that isn't the queue's rpm.
    level: tuple[int, ...] | None = None
    # How many IDs each minute may hold, where the target has a budget.
    limit: tuple[int, ...] | None = None

    @property
    def ids_count(self) -> int:
        return sum(self.added)

    @property
    def starts_at(self) -> datetime:
        return keys.starts_at_of_window(self.window_id)


class Start(StrEnum):
    """The minute from which on a list is placed."""

    # In the window that takes lists in, by the queue's overflow policy.
    NEXT_WINDOW = "next_window"
    # At the first free places from the next minute that can be written to, never past rpm.
    FIRST_FREE = "first_free"


@dataclass(frozen=True)
class ShareCost:
    """What it costs a list that it may take only a share of each minute, and what that leaves for others.

    left: places in a minute of the queue's rpm. last_at: the list's last minute if it might take all.
    """

    percent: int
    left: int
    last_at: datetime | None

    @property
    def ends_at(self) -> datetime | None:
        return None if self.last_at is None else self.last_at + clock.MINUTE


@dataclass(frozen=True)
class Plan:
    """The places of a list: what a preview shows, an acceptance reserves and a response contains."""

    rpm: int
    windows: tuple[WindowPlan, ...] = field(default=())
    start: Start = Start.NEXT_WINDOW
    # None where a list may take all of a minute.
    share: ShareCost | None = None

    @property
    def ids_count(self) -> int:
        return sum(window.ids_count for window in self.windows)

    @property
    def peak_per_minute(self) -> int:
        """Return the fullest minute of the list's windows, once the list is in them."""
        return max((b + a for w in self.windows for b, a in zip(w.before, w.added, strict=True)), default=0)

    @property
    def first_at(self) -> datetime | None:
        """Return the start of the first minute that gets an ID."""
        return self._minute(self.windows[:1], min)

    @property
    def last_at(self) -> datetime | None:
        """Return the start of the last minute that gets an ID."""
        return self._minute(self.windows[-1:], max)

    @staticmethod
    def _minute(windows: Sequence[WindowPlan], pick: Callable[[Iterator[int]], int]) -> datetime | None:
        for window in windows:
            k = pick(k for k, count in enumerate(window.added) if count)
            return keys.minute_of_bucket(keys.bucket_id(window.window_id, k))
        return None


_unwritten = PreparedQuery(
    lambda queue_id: (
        models.Segment.objects.unwritten()
        .filter(task__queue_id=queue_id)
        .values_list("task_id", "ids_count", "written_count")
    ),
    int,
)
_fills = PreparedQuery(
    lambda first, last: models.Bucket.objects.filter(pk__gte=first, pk__lte=last).values_list(
        "pk", "filled_count"
    ),
    int,
    int,
)


def buckets_in_order(queue: models.Queue, plan: Plan) -> Iterator[int]:
    """Yield the bucket of each ID of a plan, in the order of its list."""
    for window in plan.windows:
        level = window.level or queue.list_rpm
        if plan.start == Start.FIRST_FREE:
            places = allocator.in_order(window.added)
        else:
            places = allocator.places(window.before, level, window.limit)
        for k in islice(places, window.ids_count):
            yield keys.bucket_id(window.window_id, k)


def lock_queue(queue_id: int, *, target_id: int | None = None) -> models.Queue:
    """Return the queue, with its row locked until the transaction ends: every change of a fill begins here.

    The row of its target, if that has a budget, is locked before it. target_id: so is this one's.
    """
    queues = lock_queues([queue_id], target_ids=[] if target_id is None else [target_id])
    if queue_id not in queues:
        raise models.Queue.DoesNotExist
    return queues[queue_id]


def lock_queues(queue_ids: Collection[int], *, target_ids: Collection[int] = ()) -> dict[int, models.Queue]:
    """Return queues by key, locked as `lock_queue` does: first all targets, then all queues, each in order."""
    queues: dict[int, models.Queue] = {}
    if queue_ids:
        rows = store.lock_queues("id", sorted(queue_ids), sorted(target_ids))
        queues = {queue.pk: queue for queue in rows}
    elif target_ids:
        list(
            models.Target.objects.select_for_update()
            .filter(pk__in=target_ids)
            .order_by("pk")
            .values_list("pk")
        )
    return queues


def unwritten(queue: models.Queue) -> list[int]:
    """Return, for each list of the queue that is being written, how many of its IDs have no row yet."""
    counts: dict[int, int] = {}
    for task_id, ids, written in _unwritten.values(queue.pk):
        counts[task_id] = counts.get(task_id, 0) + ids - written
    return list(counts.values())


def fills(window_ids: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Return the fills of those of the windows that have rows."""
    if not window_ids:
        return {}
    first, last = keys.range_of_window(window_ids[0])[0], keys.range_of_window(window_ids[-1])[1]
    rows = _fills.values(first, last)
    return {window: tuple(fill) for window, fill in keys.by_window(rows).items()}


def plan(
    queue: models.Queue,
    ids_count: int,
    *,
    at: datetime,
    not_before: datetime | None = None,
    start: Start = Start.NEXT_WINDOW,
) -> Plan:
    """Return where `ids_count` more IDs of one list would go if they were accepted at `at`.

    Nothing is stored; exact as long as nobody else changes the queue's fills. Raises BadFields for a
    `not_before` past limits.LATEST_START.
    """
    if not_before is not None and not_before > limits.LATEST_START:
        raise BadFields(not_before=f"It must be a time up to {limits.LATEST_START:%Y-%m-%d}.")
    result = _plan(queue, ids_count, at=at, not_before=not_before, start=start)
    if queue.max_share_percent == 100 or queue.overflow != models.Overflow.CARRY_OVER:
        return result
    whole = copy(queue)
    whole.max_share_percent = 100
    without = _plan(whole, ids_count, at=at, not_before=not_before, start=start)
    remaining_capacity = max(0, queue.list_rpm - shapes.share_of(queue, queue.rpm))
    return replace(result, share=ShareCost(queue.max_share_percent, remaining_capacity, without.last_at))


def _plan(
    queue: models.Queue, ids_count: int, *, at: datetime, not_before: datetime | None, start: Start
) -> Plan:
    if ids_count == 0:
        return Plan(rpm=queue.rpm, start=start)
    others, rate = unwritten(queue), settings.WRITE_RATE
    if start == Start.FIRST_FREE:
        minute = clock.first_writable_minute(at, ids=ids_count, unwritten=others, rate=rate)
        if not_before is not None:
            minute = max(minute, clock.minute_start(not_before + clock.MINUTE - timedelta(microseconds=1)))
        return Plan(queue.rpm, _at_least_one(_first_free(queue, ids_count, minute)), start)
    starts_at = clock.first_window(at, ids=ids_count, unwritten=others, rate=rate, not_before=not_before)
    first = keys.window_id(queue.pk, starts_at)
    if queue.overflow == models.Overflow.DISPERSE and queue.target_id is None and shapes.is_shaped(queue):
        return Plan(queue.rpm, _at_least_one(_dispersed(queue, first, ids_count)))
    if queue.overflow == models.Overflow.DISPERSE and queue.target_id is None:
        before = fills([first]).get(first, EMPTY)
        return Plan(
            queue.rpm, (WindowPlan(first, before, allocator.counts(before, queue.list_rpm, ids_count), 0),)
        )
    return Plan(queue.rpm, _at_least_one(_carried_over(queue, first, ids_count)))


def _at_least_one(windows: Iterator[WindowPlan]) -> tuple[WindowPlan, ...]:
    plans = tuple(windows)
    if not plans:
        raise BadFields(hours=shapes.NEVER_OPEN)
    return plans


def _dispersed(queue: models.Queue, first: int, ids_count: int) -> Iterator[WindowPlan]:
    """Both rules, in the first window that has an open minute; what a quota leaves no room for, in a later period."""
    fills_by_offset, position = _fills_from(first), 0
    stretches, read = _watched(shapes.stretches(queue, first))
    quota_room = quotas.remaining(queue, first)
    for run in allocator.dispersed_within(stretches, ids_count, fills=fills_by_offset, quotas=quota_room):
        yield WindowPlan(first + run.first, run.before, run.added, position, read[-1].capacity)
        position += run.ids


def _fills_from(first: int) -> dict[int, tuple[int, ...]]:
    """The fills of a queue's windows from one on, by their offset from it."""
    last_of_queue = (keys.queue_of_window(first) + 1) * keys.QUARTERS - 1
    return {window - first: fill for window, fill in fills([first, last_of_queue]).items()}


def _watched(
    stretches: Iterator[allocator.Stretch],
) -> tuple[Iterator[allocator.Stretch], list[allocator.Stretch]]:
    """The stretches, and those that were read: a run lies in the one that was read last."""
    read: list[allocator.Stretch] = []

    def watched() -> Iterator[allocator.Stretch]:
        for stretch in stretches:
            read[:] = [stretch]
            yield stretch

    return watched(), read


def _first_free(queue: models.Queue, ids_count: int, from_minute: datetime) -> Iterator[WindowPlan]:
    """Place by rule 1 from a minute on: first in the rest of its window, then in the following ones."""
    # As for late IDs, a brake holds, and one of 0 is a stop: places are those of the time after it.
    is_shaped = shapes.is_shaped(queue)
    per_minute = min(queue.list_rpm, queue.brake_per_minute or queue.list_rpm)
    bucket = keys.bucket_at(queue.pk, from_minute)
    window_id = keys.window_of_bucket(bucket)
    fill, capacities = [0] * clock.BUCKETS, list(shapes.capacities(queue, window_id))
    rows = models.Bucket.objects.filter(pk__range=keys.range_of_window(window_id))
    for pk, filled, capacity, sealed in rows.values_list("pk", "filled_count", "capacity", "sealed_at"):
        k = keys.index_of_bucket(pk)
        # Sealed by whoever's clock: nothing comes in. A window that runs may have another rpm.
        fill[k], capacities[k] = filled, 0 if sealed else capacity
    budget = budgets.Room(queue, window_id)
    room = budget.within(window_id, tuple(capacities))
    level = shapes.list_level(queue, room, per_minute)
    if has_share := queue.max_share_percent < 100 and queue.overflow == models.Overflow.CARRY_OVER:
        level = shapes.within_share(queue, level, tuple(fill), room)
    quota_room = quotas.remaining(queue, window_id)
    most = quota_room.most(ids_count, window_id)
    added = allocator.free_places(fill, level, most, keys.index_of_bucket(bucket))
    quota_room.book(sum(added), window_id)
    if any(added):
        stored = level if is_shaped or has_share else None
        yield WindowPlan(window_id, tuple(fill), added, 0, stored, budget.of(window_id))
    if remaining := ids_count - sum(added):
        for window in _carried_over(
            queue, window_id + 1, remaining, at_most=per_minute, quota_room=quota_room, budget=budget
        ):
            yield replace(window, first_position=window.first_position + sum(added))


def _carried_over(
    queue: models.Queue,
    first: int,
    ids_count: int,
    *,
    at_most: int | None = None,
    quota_room: quotas.Remaining | None = None,
    budget: budgets.Room | None = None,
) -> Iterator[WindowPlan]:
    """Rule 1 over as many windows as it takes, each in closed form.

    at_most: IDs in a minute. quota_room: what the queue's quotas leave.

    Under `disperse`, where a target's budget is a limit, both rules up to it. budget: what it leaves.

    Of the windows past the horizon, for which the list is refused, only the last: so that what a list of
    years costs under the queue's lock doesn't grow with the years.
    """
    last_of_queue = (keys.queue_of_window(first) + 1) * keys.QUARTERS - 1
    horizon = None
    position = 0
    budget = budgets.Room(queue, first) if budget is None else budget
    for run, level in _runs(queue, first, ids_count, at_most, quota_room, budget):
        horizon = run.first + settings.HORIZON_DAYS * WINDOWS_A_DAY if horizon is None else horizon
        each, last = sum(run.added), run.first + run.windows - 1
        for offset in (*range(run.first, min(last, horizon + 1)), last):
            window_id = min(first + offset, last_of_queue)
            begins_at = position + (offset - run.first) * each
            yield WindowPlan(window_id, run.before, run.added, begins_at, level, budget.of(window_id))
        position += run.windows * each


def _runs(
    queue: models.Queue,
    first: int,
    ids_count: int,
    at_most: int | None,
    quota_room: quotas.Remaining | None,
    budget: budgets.Room,
) -> Iterator[tuple[allocator.Run, tuple[int, ...] | None]]:
    """Where IDs go by rule 1, with what lists may plan of the minutes where these differ."""
    fills_by_offset = _fills_from(first)
    has_share = queue.max_share_percent < 100 and queue.overflow == models.Overflow.CARRY_OVER
    if not shapes.is_shaped(queue) and not has_share:
        rpm = queue.list_rpm if at_most is None else at_most
        for run in allocator.carry_over_runs(fills_by_offset, rpm, ids_count):
            yield run, None
        return
    disperses = queue.overflow == models.Overflow.DISPERSE and at_most is None
    stretches, read = _watched(
        shapes.stretches(
            queue,
            first,
            at_most=at_most,
            room=budget,
            with_limit=disperses,
            fills=dict(sorted(fills_by_offset.items())) if has_share else None,
        )
    )
    quota_room = quotas.remaining(queue, first) if quota_room is None else quota_room
    for run in allocator.runs_within(stretches, ids_count, fills=fills_by_offset, quotas=quota_room):
        yield run, read[-1].capacity


def check(
    queue: models.Queue,
    plan: Plan,
    *,
    at: datetime,
    expires_at: datetime | None = None,
    deadline: datetime | None = None,
    allow_peak: bool = False,
) -> None:
    """Raise PastPeak, PastHorizon, PastExpiry or PastDeadline, each with the plan, if the plan can't be accepted."""
    if plan.last_at is None:
        return
    end = plan.last_at + clock.MINUTE
    if expires_at is not None and end > expires_at:
        raise PastExpiry(plan)
    if deadline is not None and end > deadline:
        raise PastDeadline(plan)
    horizon = timedelta(days=settings.HORIZON_DAYS)
    is_capped = queue.overflow == models.Overflow.CARRY_OVER or plan.start == Start.FIRST_FREE
    is_capped = is_capped or bool(queue.quotas) or queue.target_id is not None
    if is_capped and end > max(at, plan.windows[0].starts_at) + horizon:
        raise PastHorizon(plan)
    # At free places a list adds to no peak.
    may_peak = allow_peak or plan.start == Start.FIRST_FREE
    if queue.max_peak is not None and plan.peak_per_minute > queue.max_peak and not may_peak:
        raise PastPeak(plan)


def reserve(
    queue: models.Queue, plan: Plan, *, task_id: int, list_id: int, at: datetime
) -> Sequence[models.Reservation]:
    """Take the plan's places: windows, buckets, the log, and what the task has where. Returns the log."""
    window_ids = [w.window_id for w in plan.windows]
    versions = _next_versions(queue, window_ids)
    added_counts = {
        keys.bucket_id(window.window_id, k): count
        for window in plan.windows
        for k, count in enumerate(window.added)
        if count
    }
    log = [
        models.Reservation(
            window_id=window.window_id,
            kind=models.ReservationKind.RESERVE,
            task_id=task_id,
            list_id=list_id,
            first_position=window.first_position,
            ids_count=window.ids_count,
            rpm=queue.list_rpm,
            capacities=None if window.level is None else list(window.level),
            limits=None if window.limit is None else list(window.limit),
            fill_before=list(window.before),
            deltas=list(window.added),
            made_at=at,
            note=models.Reservation.FIRST_FREE if plan.start == Start.FIRST_FREE else "",
        )
        for window in plan.windows
    ]
    _append(log, versions)
    store.add_to_buckets({b: {"filled_count": n, "waiting_count": n} for b, n in added_counts.items()})
    store.place_in_task_buckets(task_id, added_counts)
    return log


def _next_versions(queue: models.Queue, window_ids: Sequence[int]) -> dict[int, int]:
    """Return the next version of each window. Windows that aren't there are created, with their buckets."""
    versions = store.next_versions(window_ids)
    # Checked before they are created: of a thousand short lists, one is the first of its window.
    if missing := [window for window in window_ids if window not in versions]:
        shapes.create_windows(queue, missing)
        versions |= store.next_versions(missing)
    return versions


def _append(log: Sequence[models.Reservation], versions: Mapping[int, int]) -> None:
    for line in log:
        line.version = versions[line.window_id]
    inserting.insert(log)


def change(
    queue: models.Queue,
    deltas: dict[int, int],
    *,
    kind: models.ReservationKind,
    at: datetime,
    task_id: int | None = None,
    note: str = "",
    snapshot: Snapshot | None = None,
) -> None:
    """Log a change of fills and make it. deltas: bucket ID to how many places are taken (+) or given back (-).

    Moves only `filled_count` and `waiting_count`; `cancelled_count` or `moved_count` are the caller's.
    """
    if not deltas:
        return
    by_window = keys.by_window(deltas.items())
    snapshot = snapshot or Snapshot()
    snapshot.read(min(by_window), max(by_window))
    comes_in = kind == models.ReservationKind.MOVE_IN and shapes.is_shaped(queue)
    budget = budgets.Room(queue, min(by_window), max(by_window)) if comes_in else None
    log = [
        models.Reservation(
            window_id=window,
            kind=kind,
            task_id=task_id,
            ids_count=abs(sum(row)),
            rpm=queue.rpm,
            capacities=list(snapshot.capacities(window)) if comes_in else None,
            limits=budget and budget.of(window),
            fill_before=list(snapshot.fill(window)),
            deltas=row,
            made_at=at,
            note=note,
        )
        for window, row in sorted(by_window.items())
    ]
    _append(log, snapshot.next_versions(sorted(by_window)))
    snapshot.add(deltas.items())
    store.add_to_buckets({b: {"filled_count": d, "waiting_count": d} for b, d in deltas.items()})


@dataclass(frozen=True)
class Places:
    """Places of one bucket, given out: ordinals [first_ordinal, first_ordinal + count)."""

    bucket_id: int
    first_ordinal: int
    count: int

    @property
    def first_key(self) -> int:
        return keys.assignment_id(self.bucket_id, self.first_ordinal)


def take_free_places(
    queue: models.Queue,
    ids_count: int,
    *,
    from_minute: datetime,
    at: datetime,
    note: str = "",
    task_id: int | None = None,
    snapshot: Snapshot | None = None,
) -> list[Places]:
    """Take the first free places from a minute on, for late IDs and retries: rule 1, without a horizon.

    from_minute: start of a minute that isn't sealed. Logs the move and counts the places as taken
    and waiting; what the IDs leave behind, their rows and task counters are the caller's.
    """
    snapshot = snapshot or Snapshot()
    places = list(free(queue, ids_count, from_minute, snapshot=snapshot))
    snapshot.create_windows(queue, sorted({keys.window_of_bucket(b) for b, _ in places}))
    kind = models.ReservationKind.MOVE_IN
    change(queue, dict(places), kind=kind, at=at, task_id=task_id, note=note, snapshot=snapshot)
    ordinals = store.take_ordinals(dict(places))
    return [Places(b, ordinals[b], n) for b, n in places]


def free(
    queue: models.Queue,
    ids_count: int,
    from_minute: datetime,
    *,
    leaving: Mapping[int, int] | None = None,
    snapshot: Snapshot | None = None,
) -> Iterator[tuple[int, int]]:
    """Yield (bucket, count), earliest first, until `ids_count` have a place; none is taken.

    leaving: by bucket, how many unfinished IDs would leave it for these places, and are still counted there.
    Raises BadFields where no minute of the next ten years is open: the keys of a queue end somewhere.
    """
    bucket = keys.bucket_at(queue.pk, from_minute)
    window, first_k = keys.window_of_bucket(bucket), keys.index_of_bucket(bucket)
    # A brake of 0 is a stop: places are those of the time after it.
    capacity = min(queue.rpm, queue.brake_per_minute or queue.rpm)
    alike, is_shaped = (capacity,) * clock.BUCKETS, shapes.is_shaped(queue)
    quota_room, has_quotas = quotas.remaining(queue, window, leaving), quotas.has_any(queue)
    remaining = ids_count
    snapshot = snapshot or Snapshot()
    while remaining:
        budget = budgets.Room(queue, window, window + STRIDE - 1)
        for window_id in range(window, window + STRIDE):
            buckets = keys.buckets_of_window(window_id)
            level = shapes.capacities(queue, window_id) if is_shaped else alike
            minutes = snapshot.minutes(window_id, ahead=STRIDE)
            fill = [minute.filled if minute else 0 for minute in minutes]
            most = tuple(
                # Sealed by whoever's clock: nothing comes in.
                (0 if minute.is_sealed else min(minute.capacity, capacity))
                if minute
                else min(capacity, number)
                for minute, number in zip(minutes, level, strict=True)
            )
            most_ids = quota_room.most(remaining, window_id) if has_quotas else remaining
            added = allocator.free_places(fill, budget.within(window_id, most), most_ids, first_k)
            if has_quotas:
                quota_room.book(sum(added), window_id)
            yield from ((bucket, count) for bucket, count in zip(buckets, added, strict=True) if count)
            remaining -= sum(added)
            if not remaining:
                return
            first_k = 0
        window += STRIDE
        if remaining == ids_count:
            window = shapes.first_open_window(queue, window)
