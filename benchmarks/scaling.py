"""What an installation carries, simulated from measured costs: `python -m benchmarks.scaling [--seats N] ...`.

A minute's workers tick every 150 ms. A tick locks the minute's buckets, claims what is due and records results, so the
workers' ticks go one after the other; a worker's own requests cost it CPU time in between. Which of the two runs out
first is what the simulation finds. It needs no database, and takes a second.
"""

import argparse
import heapq
import sys
from dataclasses import dataclass, replace

TICK_SECONDS = 0.15
# A worker claims this far ahead at most, so that what it can't claim in time is late.
AHEAD_SECONDS = 1.0
MINUTE_SECONDS = 60.0


@dataclass(frozen=True)
class Costs:
    """Seconds, as measured on two cores of 2026 with PostgreSQL 15: see docs/scaling.md."""

    # PostgreSQL's time for a tick, and for each ID that is claimed and gets its result.
    tick: float = 1.2e-3
    database_per_id: float = 14.3e-6
    # CPU time of a minute worker for each request of a signed webhook.
    worker_per_request: float = 163e-6
    # To the database and back: a tick holds its locks for two of its three round trips.
    round_trip: float = 0.3e-3


@dataclass(frozen=True)
class Carried:
    """What became of a minute. late: IDs that nobody claimed before the minute's end."""

    planned: int
    sent: int
    database_busy: float
    workers_busy: float

    @property
    def first_limit(self) -> str:
        """Which of the two runs out first, and what to add."""
        if self.workers_busy > self.database_busy:
            return "CPU of the minute workers: more SEATS, on more cores"
        return "ticks go one after the other: a nearer database, or fewer SEATS"


def serve(rpm: int, seats: int, costs: Costs) -> Carried:
    """Let workers serve a minute of webhooks at a rate."""
    rate, claimed, sent = rpm / MINUTE_SECONDS, 0.0, 0
    lock_free_at = lock_busy = work = 0.0
    # When each worker ticks next.
    due = [(seat * TICK_SECONDS / seats, seat) for seat in range(seats)]
    while due:
        at, seat = heapq.heappop(due)
        began = max(at, lock_free_at)
        if began >= MINUTE_SECONDS:
            continue
        # What a worker has claimed it also has to send before its next tick.
        due_count = min(rate * (began + AHEAD_SECONDS), rate * MINUTE_SECONDS) - claimed
        count = int(max(0.0, min(due_count, TICK_SECONDS * 4 / costs.worker_per_request)))
        held = costs.tick + count * costs.database_per_id + 2 * costs.round_trip
        lock_free_at, claimed, sent = began + held, claimed + count, sent + count
        lock_busy += held
        busy = count * costs.worker_per_request
        work += busy
        heapq.heappush(due, (max(at + TICK_SECONDS, lock_free_at + costs.round_trip + busy), seat))
    return Carried(rpm, sent, lock_busy / MINUTE_SECONDS, work / MINUTE_SECONDS / seats)


def most(seats: int, costs: Costs) -> int:
    """Return the highest rpm of which 99 % is sent in its minute."""
    low, high = 0, 20_000_000
    while high - low > 1_000:
        rpm = (low + high) // 2
        low, high = (rpm, high) if serve(rpm, seats, costs).sent >= 0.99 * rpm else (low, rpm)
    return low


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--seats", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="SEATS")
    parser.add_argument("--rpm", type=int, help="a rate to look at, beside the highest one")
    parser.add_argument("--round-trip-ms", type=float, nargs="+", default=[0.3, 5, 20, 60])
    parser.add_argument("--request-us", type=float, default=Costs.worker_per_request * 1e6)
    options = parser.parse_args(arguments)
    print(f"{'SEATS':>5} {'round trip':>10} {'highest rpm':>12}  limit beyond it")
    for seats in options.seats:
        for round_trip_ms in options.round_trip_ms:
            costs = replace(
                Costs(), round_trip=round_trip_ms / 1e3, worker_per_request=options.request_us / 1e6
            )
            highest = most(seats, costs)
            limit = serve(highest + highest // 10, seats, costs).first_limit
            print(f"{seats:>5} {round_trip_ms:>7g} ms {highest:>12,}  {limit}")
            if options.rpm:
                result = serve(options.rpm, seats, costs)
                print(
                    f"{'':16} at {options.rpm:,}: {result.sent:,} sent in their minute, ticks hold the locks"
                    f" {result.database_busy:.0%} of the time, workers are busy {result.workers_busy:.0%}"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
