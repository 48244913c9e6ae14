"""Django's SQLite backend, with one gate that every write transaction passes.

SQLite has one writer and its lock is unfair: who polls for it may wait many seconds behind
bulk writers. A file lock is a queue. So each transaction takes the gate before BEGIN
IMMEDIATE and leaves it after COMMIT or ROLLBACK: the wait behind bulk writers of some 30 ms
stays below a tenth of a second. (Single statements outside a transaction don't pass it.)
"""

import fcntl
import os
import time
from functools import lru_cache
from typing import Any

from django.db.backends.sqlite3 import base

# After a bulk transaction the gate stays shut this long while SQLite's own lock is free, so that
# single statements, which poll for that lock, get their turn.
BULK_PAUSE_SECONDS = 0.003


# Longer statements are bulk inserts, of which no two are alike.
REMEMBERED_CHARACTERS = 10_000


@lru_cache(maxsize=2_000)
def _with_question_marks(query: str) -> str:
    return str(base.FORMAT_QMARK_REGEX.sub("?", query).replace("%%", "%"))


class Cursor(base.SQLiteCursorWrapper):
    """Remembers the statements whose placeholders it has turned into SQLite's."""

    def convert_query(self, query: str, *, param_names: list[str] | None = None) -> str:
        if param_names is None and len(query) <= REMEMBERED_CHARACTERS:
            return _with_question_marks(query)
        converted: str = super().convert_query(query, param_names=param_names)
        return converted


class DatabaseWrapper(base.DatabaseWrapper):
    """SQLite behind a gate. The gate's file lies beside the database's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate_fd: int | None = None
        self._gate_pid = 0
        self.bulk = False

    def create_cursor(self, name: str | None = None) -> Cursor:
        cursor: Cursor = self.connection.cursor(factory=Cursor)
        return cursor

    def _start_transaction_under_autocommit(self) -> None:
        self._enter_gate()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # the stubs lack it
        except BaseException:
            self._leave_gate()
            raise

    def _commit(self) -> None:
        # A COMMIT that fails (disk full) leaves the transaction, and so the gate, to the ROLLBACK.
        super()._commit()  # type: ignore[misc]  # the stubs lack it
        self._leave_gate()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]  # the stubs lack it
        finally:
            self._leave_gate()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]  # the stubs lack it
        finally:
            self._leave_gate()

    def _enter_gate(self) -> None:
        name = str(self.settings_dict["NAME"])
        if self._gate_fd is not None and self._gate_pid == os.getpid():
            return
        if not name or name.startswith((":memory:", "file:")):
            return
        # A descriptor of its own for each entry: locks of threads and forked processes stay apart.
        fd = os.open(f"{name}-gate", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except BaseException:
            os.close(fd)
            raise
        self._gate_fd, self._gate_pid = fd, os.getpid()

    def _leave_gate(self) -> None:
        fd, self._gate_fd = self._gate_fd, None
        bulk, self.bulk = self.bulk, False
        if fd is None or self._gate_pid != os.getpid():
            return
        if bulk:
            time.sleep(BULK_PAUSE_SECONDS)
        os.close(fd)
