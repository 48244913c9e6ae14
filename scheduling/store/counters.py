"""The counters of new rows, all zero: columns and values of an INSERT, the same for both databases."""

from scheduling.models import Status

_BY_STATUS = tuple(status.counter for status in Status)
_OF_BUCKET = ("filled_count", *_BY_STATUS, "moved_count", "started_count", "next_ordinal", "cursor")
_OF_TASK_BUCKET = (*_BY_STATUS, "moved_count")

BUCKET_COLUMNS, BUCKET_ZEROS = ", ".join(_OF_BUCKET), ", ".join("0" for _ in _OF_BUCKET)
TASK_BUCKET_COLUMNS = ", ".join(_OF_TASK_BUCKET)
TASK_BUCKET_ZEROS = ", ".join("0" for _ in _OF_TASK_BUCKET)
ADD_WAITING = (
    f"ON CONFLICT (task_id, bucket_id) DO UPDATE SET {Status.WAITING.counter} ="
    f" scheduling_taskbucket.{Status.WAITING.counter} + excluded.{Status.WAITING.counter}"
)


def task_bucket_waiting(count: str) -> str:
    """The values of a new row in which only `count` (SQL) wait."""
    return ", ".join(count if column == Status.WAITING.counter else "0" for column in _OF_TASK_BUCKET)
