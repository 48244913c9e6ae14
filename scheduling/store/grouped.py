"""Changes of several threads of one process, committed together.

SQLite has one writer. Where many threads wait for it, most of the time goes into handing the gate from one to the
next, each of which must first be given the processor. So whoever waits at the head makes the changes of all that wait
behind it, one after the other, in one transaction: each with its own result or its own error, and what fails leaves
nothing behind.
"""

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection, transaction

from scheduling import store

# Others wait at the gate for this long, as for any short transaction.
GROUP_SECONDS = 0.02

Result = TypeVar("Result")


class _Waiting:
    """A change that waits for its turn. Its thread sleeps until the change is made, or until the thread leads."""

    def __init__(self, change: Callable[[], Any], is_there: Callable[[Any], bool]) -> None:
        self.change, self.is_there = change, is_there
        # The context of the thread's request goes with its change.
        self.context = contextvars.copy_context()
        self.turn = threading.Event()
        self.is_done = self.is_alone = False
        self.result: Any = None
        self.error: BaseException | None = None

    def make(self) -> None:
        self.result = self.context.run(self.change)

    def end(self, error: BaseException | None = None) -> None:
        self.error, self.is_done = error, True


_lock = threading.Lock()
_waiting: deque[_Waiting] = deque()
_is_led = False


def write_together(change: Callable[[], Result], is_there: Callable[[Result], bool]) -> Result:
    """Make a change as `store.write_and_recognise` does, on SQLite together with those of threads that wait too.

    change: may be called in another thread, and a second time after what it did was rolled back.
    """
    global _is_led
    # PostgreSQL's writers wait for a row at most, and its locks have an order.
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return store.write_and_recognise(change, is_there)
    own = _Waiting(change, is_there)
    with _lock:
        _waiting.append(own)
        leads, _is_led = not _is_led, True
    if not leads:
        own.turn.wait()
    if not own.is_done and not own.is_alone:
        _lead()
    if own.is_alone:
        return store.write_and_recognise(change, is_there)
    if own.error is not None:
        raise own.error
    result: Result = own.result
    return result


def _lead() -> None:
    """Make the changes of those that wait, beginning with the thread's own; then let the next one lead."""
    with _lock:
        group = [_waiting.popleft()]
    try:
        _commit(group)
    finally:
        for change in group:
            # What was rolled back with others is made again by itself: then its errors are its own.
            change.is_alone = not change.is_done
            change.turn.set()
        _hand_over()


def _commit(group: list[_Waiting]) -> None:
    """Make the first change and those that wait behind it in the queue. Those whose outcome is known are done."""
    is_complete = False
    try:
        with store.write():
            began = time.monotonic()
            # Alone as a rule, and then it needs no savepoint: if it fails, so does the transaction.
            group[0].make()
            while time.monotonic() - began < GROUP_SECONDS and (change := _next()) is not None:
                group.append(change)
                _make(change)
            is_complete = True
    except Exception as error:
        is_unanswered = is_complete and isinstance(error, (OperationalError, InterfaceError))
        for change in group:
            if is_unanswered and change.error is None:
                change.end(None if store.was_committed(change.is_there, change.result) else error)
            elif is_unanswered or len(group) == 1:
                change.end(change.error or error)
    else:
        for change in group:
            change.end(change.error)


def _next() -> _Waiting | None:
    with _lock:
        return _waiting.popleft() if _waiting else None


def _make(change: _Waiting) -> None:
    try:
        with transaction.atomic():
            change.make()
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        change.error = error


def _hand_over() -> None:
    global _is_led
    with _lock:
        _is_led = bool(_waiting)
        if _waiting:
            _waiting[0].turn.set()
