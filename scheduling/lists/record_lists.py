"""Lists whose IDs are text or have data: numbers are stored as those of any list, and the data beside them.

Until an ID has its row, its data are in a chunk, in the order of the list. The transaction that writes the row moves
them to a table that is keyed by task and ID.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from typing import Any

from scheduling import models, store
from scheduling.core import exact_json
from scheduling.core.batches import batches
from scheduling.lists import external_ids, stored_lists
from scheduling.parsing.reading import Reading
from scheduling.parsing.record_spool import RecordSpool

# IDs of a data chunk: at the most bytes that an ID may have by default, 16 MB.
DATA_CHUNK_IDS = 4_096
# The data of a segment are in memory while it is written.
SEGMENT_IDS = 100_000
SEGMENT_BYTES = 32 * 1024 * 1024
# Rows that one statement deletes.
_STEP_CHUNKS = 16
_STEP_ROWS = 2_000

# Some IDs in list order, and the compact JSON of each; None where the list has no data.
Block = tuple["array[int]", list[bytes] | None]


class RecordSource(ABC):
    """A checked list without repeats whose IDs are text or have data: a `stored_lists.Source` with more to it.

    data_columns: the names of the columns that travel with the IDs; None where none do.
    """

    id_type: str
    data_columns: tuple[str, ...] | None
    ids_count: int
    repeats_count: int
    same_as_digest: str

    @abstractmethod
    def records(self, size: int) -> Iterator[Block]:
        """Yield IDs in list order with their data, at most `size` at a time. Each call begins at the start."""

    def unique_blocks(self, size: int) -> Iterator[array[int]]:
        """Yield the IDs in list order, at most `size` per array. Each call begins at the start."""
        return (ids for ids, _ in self.records(size))


class SpooledRecords(RecordSource):
    """Records as they were read. IDs that are text get their numbers as they are yielded."""

    def __init__(self, spool: RecordSpool, *, id_type: str, data_columns: Sequence[str]) -> None:
        self._spool = spool
        self.id_type = id_type
        self.data_columns = tuple(data_columns) if spool.has_data else None
        self.ids_count = spool.ids_count
        self.repeats_count = spool.repeats_count
        self.same_as_digest = spool.same_as_digest

    def records(self, size: int) -> Iterator[Block]:
        """Yield IDs in list order with their data, at most `size` at a time. Each call begins at the start."""
        is_text = self.id_type == "text"
        # Many IDs are numbered together, so that few pages of their index change at a time.
        numbers = chain.from_iterable(map(external_ids.number, self._spool.unique_ids(SEGMENT_IDS)))
        for block in self._spool.unique_records(size):
            count = len(block.ids)
            yield array("q", islice(numbers, count) if is_text else map(int, block.ids)), block.data


def source_of(reading: Reading) -> stored_lists.Source:
    """Return the IDs of a list that was read, and their data. Where a payload is required, there are some."""
    if reading.records is not None:
        return SpooledRecords(reading.records, id_type=reading.id_type, data_columns=reading.data_columns)
    assert reading.spool is not None
    return reading.spool


class StoredRecords(RecordSource):
    """A draft as a source: its IDs have their numbers already."""

    def __init__(self, draft: models.IdList) -> None:
        self._list_id = draft.pk
        self.id_type = draft.about.get("id_type", "integer")
        columns = draft.about.get("data_columns")
        self.data_columns = None if columns is None else tuple(columns)
        self.ids_count = draft.ids_count
        self.repeats_count = draft.repeats_count
        self.same_as_digest = draft.about["same_as_digest"]

    def records(self, size: int) -> Iterator[Block]:
        """Yield IDs in list order with their data, at most `size` at a time. Each call begins at the start."""
        position = 0
        for ids in stored_lists.blocks(self._list_id, size):
            data = None
            if self.data_columns is not None:
                data_by_id = unwritten(self._list_id, position, len(ids))
                data = [data_by_id[user].encode() for user in ids]
            position += len(ids)
            yield ids, data


class SomeRecords(RecordSource):
    """Some records of a source. ids: yields those IDs, in the order of the source, in blocks of a size."""

    def __init__(self, source: RecordSource, ids: stored_lists.Source) -> None:
        self._source, self._ids = source, ids
        self.id_type, self.data_columns = source.id_type, source.data_columns
        self.ids_count, self.repeats_count = ids.ids_count, ids.repeats_count
        self.same_as_digest = ids.same_as_digest

    def records(self, size: int) -> Iterator[Block]:
        """Yield IDs in list order with their data, at most `size` at a time. Each call begins at the start."""
        selected = (user for block in self._ids.unique_blocks(stored_lists.CHUNK_IDS) for user in block)
        following = next(selected, None)
        has_data = self.data_columns is not None
        ids, data = array("q"), list[bytes]()
        for users, packed in self._source.records(size):
            for user, value in zip(users, packed or [b""] * len(users), strict=True):
                if user != following:
                    continue
                ids.append(user)
                data.append(value)
                following = next(selected, None)
                if len(ids) == size:
                    yield ids, data if has_data else None
                    ids, data = array("q"), []
        if ids:
            yield ids, data if has_data else None


def write(id_list: models.IdList, source: RecordSource) -> dict[str, Any]:
    """Store the IDs and the data of a list, in short transactions. Returns what its `about` says of them.

    Within an open transaction, everything belongs to that transaction.
    """
    data_bytes = 0

    def numbers() -> Iterator[array[int]]:
        nonlocal data_bytes
        position = 0
        pending = array("q")
        for ids, data in source.records(DATA_CHUNK_IDS):
            if data is not None:
                joined = b"\n".join(data)
                with store.write():
                    models.DataChunk.objects.create(
                        list=id_list, first_position=position, ids_count=len(ids), data=joined
                    )
                data_bytes += len(joined)
            position += len(ids)
            pending.extend(ids)
            while len(pending) >= stored_lists.CHUNK_IDS:
                yield pending[: stored_lists.CHUNK_IDS]
                pending = pending[stored_lists.CHUNK_IDS :]
        if pending:
            yield pending

    with store.large_cache() if source.id_type == "text" else nullcontext():
        count = stored_lists.write(id_list, numbers())
    about: dict[str, Any] = {"id_type": source.id_type} if source.id_type == "text" else {}
    if source.data_columns is not None:
        fitting = SEGMENT_BYTES * count // max(1, data_bytes)
        about["data_columns"] = list(source.data_columns)
        about["segment_ids"] = max(DATA_CHUNK_IDS, min(SEGMENT_IDS, fitting))
    return about


def is_record_list(id_list: models.IdList) -> bool:
    """Whether the IDs of a list are text or have data."""
    return has_data(id_list) or id_list.about.get("id_type") == "text"


def has_data(id_list: models.IdList) -> bool:
    """Whether the IDs of a list have data."""
    return id_list.about.get("data_columns") is not None


def unwritten(list_id: int, first_position: int, count: int) -> dict[int, str]:
    """Return the data of consecutive IDs of a list from its chunks, by ID."""
    chunks = models.DataChunk.objects.filter(
        list=list_id,
        first_position__gt=first_position - DATA_CHUNK_IDS,
        first_position__lt=first_position + count,
    )
    result: dict[int, str] = {}
    for start, ids_count, packed in list(
        chunks.order_by("first_position").values_list("first_position", "ids_count", "data")
    ):
        begin, end = max(start, first_position), min(start + ids_count, first_position + count)
        if begin < end:
            lines = bytes(packed).split(b"\n")[begin - start : end - start]
            ids = stored_lists.ids_of(list_id, begin, end - begin)
            result.update(zip(ids, map(bytes.decode, lines), strict=True))
    return result


def read(task_id: int, users: Iterable[int]) -> dict[int, Mapping[str, Any]]:
    """Return the data of IDs of a task whose rows are written, by ID. Those that have none are missing."""
    text_by_user = texts(task_id, users)
    # As one array: the decoder is called once, and makes one string of each name.
    values = exact_json.read(f"[{','.join(text_by_user.values())}]")
    return dict(zip(text_by_user, values, strict=True))


def of_task(task: models.Task, users: Sequence[int]) -> dict[int, str]:
    """Return the data of IDs of a task as JSON, by ID, whether their rows are written or not."""
    if task.data_columns is None:
        return {}
    result: dict[int, str] = {}
    if task.placed_at is None:
        placing = models.Segment.objects.unwritten().filter(task=task)
        for list_id in list(placing.order_by().values_list("list_id", flat=True).distinct()):
            result |= _of_list(list_id, set(users))
    # Read last: they may be written in the meantime. IDs that an edit brings back have other data in its list.
    return texts(task.pk, [user for user in users if user not in result]) | result


def texts(task_id: int, users: Iterable[int]) -> dict[int, str]:
    """Return the data of IDs of a task whose rows are written, as JSON, by ID."""
    data_by_user: dict[int, str] = {}
    for batch in batches(list(users)):
        data_by_user |= store.data_of(task_id, batch)
    return data_by_user


def _of_list(list_id: int, user_ids: set[int]) -> dict[int, str]:
    """Return the data of some IDs of a list from its chunks, by ID, in one pass over the list."""
    result: dict[int, str] = {}
    position = 0
    for ids in stored_lists.blocks(list_id, DATA_CHUNK_IDS):
        if not user_ids.isdisjoint(ids):
            data = unwritten(list_id, position, len(ids))
            result |= {user: data[user] for user in ids if user in user_ids and user in data}
        position += len(ids)
    return result


def delete_chunks(list_ids: Iterable[int]) -> None:
    """Delete the data chunks of lists, in short transactions."""
    of_lists = models.DataChunk.objects.filter(list__in=list(list_ids))
    while numbers := list(of_lists.values_list("pk", flat=True)[:_STEP_CHUNKS]):
        models.DataChunk.objects.filter(pk__in=numbers).delete()


def delete_step(task_id: int) -> int:
    """Delete the data of some of a task's IDs. Returns how many; 0 once there are none."""
    of_task = models.IdData.objects.filter(task_id=task_id).order_by("user_id")
    with store.write():
        users = list(of_task.values_list("user_id", flat=True)[:_STEP_ROWS])
        if users:
            rows = models.IdData.objects.filter(task_id=task_id, user_id__range=(users[0], users[-1]))
            rows._raw_delete("default")
    return len(users)
