"""Stores a list whose IDs are text, or whose IDs have data, while it is read. Finds repeats exactly, in flat memory.

Lists of bare numbers use a `Spool`, 8 bytes per ID. Here a record is an ID as text and, if the list has data, its
compact JSON. Neither contains a line feed, so a block of records is two texts joined by line feeds. Each ID is
written again to one of 256 partitions by a salted hash, and at the end one partition at a time is loaded.
"""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from itertools import compress, repeat
from operator import mul
from pathlib import Path
from typing import NamedTuple

from scheduling.core.closing import Closing
from scheduling.parsing import errors

PARTITIONS = 256
_BLOCK_RECORDS = 4_096
# A block is written at this size even if it has few records, since data may have kilobytes.
_BLOCK_BYTES = 1024 * 1024
# How many records of a partition wait in memory. With the longest IDs, all partitions together take about 30 MB.
_PARTITION_RECORDS = 256
_BYTES_IN_MEMORY = 4 * 1024 * 1024


class Records(NamedTuple):
    """Some records in list order. data: the compact JSON of each, or None if the list has no data."""

    ids: list[str]
    data: list[bytes] | None


class _BlockFile:
    """Blocks of bytes: in memory if they are few, else in a temporary file without a name. May raise NoSpace."""

    def __init__(self, folder: Path) -> None:
        with errors.disk():
            self._file = tempfile.SpooledTemporaryFile(_BYTES_IN_MEMORY, dir=str(folder))  # noqa: SIM115
        self._end = 0

    def append(self, block: bytes) -> tuple[int, int]:
        """Write a block at the end. Returns its place."""
        place = (self._end, len(block))
        with errors.disk():
            self._file.seek(self._end)
            self._file.write(block)
        self._end += len(block)
        return place

    def read(self, place: tuple[int, int]) -> bytes:
        """Return the block at a place."""
        start, length = place
        with errors.disk():
            self._file.seek(start)
        block: bytes = self._file.read(length)
        if len(block) != length:
            raise OSError("the spool file is shorter than what was written to it")
        return block

    def close(self) -> None:
        """Release memory and disk space."""
        errors.close_quietly(self._file)


class _Partitions:
    """The IDs again, distributed by a salted hash, each with the hash of its data."""

    def __init__(self, folder: Path) -> None:
        self._file = _BlockFile(folder)
        # Of each partition the IDs, and the hashes of their data.
        self._buffers: list[list[str]] = [[] for _ in range(PARTITIONS)]
        self._hashes = [array("q") for _ in range(PARTITIONS)]
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(PARTITIONS)]

    @staticmethod
    def _numbers(ids: Sequence[str]) -> list[int]:
        # Python salts the hashes of texts itself, in each process anew.
        return [text_hash % PARTITIONS for text_hash in map(hash, ids)]

    def extend(self, records: Records) -> None:
        """Add the IDs of some records."""
        numbers = self._numbers(records.ids)
        appends = [buffer.append for buffer in self._buffers]
        for number, record_id in zip(numbers, records.ids, strict=True):
            appends[number](record_id)
        if records.data is not None:
            appends_of_hashes = [hashes.append for hashes in self._hashes]
            for number, data_hash in zip(numbers, map(hash, records.data), strict=True):
                appends_of_hashes[number](data_hash)
        for number, buffer in enumerate(self._buffers):
            if len(buffer) >= _PARTITION_RECORDS:
                self._flush(number)

    def _flush(self, number: int) -> None:
        hashes = self._hashes[number].tobytes()
        block = len(hashes).to_bytes(4, "big") + hashes + "\n".join(self._buffers[number]).encode()
        self._places[number].append(self._file.append(block))
        self._buffers[number].clear()
        self._hashes[number] = array("q")

    def firsts(self) -> tuple[list[bytes | None], int]:
        """Find the repeats.

        Returns for each partition None if it has no repeats, else one byte per record: 1 if its ID is new. And how
        many repeats have other data than the first record with their ID.
        """
        results = [self._firsts_of(number) for number in range(PARTITIONS)]
        return [flags for flags, _ in results], sum(differ_count for _, differ_count in results)

    def _firsts_of(self, number: int) -> tuple[bytes | None, int]:
        ids, hashes = self._partition(number)
        if len(set(ids)) == len(ids):
            return None, 0
        first_data: dict[str, int] = {}
        flags = bytearray()
        differ_count = 0
        for record_id, data in zip(ids, hashes or repeat(0), strict=False):
            is_new = record_id not in first_data
            flags.append(is_new)
            if is_new:
                first_data[record_id] = data
            else:
                differ_count += first_data[record_id] != data
        return bytes(flags), differ_count

    def _partition(self, number: int) -> tuple[list[str], array[int]]:
        """Return the IDs of a partition, and the hashes of their data; none if the list has no data."""
        ids: list[str] = []
        hashes = array("q")
        for place in self._places[number]:
            joined_hashes, joined_ids = _parts(self._file.read(place))
            ids += joined_ids.decode().split("\n")
            hashes.frombytes(joined_hashes)
        return ids + self._buffers[number], hashes + self._hashes[number]

    def flags(self, ids: Sequence[str], next_flag: list[Iterator[int] | None]) -> list[int]:
        """Return for each of the next `ids` of the list 1 if it is new."""
        iterators = (next_flag[number] for number in self._numbers(ids))
        return [1 if flags is None else next(flags) for flags in iterators]

    def close(self) -> None:
        """Release memory and disk space."""
        self._file.close()


