"""States that a run must have reached to prove anything about them.

Each is noted where it is seen. A run names those that were never reached, and fails if there are any.
"""

from collections import Counter

REACHED: Counter[str] = Counter()

EXPECTED = frozenset({
    # What happens to a minute worker.
    "a worker died between ticks",
    "a worker died inside a transaction",
    "a worker died after a commit",
    "a worker froze",
    "a worker lost a lease and woke up",
    "a worker came late to its minute",
    "a worker was stopped in its minute",
    "a lease was taken over",
    "a minute had two workers",
    "a minute ended while its worker slept",
    "a minute without a worker was found",
    # The database and the clocks.
    "a tick failed at a statement",
    "an operator's call failed at a statement",
    "a job failed at a statement",
    "a commit was not acknowledged",
    "a host's clock was stepped during a minute",
    "a host's clock was too far off to send",
    # Jobs.
    "a job was lost",
    "a job ran twice",
    "a job ran late",
    "a job died and came back",
    "a quarter-hour was processed late",
    # Requests.
    "a request succeeded",
    "a request failed and was retried",
    "a request failed for good",
    "a request was still open when its minute ended",
    "a target was blocked by Retry-After",
    "a circuit breaker opened",
    "a probe closed a circuit breaker",
    "a probe failed",
    "a request answered by a redirect",
    "a request could not be made at all",
    "a queue had no token",
    "a kept connection was closed instead of a response",
    "a possible repeat was named",
    "a named repeat was a real one",
    # What operators do.
    "a list was placed above rpm",
    "a list was carried over to another window",
    "a list was refused",
    "a repeated submission got the same answer",
    "a cancel met requests in flight",
    "a cancel met a list that was being written",
    "a request of a cancelled list was not made",
    "a request of a cancelled list was to be made again",
    "an edit met requests in flight",
    "an edit met a list that was being written",
    "an edit met a sealed minute",
    "an edit brought an ID back",
    "an edit met a list in two windows",
    "a pause met a running minute",
    "a hold met requests in flight",
    "a canary passed",
    "a canary failed",
    "a brake held back a running minute",
    "hours, a ramp or a quota were changed",
    "a target's budget was changed",
    "a queue went to another target",
    "a queue with hours passed over a closed minute",
    "a ramp grew",
    "a quota was used up",
    "a lower rpm moved planned IDs",
    "failed IDs were retried by an operator",
    "succeeded IDs were sent again by an operator",
    "a bulk operation was continued by a job",
    # Outcomes.
    "an ID was late and got another minute",
    "an ID was written late",
    "a retry found its next minute full",
    "an ID expired",
    "an ID was cancelled",
    "a window was totalled",
    "a window was totalled after late IDs had left it",
    "the plan was checked by jobs",
})  # fmt: skip


def reached(name: str) -> None:
    """Note that a state was reached. Raises KeyError for a name that is not in the table."""
    if name not in EXPECTED:
        raise KeyError(name)
    REACHED[name] += 1


def never_reached() -> list[str]:
    return sorted(EXPECTED - REACHED.keys())
