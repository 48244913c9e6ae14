"""Stores the IDs of a list, in order, as chunks of 8-byte numbers, and reads only the chunks that are needed."""

from __future__ import annotations

import random
import sys
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal, Protocol

from django.db.models import QuerySet

from scheduling import models, store
from scheduling.store import inserting
from scheduling.store.blocks import values_in_blocks
from scheduling.store.prepared import PreparedQuery

# 256 KiB per chunk: a row that a page of the list reads in a millisecond.
CHUNK_IDS = 32_768
# Chunks stored in one transaction: some 5 ms on SQLite, during which nobody else can write.
CHUNKS_A_TRANSACTION = 4
# IDs of all ranges together that wait in memory until their parts are full.
_PENDING_IDS = 131_072
_PARTS_A_TRANSACTION = 8
_chunks = PreparedQuery(
    lambda list_id, first, last: (
        models.Chunk.objects.filter(list=list_id, number__gte=first, number__lte=last)
        .order_by("number")
        .values_list("first_position", "ids")
    ),
    int,
    int,
    int,
)


class Source(Protocol):
    """A checked list without repeats, such as a Spool."""

    ids_count: int
    repeats_count: int
    same_as_digest: str

    def unique_blocks(self, size: int) -> Iterator[array[int]]:
        """Yield the IDs in list order, at most `size` per array. Each call begins at the start."""


def write(id_list: models.IdList, blocks: Iterable[array[int]]) -> int:
    """Store blocks of at most CHUNK_IDS as the list's chunks, in short transactions. Returns how many IDs.

    Within an open transaction, everything belongs to that transaction.
    """
    position = 0
    pending: list[models.Chunk] = []
    for number, block in enumerate(blocks):
        pending.append(
            models.Chunk(
                list=id_list, number=number, first_position=position, ids_count=len(block), ids=_pack(block)
            )
        )
        position += len(block)
        if len(pending) == CHUNKS_A_TRANSACTION:
            _store(pending)
            pending = []
    _store(pending)
    return position


def _store(chunks: list[models.Chunk]) -> None:
    # One statement: a transaction of its own, or part of the one that is open.
    inserting.insert(chunks)


def ids_of(list_id: int, first_position: int, count: int) -> array[int]:
    """Return up to `count` IDs from `first_position` on."""
    first, last = first_position // CHUNK_IDS, (first_position + max(count, 1) - 1) // CHUNK_IDS
    ids = array("q")
    for start, data in _chunks.values(list_id, first, last):
        begin = max(0, first_position - start)
        end = max(0, first_position + count - start)
        ids.extend(_unpack(data)[begin:end])
    return ids


def ids_of_chunk(chunk: models.Chunk) -> array[int]:
    """Return the IDs of a chunk."""
    return _unpack(chunk.ids)


def blocks(list_id: int, size: int = CHUNK_IDS) -> Iterator[array[int]]:
    """Yield the IDs in list order, `size` at a time."""
    position = 0
    while ids := ids_of(list_id, position, size):
        yield ids
        position += len(ids)


def position_of(list_id: int, user_id: int) -> int | None:
    """Return the ID's position in the list, or None."""
    return positions_of(user_id, [list_id]).get(list_id)


def positions_of(user_id: int, list_ids: Collection[int] | QuerySet[Any, Any]) -> dict[int, int]:
    """Return the ID's position in each of the lists that have it, with one query. list_ids: may be a subquery."""
    positions: dict[int, int] = {}
    if not isinstance(list_ids, QuerySet) and not list_ids:
        return positions
    pattern = _pack(array("q", [user_id]))
    chunks = models.Chunk.objects.filter(list__in=list_ids).order_by("list", "number")
    # The database looks for the bytes, so that only the chunk that has them travels.
    matching = chunks.annotate(at=store.PositionOfBytes("ids", pattern)).filter(at__gt=0)
    for list_id, start, data in matching.values_list("list_id", "first_position", "ids"):
        if list_id in positions:
            continue
        data = bytes(data)
        at = data.find(pattern)
        # The same bytes may also span two numbers.
        while at != -1 and at % 8:
            at = data.find(pattern, at + 1)
        if at != -1:
            positions[list_id] = start + at // 8
    return positions


def _pack(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def _unpack(data: bytes | memoryview[int], typecode: Literal["q", "I"] = "q") -> array[int]:
    numbers = array(typecode, bytes(data))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def write_parts(id_list: models.IdList, source: Source, ranges: int) -> list[int]:
    """Store a list again, split into ranges of IDs, each ID with its position. Returns the count of each range.

    The borders come from a random sample of the list, so the ranges have about the same size whatever its order
    is. source: read twice.
    """
    borders = _borders(source, ranges)
    ids = [array("q") for _ in range(ranges)]
    positions = [array("I") for _ in range(ranges)]
    part_ids = max(1_024, _PENDING_IDS // ranges)
    counts = [0] * ranges
    ready: list[models.SegmentPart] = []
    first_position = 0
    for block in source.unique_blocks(CHUNK_IDS):
        for position, user_id in enumerate(block, first_position):
            number = bisect_right(borders, user_id)
            ids[number].append(user_id)
            positions[number].append(position)
        first_position += len(block)
        for number in range(ranges):
            if len(ids[number]) >= part_ids:
                counts[number] += len(ids[number])
                ready.append(_part(id_list, number, ids[number], positions[number]))
                ids[number], positions[number] = array("q"), array("I")
        if len(ready) >= _PARTS_A_TRANSACTION:
            models.SegmentPart.objects.bulk_create(ready)
            ready = []
    for number in range(ranges):
        counts[number] += len(ids[number])
        ready.append(_part(id_list, number, ids[number], positions[number]))
    models.SegmentPart.objects.bulk_create(ready, batch_size=_PARTS_A_TRANSACTION)
    return counts


def parts_of(list_id: int, segment_number: int) -> Iterator[tuple[array[int], array[int]]]:
    """Yield the IDs of a range and their positions, in list order."""
    parts = models.SegmentPart.objects.filter(list=list_id, segment_number=segment_number)
    for _, ids, positions in values_in_blocks(parts, "ids", "positions", size=4):
        yield _unpack(ids), _unpack(positions, "I")


def _borders(source: Source, ranges: int) -> list[int]:
    """Return the first ID of each range but the first."""
    share = min(1.0, 65_536 / source.ids_count)
    sample: list[int] = []
    for block in source.unique_blocks(CHUNK_IDS):
        sample.extend(random.sample(block, -(-int(len(block) * share * 100) // 100)))
    sample.sort()
    return [sample[len(sample) * number // ranges] for number in range(1, ranges)]


def _part(id_list: models.IdList, number: int, ids: array[int], positions: array[int]) -> models.SegmentPart:
    return models.SegmentPart(list=id_list, segment_number=number, ids=_pack(ids), positions=_pack(positions))
