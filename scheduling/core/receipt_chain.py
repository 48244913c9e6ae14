"""The chain of receipts and the file that carries it: what is hashed, and what the starts add up to.

docs/receipts.md states the same for those who check a file without us.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from typing import Any

# What the first receipt of a queue is chained to.
GENESIS = "0" * 64
FORMAT = "quarterdeck receipts 1"
# What a line of a file has beside the content that its hash is made of.
BESIDE_CONTENT = ("hash", "starts")
WITHIN_MS = 60_000


def canonical(value: Any) -> bytes:
    """Return JSON with sorted keys, without spaces, in ASCII: the same bytes for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_starts(milliseconds: Mapping[int, int]) -> str:
    """Return times as text, each as its distance from the one before. milliseconds: time to how many starts."""
    times = [time for time in sorted(milliseconds) for _ in range(milliseconds[time])]
    return ",".join(str(after - before) for before, after in pairwise([0, *times]))


def read_starts(text: str) -> Iterator[int]:
    """Yield the times that write_starts has written, ascending."""
    return accumulate(map(int, text.split(","))) if text else iter(())


def content(
    *, queue: str, sequence: int, previous: str, runs_from: str, receipt: Mapping[str, Any], starts: str
) -> dict[str, Any]:
    """Return what the hash of a receipt is made of.

    sequence: from 1 on, without a gap. previous: the hash of the receipt before it.
    """
    return {
        "queue": queue,
        "sequence": sequence,
        "previous": previous,
        "runs_from": runs_from,
        "receipt": receipt,
        "starts_sha256": digest(starts.encode()),
    }


class Busiest:
    """The largest number of starts in any 60 seconds, `[t, t + 60 s)`, of times that come in ascending order."""

    def __init__(self) -> None:
        self.most = self.count = self.inside = 0
        self._recent: deque[tuple[int, int]] = deque()

    def add(self, time: int, count: int = 1) -> None:
        """Add starts at a time, in milliseconds."""
        self._recent.append((time, count))
        self.inside += count
        while self._recent[0][0] <= time - WITHIN_MS:
            self.inside -= self._recent.popleft()[1]
        self.count += count
        self.most = max(self.most, self.inside)


class Broken(Exception):
    """A file that does not hold: the sentence says which line, and why."""


class Follower:
    """Checks the receipts of a file one by one: each against its own hash and against the receipt before it."""

    def __init__(self) -> None:
        self._heads: dict[str, tuple[int, str]] = {}

    def check(self, line: Mapping[str, Any]) -> None:
        """Check the next receipt of the file. Raises Broken."""
        own = {name: value for name, value in line.items() if name not in BESIDE_CONTENT}
        name = f"Receipt {line['sequence']} of the queue {line['queue']}, which ran from {line['runs_from']},"
        if digest(line["starts"].encode()) != line["starts_sha256"]:
            raise Broken(f"{name} has other starts than those that it was made with.")
        if digest(canonical(own)) != line["hash"]:
            raise Broken(f"{name} was changed: its content does not lead to its hash.")
        before = self._heads.get(line["queue"])
        if before is not None and (line["sequence"], line["previous"]) != (before[0] + 1, before[1]):
            raise Broken(f"{name} does not follow receipt {before[0]}, the one before it in the file.")
        self._heads[line["queue"]] = (line["sequence"], line["hash"])


def sentence(facts: Mapping[str, Any]) -> str:
    """Return the statement of a file in words. facts: its other fields."""
    words = (
        f"At most {facts['most_in_60_seconds']:,} requests started in any 60 seconds between {facts['since']} and "
        f"{facts['until']}, of the queues {', '.join(facts['queues'])} together."
    )
    if facts["without_receipt"]:
        words += f" Not included are {len(facts['without_receipt']):,} quarter-hours that have no receipt."
    if facts["requests_without_time"]:
        words += f" Not included are {facts['requests_without_time']:,} requests whose time is not stored any more."
    if facts["possible_repeats"]:
        words += (
            f" {facts['possible_repeats']:,} further requests may have been made without a recorded result."
        )
    return words
