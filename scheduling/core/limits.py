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
# How long after a pause or a hold the last of its requests can start: claims reach a second ahead.
STOPPED_WITHIN = timedelta(seconds=1, milliseconds=UNCOMMITTED_MS)
# The difference between a host's clock and the database's: above the first it is reported, above the second the host
# sends nothing.
CLOCK_OFFSET_REPORTED = timedelta(milliseconds=250)
CLOCK_OFFSET_ALLOWED = timedelta(seconds=2)
# A round trip to the database: from the first on it is reported, above the second the host serves no minutes.
ROUND_TRIP_REPORTED = timedelta(milliseconds=30)
ROUND_TRIP_ALLOWED = timedelta(milliseconds=60)
# If no worker of a minute has been seen for this long, nobody serves it, and another worker is queued. Workers report
# twice a second.
MINUTE_SILENT = timedelta(seconds=1, milliseconds=200)
# How long such a worker may take to start. If none has started by then, none will.
MINUTE_CALLED = timedelta(seconds=4)
# How long a segment of a list belongs to the worker that was told of it, and then to the one that writes it.
SEGMENT_LEASE = timedelta(seconds=15)
# The same for an operation on many rows: far longer than a slice takes. A job that was queued to continue the operation
# has just as long to start.
BULK_LEASE = timedelta(seconds=20)

# How many lists that are being written are searched for an ID, newest first; a million IDs take milliseconds.
LISTS_SEARCHED = 20

# The longest reason that somebody can give for a hold, a pause or a brake.
REASON_CHARACTERS = 200

# IDs named in one statement: every SQLite takes 32,766 parameters.
IDS_PER_QUERY = 5_000
# IDs that are sorted together before their rows are looked up, so that rows that are close in the index are read
# together: about 20 MB.
SORTED_IDS = 250_000
# The beginning of a response that distinguishes kinds of failures; the rest is often a number or a time.
MESSAGE_CHARACTERS = 120

# A list that should start later is refused: a few months after this, the keys of windows run out.
LATEST_START = datetime(2089, 1, 1, tzinfo=UTC)

# A cluster whose last heartbeat is older than this has stopped: it sends one every few seconds. The run of a
# quarter-hour may begin 30 s late, and takes some time.
SILENT_AFTER = timedelta(seconds=60)
QUARTER_LATE = timedelta(seconds=90)
