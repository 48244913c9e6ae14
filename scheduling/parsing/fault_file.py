"""The faults of a list, in order: the first ones in memory, more on disk."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scheduling.parsing import errors
from scheduling.parsing.results import FAULTS_SHOWN, Fault

_FAULTS_IN_MEMORY = 500


class FaultFile:
    """The faults of a list in order. The latest are in memory, the others on disk. Only `limit` are kept."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._recent: list[Fault] = []
        self._file: Any = None
        self._sha = hashlib.sha256()
        self.first: tuple[Fault, ...] = ()
        self.count = 0
        self._kept_count = 0

    @property
    def is_full(self) -> bool:
        """Whether a further fault would only be counted, so that it needs no description."""
        return self._kept_count >= self._limit

    def add(self, fault: Fault) -> None:
        """Keep one more fault. The sink counts it in `count`."""
        self._kept_count += 1
        if len(self.first) < FAULTS_SHOWN:
            self.first += (fault,)
        self._sha.update(_line(fault))
        self._recent.append(fault)
        if len(self._recent) >= _FAULTS_IN_MEMORY:
            self._write()

    def _write(self) -> None:
        with errors.disk():
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            self._file.seek(0, 2)
            self._file.write(b"".join(map(_line, self._recent)))
            self._file.flush()
        self._recent.clear()

    def faults(self) -> Iterator[Fault]:
        """Yield the faults that are kept, in order."""
        if self._file is not None:
            self._file.seek(0)
            for line in self._file:
                yield Fault(*json.loads(line))
        yield from self._recent

    def digest(self, of_ids: str) -> str:
        """Combine the fingerprint of the IDs with that of the faults."""
        if not self.count:
            return of_ids
        return hashlib.sha256(f"{of_ids} {self.count} {self._sha.hexdigest()}".encode()).hexdigest()

    def close(self) -> None:
        """Delete the temporary file."""
        if self._file is not None:
            errors.close_quietly(self._file)
            self._file = None
        self._recent.clear()


def _line(fault: Fault) -> bytes:
    facts = [fault.line, fault.column, fault.index, fault.token, fault.reason, fault.sheet, fault.cell]
    return json.dumps(facts).encode() + b"\n"
