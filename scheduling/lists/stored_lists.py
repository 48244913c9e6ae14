"""The IDs of a list in its order: chunks of 8-byte numbers, read only as far as they are needed."""

import random
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Protocol

from scheduling import models, store

# 256 KiB a chunk: one row that a page of a list reads in a millisecond.
CHUNK_IDS = 32_768
# Chunks that one transaction stores: some 5 ms on SQLite, where nobody else writes meanwhile.
CHUNKS_A_TRANSACTION = 4
# IDs of all ranges that wait in memory for their parts to fill up, however many ranges there are.
_WAITING_IDS = 131_072
_PARTS_A_TRANSACTION = 8


class Source(Protocol):
    """A checked list, repeats left out: what `scheduling.parsing` gives."""

    ids_count: int
    repeats_count: int
    same_as_digest: str

    def unique_blocks(self, size: int) -> Iterator[array]:
        """Yield the IDs in the order of the list, at most `size` in an array; each time from the start."""


def write(id_list: models.IdList, blocks: Iterable[array]) -> int:
    """Store blocks of at most CHUNK_IDS as the list's chunks, in short transactions; return how many IDs.

    In an open transaction they all belong to that one.
    """
    position, number, pending = 0, 0, []
    for block in blocks:
        pending.append(
            models.Chunk(
                list=id_list, number=number, first_position=position, ids_count=len(block), ids=_pack(block)
            )
        )
        position, number = position + len(block), number + 1
        if len(pending) == CHUNKS_A_TRANSACTION:
            _store(pending)
            pending = []
    _store(pending)
    return position


def _store(chunks: list[models.Chunk]) -> None:
    with store.write():
        models.Chunk.objects.bulk_create(chunks)


def ids_of(list_id: int, first_position: int, count: int) -> array:
    """Return up to `count` IDs from a position on."""
    chunks = models.Chunk.objects.filter(
        list=list_id,
        number__gte=first_position // CHUNK_IDS,
        number__lte=(first_position + max(count, 1) - 1) // CHUNK_IDS,
    ).order_by("number")
    ids = array("q")
    for start, data in chunks.values_list("first_position", "ids"):
        ids.extend(_unpack(data)[max(0, first_position - start) : max(0, first_position + count - start)])
    return ids


def blocks(list_id: int, size: int = CHUNK_IDS) -> Iterator[array]:
    """Yield the list's IDs in its order, `size` at a time."""
    position = 0
    while ids := ids_of(list_id, position, size):
        yield ids
        position += len(ids)


def position_of(list_id: int, user_id: int) -> int | None:
    """Return the ID's position in the list, or None."""
    wanted = _pack(array("q", [user_id]))
    chunks = models.Chunk.objects.filter(list=list_id).order_by("number").values_list("first_position", "ids")
    for start, data in chunks.iterator(chunk_size=16):
        data = bytes(data)
        at = data.find(wanted)
        # The bytes can also lie across two numbers.
        while at != -1 and at % 8:
            at = data.find(wanted, at + 1)
        if at != -1:
            return start + at // 8
    return None


def _pack(numbers: array) -> bytes:
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def _unpack(data: bytes, typecode: str = "q") -> array:
    numbers = array(typecode, bytes(data))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def write_parts(id_list: models.IdList, source: Source, ranges: int) -> list[int]:
    """Store a list once more, cut into ranges of IDs, each ID with its position; return the ranges' counts.

    The borders are drawn by chance from all of the list, so the ranges are of much the same size whatever
    its order. source: read twice.
    """
    borders = _borders(source, ranges)
    ids, positions = [array("q") for _ in range(ranges)], [array("I") for _ in range(ranges)]
    part_ids = max(1_024, _WAITING_IDS // ranges)
    counts, ready, first = [0] * ranges, [], 0
    for block in source.unique_blocks(CHUNK_IDS):
        for position, user in enumerate(block, first):
            number = bisect_right(borders, user)
            ids[number].append(user)
            positions[number].append(position)
        first += len(block)
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


def parts_of(list_id: int, segment_number: int) -> Iterator[tuple[array, array]]:
    """Yield the IDs of a range and their positions, in the order of the list."""
    parts = models.SegmentPart.objects.filter(list=list_id, segment_number=segment_number).order_by("pk")
    for ids, positions in parts.values_list("ids", "positions").iterator(chunk_size=4):
        yield _unpack(ids), _unpack(positions, "I")


def _borders(source: Source, ranges: int) -> list[int]:
    """Between each two ranges the first ID of the higher one."""
    share = min(1.0, 65_536 / source.ids_count)
    sample: list[int] = []
    for block in source.unique_blocks(CHUNK_IDS):
        sample.extend(random.sample(block, -(-int(len(block) * share * 100) // 100)))
    sample.sort()
    return [sample[len(sample) * number // ranges] for number in range(1, ranges)]


def _part(id_list: models.IdList, number: int, ids: array, positions: array) -> models.SegmentPart:
    return models.SegmentPart(list=id_list, segment_number=number, ids=_pack(ids), positions=_pack(positions))
