"""What others may listen to."""

from django.dispatch import Signal

# Sent inside the transaction of an act on an operator or a token, so that a listener's line in the activity
# log stands or falls with it. by: Actor, act: str (a word in the past tense), target: the row, at: datetime,
# details: dict, and, where something is changed, before: dict.
acted = Signal()
