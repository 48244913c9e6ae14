"""Limits that several packages share."""

from datetime import UTC, datetime, timedelta

# A webhook call is given up after this, whatever its queue allows: a minute worker waits only a little longer.
WEBHOOK_SECONDS = 25.0
# How much is kept of a response's body, and of an error.
ANSWER_CHARACTERS = 500
ERROR_CHARACTERS = 200

# How long a minute worker owns what it has claimed after its last committed tick. Every tick renews the lease.
LEASE = timedelta(seconds=15)
# A minute worker starts nothing that lies further than this after its last committed tick, so no more than
# these starts can be unrecorded when it dies.
UNCOMMITTED_MS = 500
# Nothing of what is paused or on hold starts later than this after it: claims reach a second ahead.
STOPPED_WITHIN = timedelta(seconds=1, milliseconds=UNCOMMITTED_MS)
# Between a host's clock and the database's: from the first on it is reported, past the second nothing is sent.
CLOCK_OFFSET_REPORTED = timedelta(milliseconds=250)
CLOCK_OFFSET_ALLOWED = timedelta(seconds=2)
# A question to the database and its answer: from the first on it is reported, past the second a host takes no minute.
ROUND_TRIP_REPORTED = timedelta(milliseconds=30)
ROUND_TRIP_ALLOWED = timedelta(milliseconds=60)
# How long a segment of a list counts as looked after: by who was told of it, then by who writes it.
SEGMENT_LEASE = timedelta(seconds=15)
# The same for an operation on many rows: far longer than a slice takes. A job that was queued to continue has as
# long to arrive.
BULK_LEASE = timedelta(seconds=20)

# IDs named in one statement: every SQLite takes 32,766 parameters.
IDS_PER_QUERY = 5_000
# IDs that are sorted together before their rows are looked up, so that neighbours in the index are met together:
# some 20 MB.
SORTED_IDS = 250_000
# So much of a response tells one kind of failure from another; the rest is often a number or a time.
MESSAGE_CHARACTERS = 120

# A list that is to wait longer is refused: some months later the keys of windows end.
LATEST_START = datetime(2089, 1, 1, tzinfo=UTC)

# Older than this a cluster has stopped: its signs come every few seconds. A quarter-hour's run comes up to 30 s
# late, and then has some work.
SILENT_AFTER = timedelta(seconds=60)
QUARTER_LATE = timedelta(seconds=90)
