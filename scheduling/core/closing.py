"""A base class for what is closed at the end of a `with` block. Standard library only."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """Calls `close()` at the end of its `with` block, whatever ended it."""

    @abstractmethod
    def close(self) -> None:
        """Release memory and disk space."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
