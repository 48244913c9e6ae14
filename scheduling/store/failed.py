"""The failed rows of some buckets, as a part of a statement: each step looks into an index, whatever the plan.

On SQLite into an index of what failed, on PostgreSQL into that of all rows of these buckets: see models.Assignment.
"""

from django.db import connection

from scheduling.core import keys
from scheduling.models import Status

_FAILED = f"s.status = {int(Status.FAILED)} AND {keys.sql_in_bucket('s.id', 'b.id')}"
_LAST = "a.task_id = s.task_id AND a.user_id = s.user_id AND a.number = s.attempts AND NOT a.unknown"


def rows_of_buckets() -> str:
    """What joins the buckets `b` with their failed rows `s`, and those with their last requests `a`.

    The columns of `a` are null where no request was made, or nobody knows what became of it.
    """
    if connection.vendor == "sqlite":
        # CROSS: in this order. INDEXED BY: or else SQLite makes an index of its own, of all rows by status.
        return (
            f" CROSS JOIN scheduling_assignment s INDEXED BY assignment_failed ON {_FAILED} {last_requests()}"
        )
    # OFFSET 0: PostgreSQL can't tell how few buckets there are and how few rows a bucket has, and would read
    # all requests there ever were into a table of its own.
    return (
        f" CROSS JOIN LATERAL (SELECT * FROM scheduling_assignment s WHERE {_FAILED} OFFSET 0) s"
        f" LEFT JOIN LATERAL (SELECT * FROM scheduling_attempt a WHERE {_LAST} OFFSET 0) a ON TRUE"
    )


def last_requests() -> str:
    """What joins rows `s`, a few, with their last requests `a`."""
    return f"LEFT JOIN scheduling_attempt a ON {_LAST}"
