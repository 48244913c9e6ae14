"""The minute since which IDs are late: the first one in which they were planned, however often they moved."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from django.db.models import Q

from scheduling import models
from scheduling.core.batches import batches
from scheduling.models import MoveReason

# Moves that make an ID late. A retry or a change of rpm gives it a new minute in which it is on time.
MADE_LATE = frozenset(MoveReason.what_made_late())
IDS_PER_QUERY = 1_000


def late_since(task_ids: Collection[int], users: Collection[int]) -> dict[tuple[int, int], int]:
    """Return the original buckets of late IDs that have moved, by (task, ID)."""
    by_id: dict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
    for batch in batches(list(users), IDS_PER_QUERY):
        moves = models.Move.objects.filter(task_id__in=task_ids, user_id__in=batch).order_by("pk")
        columns = ("task_id", "user_id", "from_bucket_id", "reason")
        for task_id, user, from_bucket, reason in moves.values_list(*columns):
            by_id[task_id, user].append((from_bucket, reason))
    since = {key: late_since_by_moves(moves_of_id) for key, moves_of_id in by_id.items()}
    return {key: bucket for key, bucket in since.items() if bucket is not None}


def late_since_by_moves(moves: Iterable[tuple[int, str]]) -> int | None:
    """Return the original bucket of a late ID from its moves (from bucket, reason), or None if it isn't late."""
    since: int | None = None
    for from_bucket, reason in moves:
        if reason not in MADE_LATE:
            since = None
        elif since is None:
            since = from_bucket
    return since


def keep_late_since(moved: Iterable[tuple[int, int, int, Sequence[int]]]) -> None:
    """Keep in each bucket that late IDs move into since when the longest late of them is late.

    moved: the task, the buckets that its IDs leave and reach, and the IDs, whose moves aren't stored yet. The caller
    holds the rows of the buckets.
    """
    moved = list(moved)
    former_buckets = {from_bucket for _, from_bucket, _, _ in moved}
    late_before = models.Bucket.objects.filter(pk__in=former_buckets, late_since_bucket_id__isnull=False)
    postponed = set(late_before.values_list("pk", flat=True))
    # A queue's buckets are ordered by time, so the smaller one is the earlier one.
    first: dict[int, int] = {}
    for task_id, from_bucket, to_bucket, users in moved:
        # Other IDs of the same bucket may have been late for longer.
        late_buckets = late_since([task_id], users) if from_bucket in postponed else {}
        since = min([from_bucket, *late_buckets.values()])
        first[to_bucket] = min(since, first.get(to_bucket, since))
    reached: dict[int, list[int]] = defaultdict(list)
    for to_bucket, since in first.items():
        reached[since].append(to_bucket)
    for since, to_buckets in sorted(reached.items()):
        later = Q(late_since_bucket_id=None) | Q(late_since_bucket_id__gt=since)
        models.Bucket.objects.filter(later, pk__in=to_buckets).update(late_since_bucket_id=since)
