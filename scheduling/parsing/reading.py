"""What reading a body returns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scheduling.core.closing import Closing
from scheduling.parsing.fault_file import FaultFile
from scheduling.parsing.record_spool import RecordSpool
from scheduling.parsing.results import Column, Fault, Fields, Sheet
from scheduling.parsing.spool import Spool


@dataclass(frozen=True)
class Reading(Closing):
    """What a body contains. Close it once its IDs are stored, since it keeps temporary files open.

    faults: the first 20; `all_faults()` yields all that are kept. warnings: how often each kind of WARNINGS
    occurred. payload_as_sent: the payload itself, if a JSON or form payload has at most 1,000 tokens and no
    faults. spool: the IDs of a list of bare numbers; None if there was no payload and none was needed. records:
    instead of it, those of a list of text IDs or with data. data_columns, columns_left_out: the names of the columns
    that travel with the IDs, and of the others. bytes_read: the size of the file or the payload as it arrived,
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
    records: RecordSpool | None = None
    id_type: str = "integer"
    data_columns: tuple[str, ...] = ()
    columns_left_out: tuple[str, ...] = ()

    @property
    def _list(self) -> Spool | RecordSpool | None:
        return self.spool or self.records

    @property
    def ids(self) -> Spool | RecordSpool:
        """The IDs that were read. Only for a body with a list: where one is required, its absence was refused."""
        assert self._list is not None
        return self._list

    @property
    def ids_count(self) -> int:
        """The number of different IDs."""
        return self._list.ids_count if self._list else 0

    @property
    def repeats_count(self) -> int:
        """The number of tokens that repeat an earlier ID."""
        return self._list.repeats_count if self._list else 0

    @property
    def digest(self) -> str:
        """A fingerprint of the list including its faults, which does not depend on how the bytes were packed."""
        return self.fault_file.digest(self._list.digest if self._list else "")

    def all_faults(self) -> Iterator[Fault]:
        """Yield the faults that are kept, in order."""
        return self.fault_file.faults()

    def close(self) -> None:
        """Delete the temporary files. May be called again."""
        if self._list:
            self._list.close()
        self.fault_file.close()
