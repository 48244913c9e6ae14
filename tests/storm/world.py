"""The world of a storm: one clock, processes that take turns on it, and the faults that meet them.

Each process (a minute worker, a job, an operator's call) is a greenlet that runs until it sleeps. The world then
advances its clock to whatever is due next. Time passes in no other way, so that a seed always gives the same run.
"""

import heapq
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections
from django.db.transaction import Atomic
from greenlet import getcurrent, greenlet

from scheduling.dispatch import block_signals

from .sometimes import reached

EPOCH = datetime(2031, 3, 5, 12, 0, tzinfo=UTC)
# Statements that begin or end a transaction, and never fail by themselves.
_OF_TRANSACTIONS = ("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT")


def is_of_transaction(sql: str) -> bool:
    """Whether this only begins or ends a transaction. On PostgreSQL other statements may come with BEGIN."""
    return sql.startswith(_OF_TRANSACTIONS) and ";" not in sql


class Killed(BaseException):
    """The end of a process, wherever it is."""


class InjectedError(OperationalError):
    """The database is locked or gone, for one statement."""


@dataclass(eq=False)
class Host:
    """A machine: its clock is off by this many seconds."""

    name: str
    offset: float = 0.0
    # The memory in which its processes tell each other which targets asked to wait.
    block_signals: bytearray = field(default_factory=lambda: bytearray(block_signals.SIZE))


@dataclass(eq=False)
class Process:
    """One process of a host. What can happen to it is drawn when it starts."""

    name: str
    kind: str
    host: Host
    owner: int
    run: greenlet = field(repr=False, default=None)
    wakes_at: float = 0.0
    turn: int = 0
    frozen_until: float = -1.0
    is_dead: bool = False
    is_stopping: bool = False
    # Statements until one fails, until the process dies at one, and commits until it dies after one.
    fails_in: int | None = None
    dies_in: int | None = None
    dies_after_commits: int | None = None
    # Commits until one isn't acknowledged.
    unacknowledged_in: int | None = None
    committed_at: float = float("-inf")
    senders: list[Any] = field(default_factory=list)
    # What the process is at, for what drives it.
    about: dict[str, Any] = field(default_factory=dict)
    is_finished: bool = False
    # Whether it froze, or a statement or commit of it failed.
    had_faults: bool = False
    # Whether its connection puts statements off, as a minute worker's does on PostgreSQL, and those it has put off.
    is_brief: bool = False
    put_off_statements: list[Any] = field(default_factory=list)


