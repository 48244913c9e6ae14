"""Signals that other apps may listen to."""

from django.dispatch import Signal

# Sent inside the transaction that changes an operator or a token, so that a listener's entry in the activity
# log is committed or rolled back with it. by: Actor, act: str (a verb in the past tense), target: the row,
# at: datetime, details: dict, and, where something is changed, before: dict.
action_taken = Signal()