class RecordSpool(Closing):
    """A list of records in order. Call `extend` for each block, `finish` once, then read it as often as needed.

    After `finish`: ids_count, repeats_count, repeats_differ_count (repeats whose data differ from those of the
    first occurrence), digest (of the list including repeats) and same_as_digest (of the set of its IDs, in any
    order). Every write may raise NoSpace.
    """

    def __init__(self, folder: Path, *, has_data: bool) -> None:
        self._folder = folder
        self.has_data = has_data
        self._file = _BlockFile(folder)
        self._partitions = _Partitions(folder)
        # Of each block its place and how many records it has.
        self._blocks: list[tuple[tuple[int, int], int]] = []
        self._pending = self._no_records()
        self._pending_bytes = 0
        self._shas = hashlib.sha256(), hashlib.sha256()
        self.sent_count = 0
        self.ids_count = 0
        self.repeats_count = 0
        self.repeats_differ_count = 0
        self.digest = ""
        self.same_as_digest = ""

    def _no_records(self) -> Records:
        return Records([], [] if self.has_data else None)

    def extend(self, records: Records) -> None:
        """Add records in list order, including repeats. IDs and data contain no line feed."""
        if not records.ids:
            return
        self.sent_count += len(records.ids)
        self._shas[0].update(("\n".join(records.ids) + "\n").encode())
        if records.data is not None:
            joined = b"\n".join(records.data)
            self._shas[1].update(joined + b"\n")
            self._pending_bytes += len(joined)
        self._partitions.extend(records)
        self._add(records)

    def _add(self, records: Records) -> None:
        self._pending.ids.extend(records.ids)
        if self._pending.data is not None and records.data is not None:
            self._pending.data.extend(records.data)
        if len(self._pending.ids) >= _BLOCK_RECORDS or self._pending_bytes >= _BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        ids, data = self._pending
        if ids:
            packed_ids = "\n".join(ids).encode()
            block = len(packed_ids).to_bytes(4, "big") + packed_ids + b"\n".join(data or ())
            self._blocks.append((self._file.append(block), len(ids)))
        self._pending = self._no_records()
        self._pending_bytes = 0

    def finish(self) -> None:
        """Drop the repeats. From then on the list contains only the first occurrence of each ID."""
        self._flush()
        firsts, self.repeats_differ_count = self._partitions.firsts()
        if any(flags is not None for flags in firsts):
            self._drop_repeats([None if flags is None else iter(flags) for flags in firsts])
        self._partitions.close()
        self.ids_count = sum(count for _, count in self._blocks)
        self.repeats_count = self.sent_count - self.ids_count
        self.digest = hashlib.sha256(b"".join(sha.digest() for sha in self._shas)).hexdigest()
        self.same_as_digest = self._digest_of_set()

    def _drop_repeats(self, next_flag: list[Iterator[int] | None]) -> None:
        sent, blocks = self._file, self._blocks
        self._file = _BlockFile(self._folder)
        self._blocks = []
        try:
            for place, _ in blocks:
                ids, data = self._unpacked(sent.read(place))
                flags = self._partitions.flags(ids, next_flag)
                new_data = None if data is None else list(compress(data, flags))
                self._pending_bytes += sum(map(len, new_data or ()))
                self._add(Records(list(compress(ids, flags)), new_data))
            self._flush()
        finally:
            sent.close()

    def _unpacked(self, block: bytes) -> Records:
        ids, data = _parts(block)
        return Records(ids.decode().split("\n"), data.split(b"\n") if self.has_data else None)

    def _digest_of_set(self) -> str:
        """Return a digest of the IDs that does not depend on their order, for the hint "very likely the same"."""
        sums = [0, 0]
        for place, _ in self._blocks:
            packed, _ = _parts(self._file.read(place))
            ids = packed.split(b"\n")
            lengths = list(map(len, ids))
            sums[0] += sum(map(zlib.crc32, ids))
            sums[1] += sum(map(mul, map(zlib.crc32, ids, lengths), lengths))
        return hashlib.sha256(f"text {self.ids_count} {sums}".encode()).hexdigest()

    def _unique(self) -> Iterator[Records]:
        for place, _ in self._blocks:
            yield self._unpacked(self._file.read(place))

    def unique_records(self, size: int) -> Iterator[Records]:
        """Yield the records in list order, each ID once, `size` at a time. The last may be fewer."""
        pending = self._no_records()
        for records in self._unique():
            pending.ids.extend(records.ids)
            if pending.data is not None and records.data is not None:
                pending.data.extend(records.data)
            for start in range(0, len(pending.ids) - size + 1, size):
                yield _slice(pending, start, start + size)
            pending = _slice(pending, len(pending.ids) // size * size, None)
        if pending.ids:
            yield pending

    def unique_ids(self, size: int) -> Iterator[list[str]]:
        """Yield the IDs in list order, each once, `size` at a time. Data aren't looked at."""
        pending: list[str] = []
        for place, _ in self._blocks:
            pending += _parts(self._file.read(place))[0].decode().split("\n")
            while len(pending) >= size:
                yield pending[:size]
                pending = pending[size:]
        if pending:
            yield pending

    def unique_blocks(self, size: int) -> Iterator[array[int]]:
        """Yield the IDs of a list of numbers in list order, each once, in blocks of `size`."""
        return (array("q", map(int, records.ids)) for records in self.unique_records(size))

    def first(self, count: int = 3) -> tuple[str, ...]:
        """Return the first `count` IDs."""
        return tuple(next(self._unique(), self._no_records()).ids[:count])

    def last(self, count: int = 3) -> tuple[str, ...]:
        """Return the last `count` IDs, in list order."""
        result: list[str] = []
        for place, _ in reversed(self._blocks):
            result = self._unpacked(self._file.read(place)).ids + result
            if len(result) >= count:
                break
        return tuple(result[-count:])

    def close(self) -> None:
        """Release memory and disk space. May be called again, at any time."""
        self._file.close()
        self._partitions.close()
        self._blocks = []
        self._pending = self._no_records()
        self.ids_count = 0


def _parts(block: bytes) -> tuple[bytes, bytes]:
    """Return the two parts of a block: the IDs and the data, or the hashes and the IDs."""
    end = 4 + int.from_bytes(block[:4], "big")
    return block[4:end], block[end:]


def _slice(records: Records, start: int, end: int | None) -> Records:
    return Records(records.ids[start:end], None if records.data is None else records.data[start:end])
