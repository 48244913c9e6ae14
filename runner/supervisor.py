"""Keeps child processes running, each in a session of its own. Standard library only.

- A child is a fork of this process, so that what is loaded here is shared by all. This process has one thread, and
  must have no connection to the database.
- Only the *main* process of a child is told to stop: a signal to its whole group hangs a django-q2 cluster.
- Once a main process has ended, the rest of its session is killed: the workers of a killed sentinel would
  keep taking jobs unsupervised.
- A second signal changes nothing: make and a group signal both deliver two.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.stop import Stop
from runner.watch import SignWatch, WebWatch

ROUND_SECONDS = 0.25
# After the first signal; what still runs then is killed. Stopping takes less than 30 s in total.
STOP_SECONDS = 20
# A child that keeps failing is restarted with growing pauses, up to this.
SLOWEST_RESTART_SECONDS = 10
# A child that ran this long did not fail at startup.
STARTED_WELL_SECONDS = 30
PR_SET_CHILD_SUBREAPER = 36
# Cheap, and answered by the same threads as pages.
POLLED_PATH = "/static/admin/css/base.css"


@dataclass(frozen=True)
class Program:
    """What a child runs.

    address: where the web server listens that is to be polled, if any. signs: whether it writes heartbeat files.
    """

    name: str
    run: Callable[[], object]
    address: tuple[str, int] | None = None
    signs: bool = False


@dataclass
class Child:
    """A program and its current process. pid: of the main process and its session; 0 if not running."""

    program: Program
    pid: int = 0
    started: float = 0.0
    start_at: float = 0.0
    failures: int = 0
    watch: SignWatch | WebWatch | None = None
    is_being_killed: bool = False


class Supervisor:
    """Runs programs until it is told to stop.

    directory: for the heartbeat files, emptied at the start. locks: descriptors; the keeper shares the last one.
    stop: whether to stop. is_locked: whether the database is locked now. say: prints a message.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        directory: Path,
        locks: Sequence[int],
        stop: Stop,
        is_locked: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self.children = [Child(program) for program in programs]
        self.directory = directory
        self.locks = locks
        self.say = say
        self.stop = stop
        self.is_locked = is_locked
        self.keeper: subprocess.Popen[bytes] | None = None
        self.answered = False

    def run(self, *, when_answering: Callable[[], None]) -> None:
        """Start all programs, and return when all have ended because the runner was told to stop."""
        self._begin()
        last_round = time.monotonic()
        while not self.stop.signal:
            now = time.monotonic()
            if now - last_round > 10 * ROUND_SECONDS + 5:
                # The machine slept, or this process was frozen: no child could write a heartbeat.
                for child in self.children:
                    if child.watch:
                        child.watch.forgive(now)
            last_round = now
            self._reap()
            for child in self.children:
                self._check(child, now)
            self._ensure_keeper()
            if not self.answered and any(
                isinstance(child.watch, WebWatch) and child.watch.answered for child in self.children
            ):
                self.answered = True
                when_answering()
            self._sleep()
        self._end()

    # --- Beginning and end ---

    def _begin(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        for each in (self.directory.parent, self.directory):
            each.mkdir(exist_ok=True, mode=0o700)
        become_subreaper()
        # Interrupts the sleep when a child ends. The handler itself does nothing.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_write, False)
        os.set_blocking(self.wake_read, False)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)

    def _end(self) -> None:
        self.say("Stopping.")
        started = time.monotonic()
        for child in self.children:
            # Long jobs check for this file, and end early.
            with suppress(OSError):
                (self.directory / child.program.name / "stopping").touch()
            if isinstance(child.watch, WebWatch):
                child.watch.end()
            if child.pid:
                signal_quietly(os.kill, child.pid, signal.SIGTERM)
        while any(child.pid for child in self.children):
            self._reap()
            if time.monotonic() - started > STOP_SECONDS:
                for child in self.children:
                    self._kill(child, "did not stop in time and is killed.")
            self._sleep()
        self._end_keeper()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.say(f"Stopped after {time.monotonic() - started:.1f} s.")

    # --- Children ---

    def _check(self, child: Child, now: float) -> None:
        if not child.pid:
            if now >= child.start_at:
                self._start(child)
            return
        complaint = child.watch.complaint(now) if child.watch else ""
        if complaint:
            self._kill(child, f"is stuck ({complaint}) and is replaced.")

    def _start(self, child: Child) -> None:
        program = child.program
        signs = self.directory / program.name
        shutil.rmtree(signs, ignore_errors=True)
        signs.mkdir(mode=0o700)
        environment = {"QUARTERDECK_SIGNS": str(signs)} if program.signs else {}
        child.pid = start(program.run, close=self._descriptors(), **environment)
        child.started = time.monotonic()
        self._tell_keeper(f"+{child.pid}")
        if program.address:
            child.watch = WebWatch(program.address, POLLED_PATH, started=child.started)
        elif program.signs:
            child.watch = SignWatch(signs, started=child.started, is_locked=self.is_locked)

    def _descriptors(self) -> list[int]:
        """What this process has open that is no business of its children."""
        watches = [child.watch.fileno() for child in self.children if isinstance(child.watch, WebWatch)]
        keeper = self.keeper.stdin.fileno() if self.keeper and self.keeper.stdin else -1
        opened = [*self.locks, self.wake_read, self.wake_write, keeper, *watches]
        return [descriptor for descriptor in opened if descriptor >= 0]

    def _reap(self) -> None:
        """Handle every child that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if self.keeper and pid == self.keeper.pid:
                self.keeper = None
            for child in self.children:
                if child.pid == pid:
                    self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: Child, code: int) -> None:
        now = time.monotonic()
        self._kill_session(child.pid)
        self._tell_keeper(f"-{child.pid}")
        if isinstance(child.watch, WebWatch):
            child.watch.end()
        child.failures = 1 if now - child.started > STARTED_WELL_SECONDS else child.failures + 1
        pause = min(0.2 * 2 ** (child.failures - 1), SLOWEST_RESTART_SECONDS)
        child.pid, child.watch, child.start_at, child.is_being_killed = 0, None, now + pause, False
        if not self.stop.signal:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self.say(f"{child.program.name} ended ({how}) and is restarted in {pause:.1f} s.")

    def _kill(self, child: Child, why: str) -> None:
        if child.pid and not child.is_being_killed:
            child.is_being_killed = True
            self.say(f"{child.program.name} {why}")
            self._kill_session(child.pid)

    def _kill_session(self, session: int) -> None:
        signal_quietly(os.killpg, session, signal.SIGKILL)

    # --- The keeper, and waiting ---

    def _tell_keeper(self, line: str) -> None:
        if self.keeper and self.keeper.stdin:
            # If it has just been killed, the next keeper gets the whole list.
            with suppress(OSError):
                self.keeper.stdin.write(f"{line}\n".encode())
                self.keeper.stdin.flush()

    def _ensure_keeper(self) -> None:
        if self.keeper:
            return
        # Not a fork: it must not depend on anything that is loaded here.
        self.keeper = subprocess.Popen(
            [sys.executable, "-S", "-E", str(Path(__file__).with_name("keeper.py"))],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=self.locks[-1:],
        )
        self.keeper.returncode = 0
        for child in self.children:
            if child.pid:
                self._tell_keeper(f"+{child.pid}")

    def _end_keeper(self) -> None:
        if self.keeper and self.keeper.stdin:
            with suppress(OSError):
                self.keeper.stdin.close()
            while self.keeper:
                self._reap()
                time.sleep(0.02)

    def _sleep(self) -> None:
        """Sleep until the next round or a signal."""
        select.select([self.wake_read], [], [], ROUND_SECONDS)
        with suppress(BlockingIOError):
            os.read(self.wake_read, 4096)


def start(run: Callable[[], object], *, close: Iterable[int] = (), **environment: str) -> int:
    """Fork a process that does nothing but `run`, in a session of its own. Returns its number.

    close: descriptors that it must not have. environment: what is added to it.
    """
    stop_signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    # Until the child has set its own handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    try:
        if pid := os.fork():
            return pid
        code = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (*stop_signals, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for descriptor in close:
                os.close(descriptor)
            os.environ.update(environment)
            result = run()
            code = result if isinstance(result, int) else 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            # What is registered for the end of the runner is not for its children.
            os._exit(code)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals)


def become_subreaper() -> None:
    """Adopt orphans of the children, so that none stays a zombie (on other systems than Linux, init does)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_quietly(send: Callable[[int, int], None], target: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        send(target, number)
