"""What the target's record shows, held against what is promised."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

# A host starts nothing later than this after its last commit.
UNCOMMITTED_SECONDS = 0.5
# The target may note a request a little late.
JITTER_SECONDS = 0.1
# What an event causes may come this much later than its end.
AFTERMATH_SECONDS = 5


class Start(NamedTuple):
    """A request as the target saw it. at: in seconds since 1970, by the one clock of this machine."""

    at: float
    host: str
    user_id: int


class Cut(NamedTuple):
    """A host that couldn't reach the database for a while. last_commit: of a tick of its minute workers."""

    host: str
    began: float
    ended: float
    last_commit: float


class Span(NamedTuple):
    """An event. pause: how long nobody may send meanwhile; None where nothing is promised."""

    name: str
    began: float
    ended: float
    pause: float | None


def read_record(path: Path, addresses: Mapping[str, str]) -> list[Start]:
    """Return the starts that the target wrote down, in the order of their times."""
    hosts = {address: host for host, address in addresses.items()}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted(Start(at, hosts[address], user_id) for at, address, user_id in rows)


def sending_host(path: Path, addresses: Mapping[str, str], since: float) -> str:
    """Return the host that has sent most since a time; an empty name where none has."""
    counts = Counter(start.host for start in read_record(path, addresses) if start.at > since)
    return counts.most_common(1)[0][0] if counts else ""


def check_pace(record: Sequence[Start], rpm: int) -> list[str]:
    first, most = 0, 0
    for number, start in enumerate(record):
        while record[first].at <= start.at - 60 + JITTER_SECONDS:
            first += 1
        most = max(most, number - first + 1)
    print(f"{len(record):,} requests, at most {most} in any 60 s.")
    return [f"{most} requests within 60 s, where {rpm + 1} are allowed"] if most > rpm + 1 else []


def check_cuts(record: Sequence[Start], cuts: Sequence[Cut]) -> list[str]:
    violations = []
    for cut in cuts:
        starts = [start.at for start in record if start.host == cut.host and start.at < cut.ended]
        if not cut.last_commit:
            # No tick in its log: it had no minute just then.
            print(f"Host {cut.host} committed nothing in the seconds before it was cut off.")
            continue
        after = max(starts, default=0.0) - cut.last_commit
        print(
            f"Host {cut.host}: last commit {cut.last_commit - cut.began:+.2f} s after the cut,"
            f" last start {after:+.2f} s after that commit."
        )
        if after > UNCOMMITTED_SECONDS:
            late = sum(at > cut.last_commit + UNCOMMITTED_SECONDS for at in starts)
            violations.append(
                f"host {cut.host} started {late} requests up to {after:.2f} s after its last commit,"
                f" where {UNCOMMITTED_SECONDS} s are allowed"
            )
    return violations


def check_pauses(record: Sequence[Start], spans: Sequence[Span]) -> list[str]:
    violations = []
    for span in spans:
        times = [start.at for start in record if span.began - 1 < start.at < span.ended + AFTERMATH_SECONDS]
        pause = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
        print(f"Nobody sent for {pause:.1f} s: {span.name}.")
        if span.pause is not None and pause > span.pause:
            violations.append(f"nobody sent for {pause:.1f} s, where {span.pause} s are allowed: {span.name}")
    return violations


def check_repeats(record: Sequence[Start], named: set[int]) -> list[str]:
    """named: the IDs that are named as possible repeats, and those whose failed requests were made again."""
    counts = Counter(start.user_id for start in record)
    repeats = {user_id for user_id, count in counts.items() if count > 1}
    print(f"{len(repeats)} IDs were sent twice, {len(named)} are named.")
    unnamed = sorted(repeats - named)
    return [f"{len(unnamed)} IDs were sent twice and aren't named: {unnamed[:10]}"] if unnamed else []


def check_minutes(record: Sequence[Start], first_minute: float, least: Mapping[int, float]) -> list[str]:
    """least: by the minute's number, how many requests it needs."""
    counts = Counter(int((start.at - first_minute) // 60) for start in record)
    print("By minute:", ", ".join(str(counts[number]) for number in range(max(counts, default=-1) + 1)))
    return [
        f"{counts[number]} requests in minute {number}, where {few:.0f} are the least"
        for number, few in least.items()
        if counts[number] < few
    ]
