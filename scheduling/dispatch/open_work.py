"""What a minute worker has begun: the batches that it owns, and results that aren't in the database yet."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from scheduling.core import keys
from scheduling.dispatch.messages import Claim, Result, Retry


class OpenWork:
    """A worker's batches, and the results and retries that a committed tick has still to record."""

    def __init__(self) -> None:
        # How many IDs of each batch have no recorded result yet.
        self.batches: dict[int, int] = {}
        self.results: list[Result] = []
        self.retries: list[Retry] = []

    def __bool__(self) -> bool:
        return bool(self.batches or self.results or self.retries)

    @property
    def open_batches(self) -> list[int]:
        return [batch_id for batch_id, count in self.batches.items() if count > 0]

    @property
    def finished_batches(self) -> list[int]:
        """Batches whose IDs all have a recorded result: the next tick deletes them."""
        return [batch_id for batch_id, count in self.batches.items() if count <= 0]

    def add(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            self.batches[claim.batch_id] = self.batches.get(claim.batch_id, 0) + 1

    def settle(self, claims: Iterable[Claim]) -> None:
        """Note that the results of these claims are recorded."""
        for claim in claims:
            if claim.batch_id in self.batches:
                self.batches[claim.batch_id] -= 1

    def forget(self, batch_ids: Iterable[int]) -> None:
        """Drop batches that are deleted, or that another worker owns now."""
        for batch_id in batch_ids:
            self.batches.pop(batch_id, None)

    def retries_by_queue(self) -> dict[int, Sequence[Retry]]:
        """Return the retries of each queue, in the order in which they came in."""
        by_queue: dict[int, list[Retry]] = defaultdict(list)
        for retry in self.retries:
            by_queue[keys.queue_of_bucket(retry.claim.bucket_id)].append(retry)
        return dict(by_queue)
