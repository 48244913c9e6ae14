"""The data that an edit changes: looked up without a lock, and written under it for IDs that were not sent."""

from collections.abc import Iterator

from django.conf import settings

from scheduling import models, store
from scheduling.core import limits
from scheduling.core.closing import Closing
from scheduling.lists import record_lists
from scheduling.lists.differences import Difference, blocks_of
from scheduling.lists.record_lists import RecordSource
from scheduling.models import Group, Status
from scheduling.parsing.record_spool import Records, RecordSpool

# What was sent keeps the data that it was sent with.
_SENT = (*Status.of(Group.SENT), Status.IN_FLIGHT)


class ChangedData(Closing):
    """The data of IDs in both lists that differ in the new list. Empty for a list without data."""

    def __init__(self, task: models.Task, source: object, difference: Difference) -> None:
        self._task = task
        self._spool: RecordSpool | None = None
        if isinstance(source, RecordSource) and source.data_columns is not None:
            self._spool = RecordSpool(settings.SPOOL_DIR, has_data=True)
            try:
                self._look_up(self._spool, source, difference)
                self._spool.finish()
            except BaseException:
                self.close()
                raise

    def _look_up(self, spool: RecordSpool, source: RecordSource, difference: Difference) -> None:
        added = _ids_of(difference)
        next_added = next(added, None)
        for users, data in source.records(limits.IDS_PER_QUERY):
            records: dict[int, bytes] = {}
            for user, packed in zip(users, data or (), strict=True):
                if user == next_added:
                    next_added = next(added, None)
                else:
                    records[user] = packed
            stored = record_lists.texts(self._task.pk, records)
            changed = {
                user: packed for user, packed in records.items() if stored.get(user) != packed.decode()
            }
            spool.extend(Records(list(map(str, changed)), list(changed.values())))

    def write(self) -> None:
        """Store the data of those that were not sent. The caller holds the buckets where the task waits."""
        if self._spool is None or not self._spool.ids_count:
            return
        for block in self._spool.unique_records(limits.IDS_PER_QUERY):
            data = dict(zip(map(int, block.ids), block.data or (), strict=True))
            rows = models.Assignment.objects.filter(task=self._task, user_id__in=data)
            users = rows.exclude(status__in=_SENT).order_by("user_id").values_list("user_id", flat=True)
            store.insert_data(self._task.pk, [(user, data[user].decode()) for user in users], replace=True)

    def close(self) -> None:
        """Give the disk space back."""
        if self._spool is not None:
            self._spool.close()


def _ids_of(difference: Difference) -> Iterator[int]:
    return (user for block in blocks_of(difference.added, limits.IDS_PER_QUERY) for user in block)


def columns_after(task: models.Task, source: object) -> list[str] | None:
    """Return the columns that a task's IDs have once a list replaces its own: what was sent keeps the old ones."""
    if not isinstance(source, RecordSource) or source.data_columns is None:
        columns: list[str] | None = task.data_columns
        return columns
    return list(dict.fromkeys([*source.data_columns, *(task.data_columns or ())]))
