"""Django's PostgreSQL backend, with transactions that need few round trips.

A host may be some ten milliseconds from its database. In a connection that is `brief`, statements can be put off: they
travel with the next statement that somebody waits for, and the last ones with COMMIT. So does BEGIN, with limits for
this transaction alone, so that a pooler may give the next one another session.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from django.db import OperationalError
from django.db.backends.postgresql import base
from django.db.backends.utils import CursorWrapper

from scheduling.postgresql import pooling, timeline

Rows = list[tuple[Any, ...]]


class PutOff(NamedTuple):
    """A statement that wasn't sent yet. then: is given its rows."""

    sql: str
    then: Callable[[Rows], None] | None = None


def _one_by_one(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of a connection to each of several servers by itself."""
    hosts, ports = str(parameters.get("host") or "").split(","), str(parameters.get("port") or "").split(",")
    if len(hosts) == 1:
        return []
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return [{**parameters, "host": host, "port": port} for host, port in zip(hosts, ports, strict=False)]


class _Sends:
    """Sends what was put off together with a statement, as one text, and takes the rows apart."""

    cursor: Any
    db: "DatabaseWrapper"

    def execute(self, sql: Any, params: Any = None) -> Any:
        execute = super().execute  # type: ignore[misc]  # of the cursor that this is mixed into
        if not self.db.put_off_statements:
            return execute(sql, params)
        if isinstance(self.cursor, base.ServerSideCursor):
            self.db.send_put_off()
            return execute(sql, params)
        put_off = self.db.take_put_off()
        with self.db.wrap_database_errors:
            own = self.cursor.mogrify(sql, params)
        result = execute(";\n".join([*(statement.sql for statement in put_off), own]))
        for statement in put_off:
            if statement.then is not None:
                statement.then(self.cursor.fetchall())
            self.cursor.nextset()
        return result

    def executemany(self, sql: Any, param_list: Any) -> Any:
        self.db.send_put_off()
        return super().executemany(sql, param_list)  # type: ignore[misc]  # as above

    def copy(self, *args: Any, **kwargs: Any) -> Any:
        self.db.send_put_off()
        return self.cursor.copy(*args, **kwargs)


class Cursor(_Sends, CursorWrapper):
    pass


class DebugCursor(_Sends, base.CursorDebugWrapper):
    pass


class DatabaseWrapper(base.DatabaseWrapper):
    """PostgreSQL, where some connections are brief."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Whether BEGIN is put off. Its statements follow each BEGIN.
        self.is_brief = False
        self._limits: Sequence[str] = ()
        self.put_off_statements: list[PutOff] = []
        # What is sent in one message with COMMIT, before it.
        self._last_statements: list[str] = []
        self._before_last: Sequence[str] = ()
        # By savepoint, how many there were.
        self._last_counts: dict[str, int] = {}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect; where several servers are named, to one that no other has replaced."""
        refusal: OperationalError | None = None
        for parameters in (conn_params, *_one_by_one(conn_params)):
            try:
                connection = super().get_new_connection(parameters)
            except self.Database.OperationalError as error:
                if refusal is not None:
                    continue
                if undeclared := pooling.refusal_of(error):
                    raise undeclared from error
                raise
            try:
                pooling.check(connection, partial(super().get_new_connection, parameters))
                if (current := timeline.read(connection)) is not None:
                    timeline.check(current)
            except OperationalError as error:
                connection.close()
                refusal = error
                continue
            return connection
        assert refusal is not None
        raise refusal

    def be_brief(self, limits: Sequence[str]) -> None:
        """From the next transaction on put off what can be. limits: statements that follow each BEGIN."""
        self.is_brief, self._limits = True, limits

    def end_brief(self) -> None:
        self.is_brief = False
        if not self.in_atomic_block:
            self.put_off_statements.clear()

    def put_off(self, sql: str, params: Any = None, then: Callable[[Rows], None] | None = None) -> None:
        """Send a statement with the next one, or with COMMIT. then: is given its rows."""
        with self.cursor() as cursor:
            # Not in one line: the cursor may have connected, and so forgotten what was put off.
            text = cursor.mogrify(sql, params)
        self.put_off_statements.append(PutOff(text, then))

    def send_last(self, before: Sequence[str], sql: str, params: Any) -> None:
        """Send a statement with COMMIT: of no lock that it takes do others wait for a host.

        before: statements that are sent once, before all of these. Outside of a transaction it is sent at once.
        """
        with self.cursor() as cursor:
            text = cursor.mogrify(sql, params)
            if not self.in_atomic_block:
                cursor.execute(";\n".join([*before, text]))
                return
        self._before_last = before
        self._last_statements.append(text)

    def take_put_off(self) -> list[PutOff]:
        statements, self.put_off_statements = self.put_off_statements, []
        return statements

    def send_put_off(self) -> None:
        """Send what was put off now."""
        if self.put_off_statements:
            with self.cursor() as cursor:
                cursor.execute("SELECT 1")

    def make_cursor(self, cursor: Any) -> CursorWrapper:
        return Cursor(cursor, self)

    def make_debug_cursor(self, cursor: Any) -> DebugCursor:
        return DebugCursor(cursor, self)

    def _set_autocommit(self, autocommit: bool) -> None:
        if self.connection.autocommit:
            if autocommit:
                # The transaction that ends here began with a BEGIN of ours.
                return
            if self.is_brief:
                self.put_off_statements += [PutOff("BEGIN"), *map(PutOff, self._limits)]
                return
        super()._set_autocommit(autocommit)  # type: ignore[misc]  # the stubs lack it

    def _commit(self) -> None:
        if self._last_statements:
            self.put_off_statements += map(PutOff, [*self._before_last, *self._last_statements])
            self._forget_last()
        if self.put_off_statements:
            with self.cursor() as cursor:
                cursor.execute("COMMIT")
        else:
            super()._commit()  # type: ignore[misc]  # the stubs lack it

    def _forget_last(self) -> None:
        self._last_statements.clear()
        self._last_counts.clear()

    def _rollback(self) -> None:
        self.put_off_statements.clear()
        self._forget_last()
        super()._rollback()  # type: ignore[misc]  # the stubs lack it

    def _savepoint(self, sid: str) -> None:
        super()._savepoint(sid)  # type: ignore[misc]  # the stubs lack it
        self._last_counts[sid] = len(self._last_statements)

    def _savepoint_rollback(self, sid: str) -> None:
        del self._last_statements[self._last_counts.get(sid, 0) :]
        # All of it is younger than the savepoint, which has sent what was older.
        self.put_off_statements.clear()
        super()._savepoint_rollback(sid)  # type: ignore[misc]  # the stubs lack it

    def _close(self) -> None:
        self.put_off_statements.clear()
        self._forget_last()
        super()._close()  # type: ignore[misc]  # the stubs lack it
