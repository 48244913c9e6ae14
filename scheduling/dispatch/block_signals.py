"""A target that asks to wait is blocked at once, in every minute worker of this host.

The database tells all workers of a block too, but each only with its next look. In between, requests would start that
the target has just asked not to get. A small file that the processes share in memory is looked at before each start.
"""

import mmap
import os
import struct
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from django.conf import settings

# By then, all workers have read the block from the database.
SIGNAL_SECONDS = 2.0
SLOTS = 1_024
# A target's hash, and until when it is blocked, in seconds of a clock that the processes of a host share.
_SLOT = struct.Struct("<Qd")
SIZE = SLOTS * _SLOT.size

_of_process: tuple[int, "BlockSignals"] | None = None


class BlockSignals:
    """Which targets are blocked for the next moment. Two targets with the same slot overwrite each other."""

    def __init__(
        self, memory: bytearray | mmap.mmap, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._memory, self._monotonic = memory, monotonic

    def block(self, origin: str, seconds: float) -> None:
        """Block a target. A block that lasts longer than SIGNAL_SECONDS is read from the database."""
        until = self._monotonic() + min(seconds, SIGNAL_SECONDS)
        hashed = _hash(origin)
        _SLOT.pack_into(self._memory, _offset(hashed), hashed, until)

    def is_blocked(self, origin: str) -> bool:
        hashed = _hash(origin)
        stored_hash, until = _SLOT.unpack_from(self._memory, _offset(hashed))
        now = self._monotonic()
        # A time that is further ahead was left by an earlier start of this machine.
        return bool(stored_hash == hashed and now < until <= now + SIGNAL_SECONDS)


def of_this_host() -> BlockSignals:
    """Return the signals that all processes of this installation on this host share."""
    global _of_process
    if _of_process is None or _of_process[0] != os.getpid():
        _of_process = os.getpid(), BlockSignals(_shared_memory(Path(settings.DATA_DIR) / "blocked-targets"))
    return _of_process[1]


def _shared_memory(path: Path) -> bytearray | mmap.mmap:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(file).st_size < SIZE:
                os.ftruncate(file, SIZE)
            return mmap.mmap(file, SIZE)
        finally:
            os.close(file)
    except OSError:
        # Other workers learn of a block from the database.
        return bytearray(SIZE)


_hashes: dict[str, int] = {}


def _hash(origin: str) -> int:
    if origin not in _hashes:
        if len(_hashes) >= SLOTS:
            _hashes.clear()
        _hashes[origin] = int.from_bytes(blake2b(origin.encode(), digest_size=8).digest(), "little")
    return _hashes[origin]


def _offset(hashed: int) -> int:
    return hashed % SLOTS * _SLOT.size