class World:
    """Time, processes and faults. t: true time in seconds since 12:00, which is also the database's."""

    def __init__(self, dice: random.Random, *, begins_at: float, faults: frozenset[str]) -> None:
        self.t = begins_at
        self.dice = dice
        self.faults = faults
        self.hosts = [Host("a"), Host("b")]
        self.processes: list[Process] = []
        self.current: Process | None = None
        self.hub = getcurrent()
        self.trace: list[str] = []
        # Called after each commit, and whenever a process has slept.
        self.after_commit: Callable[[], None] = lambda: None
        self.latency = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self.statements = 0
        # Whether a transaction ends now: its last statements may come with COMMIT.
        self._is_committing = False
        # Whether a process died or froze, or a statement or commit failed: without that, no repeat is possible.
        self.had_faults = False
        self.has_new_jobs = False

    # --- Clocks ---

    def at(self) -> datetime:
        """The database's time."""
        return EPOCH + timedelta(microseconds=round(self.t * 1e6))

    def monotonic(self) -> float:
        return 1_000.0 + self.t

    def wall(self) -> float:
        """The present host's time."""
        host = self.current.host if self.current else self.hosts[0]
        return EPOCH.timestamp() + self.t + host.offset

    def host_now(self, tz: Any = UTC) -> datetime:
        return datetime.fromtimestamp(self.wall(), tz)

    # --- Events ---

    def call_at(self, t: float, act: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (max(t, self.t), self._sequence, act))

    def call_in(self, seconds: float, act: Callable[[], None]) -> None:
        self.call_at(self.t + seconds, act)

    def run_until(self, end: float) -> None:
        """Let everything happen that is due up to `end`."""
        while True:
            loop_at, process, sender = self._next_loop()
            at = min(self._heap[0][0] if self._heap else end + 1, loop_at)
            if at > end:
                self.t = max(self.t, end)
                return
            self.t = max(self.t, at)
            if loop_at <= at and sender is not None:
                self._run_sender(process, sender)
            else:
                heapq.heappop(self._heap)[2]()

    def _next_loop(self) -> tuple[float, Process | None, Any]:
        best: tuple[float, Process | None, Any] = (float("inf"), None, None)
        for process in self.processes:
            for sender in process.senders:
                next_at = sender.loop.next_at()
                if next_at is not None:
                    at = max(next_at - 1_000.0, process.frozen_until)
                    if at < best[0]:
                        best = (at, process, sender)
        return best

    def _run_sender(self, process: Process, sender: Any) -> None:
        before, self.current = self.current, process
        try:
            sender.loop.run_due()
        finally:
            self.current = before
        if sender.has_results and process.wakes_at > self.t + 0.2:
            # A worker's next tick comes in 0.15 s. Where it comes later, it does more at once.
            self._wake_at(process, min(process.wakes_at, self.t + self.dice.choice([0.02, 0.15, 1.5, 4.0])))

    # --- Processes ---

    def start(
        self, name: str, kind: str, run: Callable[[], Any], *, host: Host, delay: float = 0.0
    ) -> Process:
        """Start a process. Whatever it raises, besides what its caller expects, ends the storm."""
        process = Process(name, kind, host, self.dice.getrandbits(60))

        def body() -> None:
            try:
                run()
            except Killed:
                pass
            finally:
                process.is_finished = True
                for sender in process.senders:
                    sender.loop.discard()
                process.senders.clear()
                self.processes.remove(process)

        process.run = greenlet(body, parent=self.hub)
        self.processes.append(process)
        self._wake_at(process, self.t + delay)
        return process

    def _wake_at(self, process: Process, at: float) -> None:
        process.turn += 1
        turn = process.turn
        process.wakes_at = max(at, process.frozen_until)
        self.call_at(process.wakes_at, lambda: self._resume(process, turn))

    def _resume(self, process: Process, turn: int) -> None:
        if process.is_finished or turn != process.turn:
            return
        self._switch(process)

    def _switch(self, process: Process, *error: type[BaseException]) -> None:
        assert getcurrent() is self.hub
        self.current = process
        # All processes share one connection here, and each has its own in the world.
        database = connections[DEFAULT_DB_ALIAS]
        database.is_brief, database.put_off_statements = process.is_brief, process.put_off_statements
        try:
            process.run.throw(*error) if error else process.run.switch()
        finally:
            self.current = None
            process.is_brief, process.put_off_statements = database.is_brief, database.put_off_statements
            database.is_brief, database.put_off_statements = False, []
        self.after_commit()

    def sleep(self, seconds: float) -> None:
        """Let others run, and continue after this many seconds."""
        process = self.current
        if process is None or getcurrent() is self.hub:
            # The storm's own code: nobody waits for it.
            return
        if process.is_dead:
            raise Killed
        wish = process.about.get("sleep")
        # Time passes, however short the sleep: clocks that differ by rounding must not stop the world.
        self._wake_at(process, self.t + max(1e-4, wish(seconds) if wish else seconds))
        self.hub.switch()
        if process.is_dead:
            raise Killed

    def kill(self, process: Process) -> None:
        """End a process where it is. It does nothing more, not even what it would do at its end."""
        if process.is_finished or process.is_dead:
            return
        process.is_dead = self.had_faults = True
        for sender in process.senders:
            sender.loop.discard()
        if process is self.current:
            raise Killed
        if not process.run:
            # It hasn't begun.
            process.is_finished = True
            self.processes.remove(process)
            return
        self._switch(process, Killed)

    def end(self) -> None:
        """End every process that is left, so that nothing of this world outlives it."""
        self.after_commit = lambda: None
        for process in list(self.processes):
            self.kill(process)

    def freeze(self, process: Process, seconds: float) -> None:
        """Stop a process for a while, its sender too."""
        self.had_faults = process.had_faults = True
        process.frozen_until = self.t + seconds
        if process is not self.current and not process.is_finished:
            self._wake_at(process, max(process.wakes_at, process.frozen_until))

    # --- The database, as a process meets it ---

    def _execute(self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        self.statements += 1
        process = self.current
        if "django_q_ormq" in sql and not sql.startswith(("SELECT", "DELETE")):
            self.has_new_jobs = True
        if process is None or is_of_transaction(sql):
            return execute(sql, params, many, context)
        if process.is_dead:
            raise Killed
        self.t += self.latency
        if process.fails_in is not None:
            process.fails_in -= 1
            if process.fails_in <= 0:
                process.fails_in = None
                self.had_faults = process.had_faults = True
                self.note(f"{process.name}: a statement fails")
                raise InjectedError("injected")
        if process.dies_in is not None:
            process.dies_in -= 1
            if process.dies_in <= 0:
                if process.kind == "worker" and connection.in_atomic_block:
                    reached("a worker died inside a transaction")
                self.note(f"{process.name}: dies at a statement")
                self.kill(process)
        if not (connection.in_atomic_block or self._is_committing):
            # Before the statement: the rows of one that writes and returns must not stay unread meanwhile.
            self._preempt(0.03)
        return execute(sql, params, many, context)

    def _committed(self) -> None:
        """Called inside the ending of a transaction, when it is committed."""
        process = self.current
        if process is None:
            return
        process.committed_at = self.t
        if process.dies_after_commits is not None:
            process.dies_after_commits -= 1
            if process.dies_after_commits <= 0:
                if process.kind == "worker":
                    reached("a worker died after a commit")
                self.note(f"{process.name}: dies after a commit")
                self.kill(process)
        if process.unacknowledged_in is not None:
            process.unacknowledged_in -= 1
            if process.unacknowledged_in <= 0:
                process.unacknowledged_in = None
                self.had_faults = process.had_faults = True
                reached("a commit was not acknowledged")
                self.note(f"{process.name}: a commit isn't acknowledged")
                raise InjectedError("injected: the connection was lost at the commit")

    def _preempt(self, chance: float) -> None:
        """Between two transactions of a process, others may have their turn."""
        process = self.current
        if process is None or "preemption" not in self.faults or getcurrent() is self.hub or process.is_dead:
            return
        if self.dice.random() < chance:
            self._wake_at(process, self.t + self.dice.choice([0.001, 0.05, 0.4, 2.5]))
            self.hub.switch()
            if process.is_dead:
                raise Killed

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Let statements and commits of this process's connection pass through the world."""
        commit, leave = connection.commit, Atomic.__exit__
        # All processes share it: one that closes its own must not take it from the others.
        connection.close = lambda: setattr(connection, "put_off_statements", [])

        def commit_and_tell() -> None:
            self._is_committing = True
            try:
                commit()
            finally:
                self._is_committing = False
            self._committed()

        def leave_and_yield(atomic: Atomic, *error: Any) -> Any:
            result = leave(atomic, *error)
            if error[0] is None and not connection.in_atomic_block:
                self._preempt(0.05)
            return result

        connection.commit = commit_and_tell
        Atomic.__exit__ = leave_and_yield
        connection.execute_wrappers.append(self._execute)
        try:
            yield
        finally:
            connection.execute_wrappers.remove(self._execute)
            Atomic.__exit__ = leave
            del connection.commit, connection.close

    # --- Senders ---

    def sender_starts(self, sender: Any) -> None:
        assert self.current is not None
        self.current.senders.append(sender)

    def sender_ends(self, sender: Any) -> None:
        for process in self.processes:
            if sender in process.senders:
                process.senders.remove(sender)
        sender.loop.discard()

    def note(self, text: str) -> None:
        """A line of the run's trace, by which two runs of a seed are compared."""
        self.trace.append(f"{self.t:.6f} {text}")
