"""Compares a new list with the stored one, exactly and in flat memory whatever their lengths.

One list is loaded part by part as a set, and the other is compared with each part. The results are in files, except
for one byte per ID of the new list.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, compress
from pathlib import Path
from typing import Self

from scheduling.core.closing import Closing
from scheduling.lists import stored_lists
from scheduling.parsing.spool import IdFile

# The IDs that are in memory as a set at a time: some 20 MB.
PART_IDS = 250_000


class Difference(Closing):
    """The difference between a task's list and the list that replaces it.

    added: the IDs that get a place, in the order of the new list: those that the task never had, and those that
    `returning` marks with 1. removed: the IDs that are not in the new list, in the order of the old one; the first
    `removed_now_count` of them are in the old list as it was sent, the others had been removed before. kept_count: how
    many IDs of the new list keep their place or their outcome.
    """

    def __init__(self, folder: Path) -> None:
        self.added = IdFile(folder)
        self.removed = IdFile(folder)
        self.returning = bytearray()
        self.removed_now_count = 0
        self.kept_count = 0

    @classmethod
    def between(
        cls,
        list_id: int,
        listed_count: int,
        source: stored_lists.Source,
        *,
        folder: Path,
        cancelled: Callable[[array[int]], Collection[int]],
    ) -> Self:
        """Compare the stored list `list_id` with `source`. Close the difference afterwards.

        listed_count: how many IDs, from the first on, were in the old list as it was sent. cancelled: returns
        those of the given IDs that the task contains and has cancelled.
        """
        difference = cls(folder)
        try:
            in_both = difference._find_removed(list_id, listed_count, source)
            difference._find_added(source, in_both, cancelled)
        except BaseException:
            difference.close()
            raise
        return difference

    def _find_removed(self, list_id: int, listed_count: int, source: stored_lists.Source) -> bytearray:
        """Fill `removed`. Returns one byte per ID of the new list: 1 if the old list contains it."""
        in_both = bytearray(source.ids_count)
        position = 0
        for part in stored_lists.blocks(list_id, PART_IDS):
            in_part = set(part)
            missing = set(part)
            start = 0
            for ids in source.unique_blocks(stored_lists.CHUNK_IDS):
                common = in_part.intersection(ids)
                if common:
                    missing -= common
                    for offset in compress(range(len(ids)), map(common.__contains__, ids)):
                        in_both[start + offset] = 1
                start += len(ids)
            listed = max(0, listed_count - position)
            for ids, is_now in ((part[:listed], True), (part[listed:], False)):
                removed = array("q", filter(missing.__contains__, ids))
                self.removed.append(removed)
                self.removed_now_count += is_now * len(removed)
            position += len(part)
        return in_both

    def _find_added(
        self,
        source: stored_lists.Source,
        in_both: bytearray,
        cancelled: Callable[[array[int]], Collection[int]],
    ) -> None:
        start = 0
        for ids in source.unique_blocks(stored_lists.CHUNK_IDS):
            flags = in_both[start : start + len(ids)]
            returning = cancelled(array("q", compress(ids, flags)))
            pairs = zip(ids, flags, strict=True)
            added = array(
                "q", (user_id for user_id, is_in_both in pairs if not is_in_both or user_id in returning)
            )
            self.added.append(added)
            self.returning.extend(map(returning.__contains__, added))
            self.kept_count += len(ids) - len(added)
            start += len(ids)

    def close(self) -> None:
        """Release the disk space."""
        self.added.close()
        self.removed.close()


def blocks_of(file: IdFile, size: int) -> Iterator[array[int]]:
    """Yield the IDs of a file, `size` at a time."""
    return (file.read(start, size) for start in range(0, file.count, size))


def in_blocks_of_size(blocks: Iterable[array[int]], size: int) -> Iterator[array[int]]:
    """Yield the IDs of blocks of any length in blocks of `size`. Only the last may be shorter."""
    pending = array("q")
    for block in blocks:
        pending.extend(block)
        while len(pending) >= size:
            yield pending[:size]
            pending = pending[size:]
    if pending:
        yield pending


class CombinedSource:
    """A source that yields the IDs of several others, one after the other. It can be read again, as they can."""

    def __init__(
        self,
        ids_count: int,
        *blocks: Callable[[int], Iterator[array[int]]],
        repeats_count: int = 0,
        digest: str = "",
    ) -> None:
        self.ids_count = ids_count
        self.repeats_count = repeats_count
        self.same_as_digest = digest
        self._blocks = blocks

    def unique_blocks(self, size: int) -> Iterator[array[int]]:
        """Yield the IDs of all sources, `size` at a time."""
        return in_blocks_of_size(chain.from_iterable(part(size) for part in self._blocks), size)
