"""How many requests a client may send, and who is known: in memory, for each web process on its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass

# Clients that are remembered; past that the ones that came longest ago are forgotten.
REMEMBERED = 20_000


@dataclass
class Bucket:
    tokens: float
    filled_at: float


class Rates:
    """At most `per_second` requests a second for each key, and `burst` at once. 0: no limit."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self.burst = burst
        self.clock = clock
        self.buckets: dict[str, Bucket] = {}

    def wait(self, key: str) -> float:
        """Count a request. Returns 0, or after how many seconds one would be accepted."""
        if not self.per_second:
            return 0.0
        now = self.clock()
        # Taken out and put back at the end, so that the order is that of the last requests.
        bucket = self.buckets.pop(key, None) or Bucket(self.burst, now)
        if len(self.buckets) >= REMEMBERED:
            del self.buckets[next(iter(self.buckets))]
        self.buckets[key] = bucket
        bucket.tokens = min(self.burst, bucket.tokens + (now - bucket.filled_at) * self.per_second)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self.per_second
        bucket.tokens -= 1
        return 0.0


class Known:
    """Clients whose token or session was valid when it was used last: anybody can make up another one."""

    def __init__(self) -> None:
        self.clients: dict[str, None] = {}

    def __contains__(self, client: str) -> bool:
        return client in self.clients

    def add(self, client: str) -> None:
        self.forget(client)
        if len(self.clients) >= REMEMBERED:
            self.forget(next(iter(self.clients)))
        self.clients[client] = None

    def forget(self, client: str) -> None:
        self.clients.pop(client, None)
