"""Limits that several packages share."""

# A webhook call is given up after this, whatever its queue allows: a minute worker waits only a little longer.
WEBHOOK_SECONDS = 25.0
# How much is kept of a response's body, and of an error.
ANSWER_CHARACTERS = 500
ERROR_CHARACTERS = 200
