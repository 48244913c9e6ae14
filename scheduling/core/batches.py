"""A sequence in parts, since the number of values in one statement is limited."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from scheduling.core import limits

Item = TypeVar("Item")


def batches(items: Sequence[Item], size: int = limits.IDS_PER_QUERY) -> Iterator[Sequence[Item]]:
    """Yield the items in order, `size` at a time and the last ones together."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
