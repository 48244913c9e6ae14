"""Where every reader puts what it finds: IDs into the spool, faults into their file, warnings into counts."""

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
    """What a list turned out to hold, while it is read. Raises TooManyIds at once.

    keeps_going: whether IDs are kept after a fault (`on_error=skip`); else only counted from there on.
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
        """How many tokens were seen, good and bad."""
        return self._ids_count + self.fault_file.count

    def take(self, block: array) -> None:
        """Take a block of checked IDs (`array('q')`), in list order."""
        self._ids_count += len(block)
        self._check_count()
        if self.keeps_going or not self.fault_file.count:
            self.spool.extend(block)

    def _check_count(self) -> None:
        if self._ids_count + self.fault_file.count > self.limits.max_ids:
            raise errors.TooManyIds(limit=self.limits.max_ids)

    def fault(self, token: str, reason: str, **place: Any) -> None:
        """Note a fault. place: line, column, index, sheet, cell, as in Fault."""
        if not self.fault_file.is_full:
            where = _NOWHERE | place
            self.fault_file.add(Fault(token=id_tokens.visible(token), reason=reason, **where))
        self._count_fault()

    def _count_fault(self) -> None:
        self.fault_file.count += 1
        self._check_count()

    def warn(self, kind: str, count: int = 1) -> None:
        """Count something that was read, but that people should know of. kind: one of results.WARNINGS."""
        if count:
            self.warnings[kind] += count

    def token(self, token: str, block: array, empty: str | None = None, **place: Any) -> None:
        """Read one token the careful way: its ID goes into `block`, or its fault is noted.

        empty: the reason if there is nothing in it; None if that is to be passed over.
        """
        if self.fault_file.is_full:
            core = token.strip(id_tokens.TRIMMED)
            if core and not core.isdigit():
                # Nobody will read the reason any more, and ten million of them take a minute to find.
                self._count_fault()
                return
        read = id_tokens.read(token)
        if read.id is not None:
            block.append(read.id)
            self.warn("leading_zeros", read.leading_zeros)
            self.warn("trimmed", read.trimmed)
        elif read.reason != id_tokens.NOTHING:
            self.fault(token, read.reason or "", **place)
        elif empty is not None:
            self.fault(token, empty, **place)
        else:
            self.warn("trimmed", read.trimmed)

    def close(self) -> None:
        """Delete what is on disk: the body was refused as a whole."""
        self.spool.close()
        self.fault_file.close()
