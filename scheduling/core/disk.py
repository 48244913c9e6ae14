"""How much room is left on a disk, and whether that is enough. Standard library only."""

import shutil
from dataclasses import dataclass
from pathlib import Path

# Below this, or below a tenth of a small disk, somebody has to act: the log and temporary files need room too.
LOW_BYTES = 1024**3
LOW_SHARE = 0.1
# What an ID of a list takes on the disk by the time that its rows and their indexes are written, and as much
# again: SQLite's write-ahead log holds them for a while too.
BYTES_PER_ID = 200


@dataclass(frozen=True)
class Volume:
    """The disk that a directory is on. name: the setting that names the directory."""

    name: str
    free_bytes: int
    total_bytes: int

    @property
    def low_bytes(self) -> int:
        return int(min(LOW_BYTES, self.total_bytes * LOW_SHARE))

    @property
    def is_low(self) -> bool:
        return self.free_bytes < self.low_bytes

    def fits(self, ids_count: int) -> bool:
        """Whether the rows of this many IDs fit, with some room to spare."""
        return ids_count * BYTES_PER_ID + self.low_bytes // 4 <= self.free_bytes


def volume(name: str, path: Path) -> Volume:
    usage = shutil.disk_usage(path)
    return Volume(name, usage.free, usage.total)
