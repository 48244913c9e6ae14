"""Checks of single IDs: each has one row, in the place that the rules gave it or to which its moves lead."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from django.db.models import F, Sum

from scheduling import models
from scheduling.core import keys
from scheduling.core.batches import batches
from scheduling.lists import stored_lists
from scheduling.models import MoveReason, ReservationKind

from .base import Cursor, Difference, Piece, retained_since

IDS_AT_A_TIME = stored_lists.CHUNK_IDS
LINES_AT_A_TIME = 200

# The bucket it left, the bucket it reached, and the reason.
Moved = tuple[int, int, str]


def piece(cursor: Cursor, at: datetime) -> Piece:
    """Check the next IDs, line by line of the log. cursor: a line, and how many of its IDs have been checked."""
    differences: list[Difference] = []
    (key, position), looked_at = cursor, 0
    lines = _lines(key - 1 if position else key)
    for line in lines:
        start = position if line.pk == key else 0
        if keys.starts_at_of_window(line.window_id) >= retained_since(at):
            count = min(line.ids_count - start, IDS_AT_A_TIME - looked_at)
            differences += _of_line(line, start, count)
            looked_at += count
            if start + count < line.ids_count:
                return _piece(differences, (line.pk, start + count), looked_at)
        if looked_at >= IDS_AT_A_TIME:
            return _piece(differences, (line.pk, 0), looked_at)
    return _piece(differences, (lines[-1].pk, 0) if len(lines) == LINES_AT_A_TIME else None, looked_at)


def _piece(differences: list[Difference], cursor: Cursor | None, looked_at: int) -> Piece:
    return Piece(differences, cursor, looked_at, {"ID": looked_at})


def _lines(cursor: int) -> list[models.Reservation]:
    lines = models.Reservation.objects.filter(kind=ReservationKind.RESERVE, pk__gt=cursor)
    return list(lines.order_by("pk")[:LINES_AT_A_TIME])


def _of_line(line: models.Reservation, start: int, count: int) -> Iterator[Difference]:
    """Check `count` IDs of a line's reservation, from its `start`-th on."""
    task_id, list_id = line.task_id, line.list_id
    of = f"task {task_id}, window {line.window_id}, line {line.version}"
    if task_id is None or list_id is None:
        yield Difference("a reservation has its list", of, 1, 0)
        return
    users = stored_lists.ids_of(list_id, line.first_position + start, count)
    if count < line.ids_count:
        of += f", IDs {start + 1} to {start + count}"
    if len(users) != count:
        yield Difference("a place has its ID", of, count, len(users))
    buckets = keys.buckets_of_window(line.window_id)
    planned = {user: buckets[k] for user, k in zip(users, line.places(start), strict=False)}
    rows = _rows(task_id, sorted(planned))
    without = len(planned) - len(rows)
    if without and without > _unwritten(task_id):
        yield Difference("every ID has its row", of, len(planned), len(rows))
    row_count = sum(map(len, rows.values()))
    if row_count != len(rows):
        yield Difference("no ID is twice", of, row_count, len(rows))
    yield from _explained(of, task_id, planned, rows)


def _rows(task_id: int, users: Sequence[int]) -> dict[int, list[int]]:
    """Return the buckets of the IDs of a task that have a row."""
    result: dict[int, list[int]] = defaultdict(list)
    for batch in batches(users):
        assignments = models.Assignment.objects.filter(task_id=task_id, user_id__in=batch)
        for user, key in assignments.values_list("user_id", "pk"):
            result[user].append(keys.bucket_of_assignment(key))
    return result


def _unwritten(task_id: int) -> int:
    segments = models.Segment.objects.unwritten().filter(task_id=task_id)
    return segments.aggregate(n=Sum(F("ids_count") - F("written_count")))["n"] or 0


def _explained(
    of: str, task_id: int, planned: dict[int, int], rows: dict[int, list[int]]
) -> Iterator[Difference]:
    moves = _moves(task_id, sorted(rows))
    wrong = [
        user for user, buckets in rows.items() if not _leads(planned[user], buckets[0], moves.get(user, ()))
    ]
    if wrong:
        of = f"{of}, such as ID {min(wrong)}"
        yield Difference("every place is explained", of, len(rows), len(rows) - len(wrong))


def _leads(planned: int, is_in: int, moves: Sequence[Moved]) -> bool:
    """Whether an ID that a line gave a place came to where it is."""
    if not moves:
        return planned == is_in
    follow_each_other = all(first[1] == second[0] for first, second in pairwise(moves))
    # The place of a line is left by a move; that of an edit's is where the edit brought the ID back to.
    starting_points = {from_bucket for from_bucket, _, _ in moves} | {
        to for _, to, why in moves if why == MoveReason.EDIT
    }
    return follow_each_other and moves[-1][1] == is_in and planned in starting_points


def _moves(task_id: int, users: Sequence[int]) -> dict[int, list[Moved]]:
    task_moves = models.Move.objects.filter(task_id=task_id)
    # Most tasks have none, which one query shows.
    if not task_moves.exists():
        return {}
    result: dict[int, list[Moved]] = defaultdict(list)
    for batch in batches(users):
        moves = task_moves.filter(user_id__in=batch).order_by("pk")
        for user, from_bucket, to_bucket, reason in moves.values_list(
            "user_id", "from_bucket_id", "to_bucket_id", "reason"
        ):
            result[user].append((from_bucket, to_bucket, reason))
    return result
