"""What a transaction has read of a queue whose row it has locked, so that it reads each thing once.

Every change of a fill locks that row. So what was read under the lock stays true, but for what the transaction changes
itself. A host may be far from its database: what a transaction will need can be read together with its locks.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.core.allocator import Fill
from scheduling.jobqueue import minute_jobs
from scheduling.placement import removals, shapes
from scheduling.store import later

Rows = Any


class Minute(NamedTuple):
    """A bucket: how many IDs it holds and may hold, and whether nothing comes in any more."""

    filled: int
    capacity: int
    is_sealed: bool


class Snapshot:
    """Each `read` may be called ahead: then it costs no round trip of its own."""

    def __init__(self) -> None:
        self._minutes: dict[int, Minute] = {}
        self._versions: dict[int, int] = {}
        # Windows that were read, whether they are there or not.
        self._windows: set[int] = set()
        self._tasks: set[int] = set()
        self._removed: set[tuple[int, int]] = set()
        self._expires: dict[int, datetime] = {}
        self._armed: set[int] = set()
        self._numbers = range(0)
        # How many of its reads have brought nothing yet.
        self._awaited_count = 0

    def _awaited(self, take: Callable[[Rows], None]) -> Callable[[Rows], None]:
        self._awaited_count += 1

        def take_awaited(rows: Rows) -> None:
            self._awaited_count -= 1
            take(rows)

        return take_awaited

    def _wait(self) -> None:
        """Wait for what was read; not for statements of others that were put off."""
        if self._awaited_count:
            later.wait()

    # --- Windows and buckets ---

    def read(self, first: int, last: int) -> None:
        """Read the minutes of the windows of a queue from one to another."""
        if self._windows.issuperset(range(first, last + 1)):
            return
        self._windows.update(range(first, last + 1))
        later.run(
            "SELECT id, filled_count, capacity, sealed_at IS NOT NULL FROM scheduling_bucket"
            " WHERE id BETWEEN %s AND %s",
            [keys.range_of_window(first)[0], keys.range_of_window(last)[1]],
            self._awaited(lambda rows: self._minutes.update((row[0], Minute(*row[1:])) for row in rows)),
        )

    def read_versions(self, first: int, last: int) -> None:
        """Read the versions of the windows from one to another."""
        later.run(
            "SELECT id, version FROM scheduling_window WHERE id BETWEEN %s AND %s",
            [first, last],
            self._awaited(self._versions.update),
        )

    def minutes(self, window_id: int, ahead: int = 1) -> list[Minute | None]:
        """Return the 15 minutes of a window; None for each if it isn't there.

        ahead: how many windows to read from this one on, if this one isn't read yet.
        """
        if window_id not in self._windows:
            self.read(window_id, window_id + ahead - 1)
        self._wait()
        return [self._minutes.get(bucket) for bucket in keys.buckets_of_window(window_id)]

    def fill(self, window_id: int) -> Fill:
        """Return how many IDs each minute of a window holds that is there."""
        return tuple(minute.filled for minute in self.minutes(window_id) if minute)

    def capacities(self, window_id: int) -> Fill:
        """Return the capacities of a window that is there."""
        return tuple(minute.capacity for minute in self.minutes(window_id) if minute)

    def create_windows(self, queue: models.Queue, window_ids: Iterable[int]) -> None:
        """Create the windows that don't exist yet."""
        missing = [window for window in window_ids if None in self.minutes(window)]
        if missing:
            shapes.create_windows(queue, missing)
        for window in missing:
            self._versions[window] = 0
            capacities = shapes.capacities(queue, window)
            for bucket, capacity in zip(keys.buckets_of_window(window), capacities, strict=True):
                self._minutes[bucket] = Minute(0, capacity, False)

    def add(self, deltas: Iterable[tuple[int, int]]) -> None:
        """Count what the transaction adds to buckets. deltas: (bucket, how many)."""
        # What is still to be read would be without it.
        self._wait()
        for bucket, count in deltas:
            minute = self._minutes[bucket]
            self._minutes[bucket] = minute._replace(filled=minute.filled + count)

    def next_versions(self, window_ids: Sequence[int]) -> dict[int, int]:
        """Give each of the windows, which are there, its next version; return window ID to version."""
        self._wait()
        if self._versions.keys() >= set(window_ids):
            store.add_to_versions(window_ids)
            versions = {window: self._versions[window] + 1 for window in window_ids}
        else:
            versions = store.next_versions(window_ids)
        self._versions |= versions
        return versions

    # --- Tasks ---

    def read_tasks(self, task_ids: Collection[int]) -> None:
        """Read which IDs of tasks are removed as soon as their request is over, and when the tasks expire."""
        if self._tasks.issuperset(task_ids):
            return
        self._tasks.update(task_ids)
        removals.read_removed_in_flight(task_ids, self._awaited(self._removed.update))
        expiring = models.Task.objects.filter(
            pk__in=set(task_ids), expires_at__isnull=False, cancelled_at=None
        )
        later.read(
            expiring.only("expires_at"),
            self._awaited(lambda rows: self._expires.update((task.pk, task.expires_at) for task in rows)),
        )

    def removed_and_expires(
        self, task_ids: Collection[int]
    ) -> tuple[set[tuple[int, int]], dict[int, datetime]]:
        """Return the (task, ID) that edits have removed meanwhile, and the times at which tasks expire."""
        self.read_tasks(task_ids)
        self._wait()
        return self._removed, self._expires

    # --- Minutes that are armed ---

    def read_armed(self, first_window: int) -> None:
        """Read which minutes are armed, of a window and of the next two."""
        begins = clock.minute_number(clock.runs_at(keys.starts_at_of_window(first_window)))
        self._numbers = range(begins, begins + 3 * clock.BUCKETS)
        minute_jobs.read_armed(self._numbers[0], self._numbers[-1], self._awaited(self._armed.update))

    def armed(self, first: int, last: int) -> set[int]:
        """Return which of the minutes from one to another are armed."""
        if first not in self._numbers or last not in self._numbers:
            minute_jobs.read_armed(first, last, self._awaited(self._armed.update))
        self._wait()
        return self._armed
