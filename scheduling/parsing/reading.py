"""What reading a body returns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from scheduling.parsing.fault_file import FaultFile
from scheduling.parsing.results import Column, Fault, Fields, Sheet
from scheduling.parsing.spool import Spool


@dataclass(frozen=True)
class Reading:
    """A body, read. Close it when its IDs are stored: it holds files that have no name.

    faults: the first 20; `all_faults()` gives as many as are kept. warnings: kind (of WARNINGS) to count.
    payload_as_sent: the payload itself where a JSON or form payload has at most 1,000 tokens and no faults.
    spool: None if there was no payload and none was needed. bytes_read: of the file or the payload as it came,
    without the form around it.
    """

    format: str
    fields: Fields
    spool: Spool | None
    faults: tuple[Fault, ...]
    fault_count: int
    warnings: Mapping[str, int]
    column: Column | None
    sheet: Sheet | None
    payload_as_sent: Any
    bytes_read: int
    fault_file: FaultFile
    file_name: str | None = None

    @property
    def ids_count(self) -> int:
        """How many different IDs there are."""
        return self.spool.ids_count if self.spool else 0

    @property
    def repeats_count(self) -> int:
        """How many tokens repeat an ID that came before."""
        return self.spool.repeats_count if self.spool else 0

    @property
    def digest(self) -> str:
        """Fingerprint of the list as it was sent, faults too: the same however the bytes were wrapped."""
        return self.fault_file.digest(self.spool.digest if self.spool else "")

    def all_faults(self) -> Iterator[Fault]:
        """Yield the faults that are kept, up to the limit, in order."""
        return self.fault_file.faults()

    def close(self) -> None:
        """Delete what is on disk. May be called again."""
        if self.spool:
            self.spool.close()
        self.fault_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
