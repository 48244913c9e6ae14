"""IDs as their owners wrote them: a number that stands for an ID that is text is shown to nobody."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol, TypeVar

from scheduling.lists import external_ids
from scheduling.tasks.erasure import ERASED

ROWS_AT_ONCE = 500


class WithId(Protocol):
    """A row about one ID."""

    @property
    def user_id(self) -> int:
        """Its number; negative where it stands for text."""
        ...


Row = TypeVar("Row", bound=WithId)


def shown(user_id: int, texts: Mapping[int, str]) -> str:
    """Return an ID as text. texts: those that are text, by their number."""
    return str(user_id) if user_id >= 0 else texts.get(user_id, ERASED)


def of(user_id: int) -> str:
    """Return one ID as text."""
    return shown(user_id, external_ids.texts([user_id]))


def exported(rows: Iterable[Row], cells: Callable[[Row], list[Any]]) -> Iterator[list[Any]]:
    """Yield the cells of each row, its ID first; the IDs of many rows are looked up together."""
    following = iter(rows)
    while block := list(islice(following, ROWS_AT_ONCE)):
        texts = external_ids.texts(row.user_id for row in block)
        for row in block:
            yield [shown(row.user_id, texts), *cells(row)]
