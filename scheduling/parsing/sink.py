"""Collects what a reader finds: IDs go to the spool, faults to their file, warnings are counted."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.data_columns import DataProblem
from scheduling.parsing.fault_file import FaultFile
from scheduling.parsing.record_spool import Records, RecordSpool
from scheduling.parsing.results import Column, Fault, Limits, Sheet
from scheduling.parsing.spool import Spool

_RECORDS_AT_ONCE = 4_096
_NOWHERE: dict[str, Any] = {"line": None, "column": None, "index": None}


class Sink:
    """Collects the contents of a list while it is read. Raises TooManyIds as soon as there are too many.

    keeps_going: whether IDs are kept after a fault (`on_error=skip`). Otherwise they are only counted from
    then on.
    """

    # Whether IDs are text or have data, so that each becomes a record.
    keeps_records = False
    # Whether the IDs are text.
    is_text = False

    def __init__(self, *, limits: Limits, folder: Path, keeps_going: bool) -> None:
        self.limits = limits
        self.spool: Spool | RecordSpool = Spool(folder, ids_in_memory=limits.ids_in_memory)
        self.fault_file = FaultFile(folder, limit=limits.max_faults_kept)
        self.warnings: Counter[str] = Counter()
        self.column: Column | None = None
        self.sheet: Sheet | None = None
        self.data_columns: tuple[str, ...] = ()
        self.columns_left_out: tuple[str, ...] = ()
        self.keeps_going = keeps_going
        self._ids_count = 0

    @property
    def entries_count(self) -> int:
        """The number of tokens so far, IDs and faults."""
        return self._ids_count + self.fault_file.count

    def take(self, block: array[int]) -> None:
        """Add a block of checked IDs (`array('q')`), in list order."""
        self._ids_count += len(block)
        self._check_count()
        if isinstance(self.spool, Spool) and (self.keeps_going or not self.fault_file.count):
            self.spool.extend(block)

    def _check_count(self) -> None:
        if self._ids_count + self.fault_file.count > self.limits.max_ids:
            raise errors.TooManyIds(limit=self.limits.max_ids)

    def fault(self, token: str, reason: str, **place: Any) -> None:
        """Record a fault. place: line, column, index, sheet, cell, as in Fault."""
        if not self.fault_file.is_full:
            where = _NOWHERE | place
            self.fault_file.add(Fault(token=id_tokens.visible(token), reason=reason, **where))
        self._count_fault()

    def _count_fault(self) -> None:
        self.fault_file.count += 1
        self._check_count()

    def warn(self, kind: str, count: int = 1) -> None:
        """Count something that was accepted but that the sender should know. kind: a key of WARNINGS."""
        if count:
            self.warnings[kind] += count

    def token(
        self,
        token: str,
        block: array[int],
        empty: str | None = None,
        data: Callable[[], bytes] | None = None,
        **place: Any,
    ) -> bool:
        """Read one token. Its ID is appended to `block`, or its fault is recorded. Returns whether it is an ID.

        empty: the reason for a token with nothing in it, or None to skip such a token. data: returns what travels
        with the ID, for a list that has data.
        """
        if self.fault_file.is_full:
            core = token.strip(id_tokens.TRIMMED)
            if core and not core.isdigit():
                # Nobody will see this fault's reason, and finding ten million reasons takes a minute.
                self._count_fault()
                return False
        read = id_tokens.read(token)
        if read.id is not None:
            block.append(read.id)
            self.warn("leading_zeros", read.leading_zeros)
            self.warn("trimmed", read.trimmed)
            return True
        self._not_an_id(token, read.reason or "", empty, read.trimmed, place)
        return False

    def _not_an_id(
        self, token: str, reason: str, empty: str | None, trimmed: bool, place: dict[str, Any]
    ) -> None:
        if reason != id_tokens.EMPTY:
            self.fault(token, reason, **place)
        elif empty is not None:
            self.fault(token, empty, **place)
        else:
            self.warn("trimmed", trimmed)

    def finish(self) -> None:
        """Find the repeats of the list."""
        self.spool.finish()

    def close(self) -> None:
        """Delete the temporary files, because the body was refused as a whole."""
        self.spool.close()
        self.fault_file.close()


class RecordSink(Sink):
    """A sink for lists whose IDs are text or have data."""

    keeps_records = True

    def __init__(
        self, *, limits: Limits, folder: Path, keeps_going: bool, is_text: bool, has_data: bool
    ) -> None:
        super().__init__(limits=limits, folder=folder, keeps_going=keeps_going)
        self.spool.close()
        self.is_text = is_text
        self._has_data = has_data
        self._records = RecordSpool(folder, has_data=has_data)
        self.spool = self._records
        self._ids: list[str] = []
        self._data: list[bytes] = []
        self._numbers_count = 0

    def token(
        self,
        token: str,
        block: array[int],
        empty: str | None = None,
        data: Callable[[], bytes] | None = None,
        **place: Any,
    ) -> bool:
        """Read one token. Its record is kept, or its fault is recorded. Nothing is appended to `block`."""
        if self.is_text:
            record_id, reason, trimmed = id_tokens.read_text(token)
        else:
            read = id_tokens.read(token)
            record_id, reason, trimmed = str(read.id), read.reason, read.trimmed
            self.warn("leading_zeros", read.leading_zeros)
        if reason is not None or record_id is None:
            self._not_an_id(token, reason or "", empty, trimmed, place)
            return False
        try:
            packed = b"" if not self._has_data else b"{}" if data is None else data()
            self._check_size(packed)
        except DataProblem as problem:
            self.fault(token, str(problem), **place)
            return False
        self.warn("trimmed", trimmed)
        self.take_records([record_id], [packed])
        return True

    def _check_size(self, packed: bytes) -> None:
        limit = self.limits.data_max_bytes
        if len(packed) > limit:
            raise DataProblem(f"Its data have {len(packed):,} bytes, but at most {limit:,} are allowed.")

    def take_records(self, ids: Iterable[str], data: Iterable[bytes]) -> None:
        """Add checked records, in list order. data: not looked at if the list has none."""
        before = len(self._ids)
        self._ids.extend(ids)
        if self._has_data:
            self._data.extend(data)
        self._ids_count += len(self._ids) - before
        self._check_count()
        if len(self._ids) >= _RECORDS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self.is_text:
            self._numbers_count += sum(map(str.isdecimal, self._ids))
        if self.keeps_going or not self.fault_file.count:
            self._records.extend(Records(self._ids, self._data if self._has_data else None))
        self._ids = []
        self._data = []

    def finish(self) -> None:
        """Find the repeats of the list."""
        self._flush()
        super().finish()
        self.warn("repeats_differ", self._records.repeats_differ_count)
        if self._ids_count == self._numbers_count:
            self.warn("only_numbers", self._numbers_count)
