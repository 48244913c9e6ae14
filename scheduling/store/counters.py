"""The counters of new rows, all zero: columns and values of an INSERT, the same for both databases."""

from scheduling.models import Status

_BY_STATUS = tuple(status.counter for status in Status)
_OF_BUCKET = ("filled_count", *_BY_STATUS, "moved_count", "started_count", "next_ordinal", "cursor")
_OF_TASK_BUCKET = (*_BY_STATUS, "moved_count")

BUCKET_COLUMNS, BUCKET_ZEROS = ", ".join(_OF_BUCKET), ", ".join("0" for _ in _OF_BUCKET)
TASK_BUCKET_COLUMNS = ", ".join(_OF_TASK_BUCKET)
TASK_BUCKET_ZEROS = ", ".join("0" for _ in _OF_TASK_BUCKET)
