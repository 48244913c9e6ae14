"""Limits that several packages share."""

from datetime import timedelta

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
# Between a host's clock and the database's: from the first on it is reported, past the second nothing is sent.
CLOCK_OFFSET_REPORTED = timedelta(milliseconds=250)
CLOCK_OFFSET_ALLOWED = timedelta(seconds=2)
