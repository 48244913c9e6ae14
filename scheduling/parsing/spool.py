"""Stores the IDs of a list while it is read: in memory if short, on disk if long. Finds repeats exactly.

Memory use stays flat. Beyond 200,000 IDs the list is written to a file in its order, and each ID also to one of
256 partitions by a salted hash. At the end one partition at a time is loaded as a set. Only a partition with
repeats is read again, and then the list is rewritten without them. The files never have a name, so a process
that is killed leaves none behind.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import compress, repeat
from pathlib import Path

from scheduling.core.closing import Closing
from scheduling.parsing import errors

PARTITIONS = 256
BYTES_PER_ID = 8
_PARTITION_BLOCK = 1024
_READ_BLOCK = 16_384
# Primes between 2^12 and 2^14: small enough for the remainder to break up the usual patterns of IDs (consecutive,
# multiples of 64), and so many that nobody can build a list that falls into a single partition.
_PRIMES = [n for n in range(4097, 16384, 2) if all(n % d for d in range(3, 128, 2))]


class IdFile:
    """An unnamed temporary file of 8-byte numbers. Raises NoSpace if the disk is full."""

    def __init__(self, folder: Path) -> None:
        with errors.disk():
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self.count = 0

    def append(self, ids: array[int]) -> None:
        """Add `ids` at the end."""
        view = memoryview(ids).cast("B")
        at = self.count * BYTES_PER_ID
        with errors.disk():
            while view:
                written = os.pwrite(self._file.fileno(), view, at)
                at += written
                view = view[written:]
        self.count += len(ids)

    def read(self, start: int, count: int) -> array[int]:
        """Return up to `count` numbers from the `start`-th on."""
        count = max(0, min(count, self.count - start))
        ids = array("q")
        while len(ids) < count:
            room = (count - len(ids)) * BYTES_PER_ID
            data = os.pread(self._file.fileno(), room, (start + len(ids)) * BYTES_PER_ID)
            if not data or len(data) % BYTES_PER_ID:
                raise OSError("the spool file is shorter than what was written to it")
            ids.frombytes(data)
        return ids

    def close(self) -> None:
        """Release the disk space."""
        errors.close_quietly(self._file)


class _Partitions:
    """The IDs again, distributed by a salted hash. Equal IDs are in the same partition, in list order."""

    def __init__(self, folder: Path) -> None:
        self._file = IdFile(folder)
        draw = random.SystemRandom()
        self._prime = draw.choice(_PRIMES)
        table = [n % PARTITIONS for n in range(self._prime)]
        draw.shuffle(table)
        self._table = bytes(table)
        self._segments: list[list[int]] = [[] for _ in range(PARTITIONS)]
        self._buffers = [array("q") for _ in range(PARTITIONS)]
        self._lengths = [0] * PARTITIONS

    def extend(self, ids: Sequence[int]) -> None:
        appends = [buffer.append for buffer in self._buffers]
        table, prime = self._table, self._prime
        for user_id in ids:
            appends[table[user_id % prime]](user_id)
        for number, buffer in enumerate(self._buffers):
            if len(buffer) >= _PARTITION_BLOCK:
                self._flush(number, buffer)

    def _flush(self, number: int, buffer: array[int]) -> None:
        for at in range(0, len(buffer) - _PARTITION_BLOCK + 1, _PARTITION_BLOCK):
            self._segments[number].append(self._file.count)
            self._file.append(buffer[at : at + _PARTITION_BLOCK])
        del buffer[: len(buffer) // _PARTITION_BLOCK * _PARTITION_BLOCK]

    def _blocks(self, number: int) -> Iterator[array[int]]:
        for start in self._segments[number]:
            yield self._file.read(start, _PARTITION_BLOCK)
        yield self._buffers[number]

    def firsts(self) -> list[bytes | None]:
        """Return for each partition None if it has no repeats, else one byte per ID: 1 if it is new."""
        return [self._first_in(number) for number in range(PARTITIONS)]

    def _first_in(self, number: int) -> bytes | None:
        earlier: set[int] = set()
        length = 0
        for block in self._blocks(number):
            length += len(block)
            earlier.update(block)
        if len(earlier) == length:
            return None
        earlier.clear()
        flags = bytearray()
        for block in self._blocks(number):
            for user_id in block:
                flags.append(user_id not in earlier)
                earlier.add(user_id)
        return bytes(flags)

    def flags(self, ids: Sequence[int], next_flag: list[Callable[[], int]]) -> list[int]:
        """Return whether each of the next `ids` of the list is new."""
        table, prime = self._table, self._prime
        return [next_flag[table[user_id % prime]]() for user_id in ids]

    def close(self) -> None:
        self._file.close()


class Spool(Closing):
    """A list of IDs in order. Call `extend` for each block, `finish` once, then read it as often as needed.

    After `finish`: ids_count, repeats_count, digest (of the list including repeats) and same_as_digest (of the set
    of its IDs, in any order). Every write may raise NoSpace.
    """

    def __init__(self, folder: Path, *, ids_in_memory: int = 200_000) -> None:
        self._folder = folder
        self._ids_in_memory = ids_in_memory
        self._ids: array[int] | None = array("q")
        self._file: IdFile | None = None
        self._partitions: _Partitions | None = None
        self._sha = hashlib.sha256()
        self.sent_count = 0
        self.ids_count = 0
        self.repeats_count = 0
        self.digest = ""
        self.same_as_digest = ""

    def extend(self, ids: array[int]) -> None:
        """Add a block of IDs (`array('q')`), including repeats."""
        self.sent_count += len(ids)
        self._sha.update(ids)
        if self._ids is not None:
            self._ids.extend(ids)
            if len(self._ids) > self._ids_in_memory:
                self._go_to_disk()
            return
        assert self._file is not None
        assert self._partitions is not None
        self._file.append(ids)
        self._partitions.extend(ids)

    def _go_to_disk(self) -> None:
        assert self._ids is not None
        self._file = IdFile(self._folder)
        self._partitions = _Partitions(self._folder)
        ids, self._ids = self._ids, None
        self._file.append(ids)
        for at in range(0, len(ids), _READ_BLOCK):
            self._partitions.extend(ids[at : at + _READ_BLOCK])

    def finish(self) -> None:
        """Drop the repeats. From then on the list contains only the first occurrence of each ID."""
        if self._ids is not None:
            self._ids = array("q", dict.fromkeys(self._ids))
            self.ids_count = len(self._ids)
        else:
            self._drop_repeats()
            assert self._file is not None
            self.ids_count = self._file.count
        self.repeats_count = self.sent_count - self.ids_count
        self.digest = self._sha.hexdigest()
        self.same_as_digest = self._digest_of_set()

    def _drop_repeats(self) -> None:
        assert self._file is not None
        assert self._partitions is not None
        firsts = self._partitions.firsts()
        if any(flags is not None for flags in firsts):
            next_flag = [(repeat(1) if flags is None else iter(flags)).__next__ for flags in firsts]
            unique = IdFile(self._folder)
            sent, self._file = self._file, unique
            try:
                for at in range(0, sent.count, _READ_BLOCK):
                    block = sent.read(at, _READ_BLOCK)
                    unique.append(array("q", compress(block, self._partitions.flags(block, next_flag))))
            finally:
                sent.close()
        self._partitions.close()
        self._partitions = None

    def _digest_of_set(self) -> str:
        """Return a digest that does not depend on the order: a sum of hashes of 1-tuples, which are well mixed.

        It serves a hint, "very likely the same IDs". Another Python may hash differently, so the digest includes
        its name: then the hint is missing, but never wrong.
        """
        mixed = plain = 0
        for block in self.unique_blocks(_READ_BLOCK):
            mixed += sum(map(hash, zip(block)))
            plain += sum(block)
        facts = f"{sys.implementation.cache_tag} {sys.hash_info.width} {self.ids_count} {plain} {mixed}"
        return hashlib.sha256(facts.encode()).hexdigest()

    def unique_blocks(self, size: int) -> Iterator[array[int]]:
        """Yield the IDs in list order, each once, in blocks of `size`; the last may be shorter."""
        for start in range(0, self.ids_count, size):
            yield self._read(start, size)

    def first(self, count: int = 3) -> tuple[int, ...]:
        """Return the first `count` IDs."""
        return tuple(self._read(0, count))

    def last(self, count: int = 3) -> tuple[int, ...]:
        """Return the last `count` IDs, in list order."""
        return tuple(self._read(max(0, self.ids_count - count), count))

    def _read(self, start: int, count: int) -> array[int]:
        if self._ids is not None:
            return self._ids[start : start + count]
        assert self._file is not None
        return self._file.read(start, count)

    def close(self) -> None:
        """Release memory and disk space. May be called again, at any time."""
        for part in (self._file, self._partitions):
            if part is not None:
                part.close()
        self._file = self._partitions = None
        self._ids = array("q")
        self.ids_count = 0
