"""The IDs of a list in its order: chunks of 8-byte numbers, read only as far as they are needed."""

import sys
from array import array
from collections.abc import Iterable, Iterator

from . import models, store

# 256 KiB a chunk: one row that a page of a list reads in a millisecond.
CHUNK_IDS = 32_768
# Chunks that one transaction stores: some 5 ms on SQLite, where nobody else writes meanwhile.
CHUNKS_A_TRANSACTION = 4


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


def _pack(ids: array) -> bytes:
    if sys.byteorder == "big":
        ids = array("q", ids)
        ids.byteswap()
    return ids.tobytes()


def _unpack(data: bytes) -> array:
    ids = array("q", bytes(data))
    if sys.byteorder == "big":
        ids.byteswap()
    return ids
