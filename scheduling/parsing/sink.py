"""Collects what a reader finds: IDs go to the spool, faults to their file, warnings are counted."""

from __future__ import annotations

from array import array
from collections import Counter
from pathlib import Path
from typing import Any

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.fault_file import FaultFile
from scheduling.parsing.results import Column, Fault, Limits, Sheet
from scheduling.parsing.spool import Spool

_NOWHERE: dict[str, Any] = {"line": None, "column": None, "index": None}


class Sink:
    """Collects the contents of a list while it is read. Raises TooManyIds as soon as there are too many.

    keeps_going: whether IDs are kept after a fault (`on_error=skip`). Otherwise they are only counted from
    then on.
    """

    def __init__(self, *, limits: Limits, folder: Path, keeps_going: bool) -> None:
        self.limits = limits
        self.spool = Spool(folder, ids_in_memory=limits.ids_in_memory)
        self.fault_file = FaultFile(folder, limit=limits.max_faults_kept)
        self.warnings: Counter[str] = Counter()
        self.column: Column | None = None
        self.sheet: Sheet | None = None
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
        if self.keeps_going or not self.fault_file.count:
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

    def token(self, token: str, block: array[int], empty: str | None = None, **place: Any) -> None:
        """Read one token. Its ID is appended to `block`, or its fault is recorded.

        empty: the reason for a token with nothing in it, or None to skip such a token.
        """
        if self.fault_file.is_full:
            core = token.strip(id_tokens.TRIMMED)
            if core and not core.isdigit():
                # Nobody will see this fault's reason, and finding ten million reasons takes a minute.
                self._count_fault()
                return
        read = id_tokens.read(token)
        if read.id is not None:
            block.append(read.id)
            self.warn("leading_zeros", read.leading_zeros)
            self.warn("trimmed", read.trimmed)
        elif read.reason != id_tokens.EMPTY:
            self.fault(token, read.reason or "", **place)
        elif empty is not None:
            self.fault(token, empty, **place)
        else:
            self.warn("trimmed", read.trimmed)

    def close(self) -> None:
        """Delete the temporary files, because the body was refused as a whole."""
        self.spool.close()
        self.fault_file.close()
