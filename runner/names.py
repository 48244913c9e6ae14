"""The names of processes, as `ps` and `top` show them. Standard library only."""

from contextlib import suppress
from pathlib import Path


def name_process(name: str) -> None:
    """Name this process, where the system allows it: 15 characters at most."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15])
