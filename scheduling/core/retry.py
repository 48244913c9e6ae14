"""What a response means: done, to be retried and when, or failed; and when a target is blocked.

Pure: times, randomness and thresholds come in as arguments. Times are aware, UTC.
Source: docs/queue-fields.md, RFC 9110 10.2.3 for Retry-After.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

# What the guard against internal addresses says. It is no network error: the same address stays forbidden.
ADDRESS_NOT_ALLOWED = "address not allowed"

REDIRECTS = frozenset({301, 302, 303, 307, 308})
# The target refuses every caller, or has moved: that says nothing about the ID, and one wrong key would use up a
# whole list.
REFUSED_TO_ANYONE = frozenset({401, 403, 407}) | REDIRECTS
# Beyond 5xx: the target asks for another time (408, 425) or for less (429).
RETRIED = frozenset({408, 425, 429}) | REFUSED_TO_ANYONE
ASKING_TO_WAIT = frozenset({429, 503})

JITTER_SECONDS = 10
# Before the second attempt, the third, ...; the last one repeats.
RETRY_DELAYS_MINUTES = (1, 2, 4, 8, 16, 32)
LONGEST_WAIT_SECONDS = 3_600.0
PROBE_INTERVAL = timedelta(seconds=30)

_SECONDS = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
# No date is longer than this, so a longer value isn't parsed.
_LONGEST_DATE = 60


class Verdict(StrEnum):
    """What becomes of an ID by the outcome of one attempt, before `max_attempts` is looked at."""

    SUCCEEDED = "succeeded"
    RETRY = "retry"
    FAILED = "failed"


def verdict(status: int | None, error: str | None) -> Verdict:
    """Return what the outcome of one attempt means.

    status: of the HTTP response; None when there was none. error: what went wrong, or None. A status decides alone:
    a 2xx whose body was cut, or undecodable, was a success. Without one every error is retried but
    ADDRESS_NOT_ALLOWED. Raises ValueError when there is neither.
    """
    if status is None:
        if error is None:
            raise ValueError("an outcome has a status or an error")
        return Verdict.FAILED if error.startswith(ADDRESS_NOT_ALLOWED) else Verdict.RETRY
    if 200 <= status <= 299:
        return Verdict.SUCCEEDED
    # 1xx as the last response, and all other 3xx and 4xx, would be the same again.
    return Verdict.RETRY if status in RETRIED or 500 <= status <= 599 else Verdict.FAILED


def due_at(
    failed_at: datetime,
    *,
    attempts: int,
    random: float,
    not_before: datetime | None = None,
    delays: Sequence[int] = RETRY_DELAYS_MINUTES,
) -> datetime:
    """Return when an ID is due again after a failure that is retried.

    That is its delay after `failed_at`, and up to JITTER_SECONDS more, so that what failed together doesn't come
    back together. It is placed in a minute that begins after that.

    attempts: requests made for it so far, >= 1. random: 0 <= random < 1. not_before: until when the target is
    blocked, if it is: an ID isn't due before. delays: minutes before the second attempt, the third, ...; the last
    one repeats. ValueError for other numbers.
    """
    if attempts < 1 or not 0 <= random < 1:
        raise ValueError(f"attempts must be >= 1 and random 0 to 1, not {attempts} and {random}")
    minutes = delays[min(attempts, len(delays)) - 1]
    due = failed_at + timedelta(minutes=minutes, seconds=random * JITTER_SECONDS)
    return due if not_before is None else max(due, not_before)


def retry_after_seconds(status: int | None, value: str | None, *, at: datetime) -> float | None:
    """Return for how many seconds the response asks callers to wait: 0 to 3,600, or None where it doesn't.

    status: only 429 and 503 can ask. value: the Retry-After header, seconds or an HTTP date in any of its
    three forms; nonsense counts as absent, what is past as 0. at: when the response came.
    """
    if status not in ASKING_TO_WAIT or value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        # float, since int() refuses more than 4,300 digits; a number that long becomes infinity, and then an hour.
        return min(max(0.0, float(text)), LONGEST_WAIT_SECONDS)
    until = _http_date(text)
    if until is None:
        return None
    return min(max(0.0, (until - at).total_seconds()), LONGEST_WAIT_SECONDS)


def _http_date(text: str) -> datetime | None:
    if len(text) > _LONGEST_DATE:
        return None
    try:
        until = parsedate_to_datetime(text)
        # The form of C's asctime() names no zone; RFC 9110 says that it is UTC.
        return until.replace(tzinfo=UTC) if until.tzinfo is None else until.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Breaker:
    """A target's circuit breaker: open while requests are blocked because too many failed in a row.

    failures_in_row: of those that are retried, since the last success. opened_at: since when
    it is open; None: closed, requests go by the plan. probe_at: when the last probe was let out, while open,
    or when it started, once that is known.

    While it is open at most one probe goes out each PROBE_INTERVAL, the first that long after the opening;
    its success closes the breaker. By then all requests that were on their way have been answered or given
    up (a connection and an answer may take 25 s together), so none of them counts against a target that came
    back.
    """

    failures_in_row: int = 0
    opened_at: datetime | None = None
    probe_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests are blocked."""
        return self.opened_at is not None

    @property
    def next_probe_at(self) -> datetime | None:
        """From when on the next probe may go out; None while closed."""
        last = self.probe_at or self.opened_at
        return None if last is None else last + PROBE_INTERVAL

    def may_probe(self, at: datetime) -> bool:
        """Whether one probe may be sent at `at`. The sender first stores what `probing` returns."""
        return self.next_probe_at is not None and at >= self.next_probe_at

    def probing(self, at: datetime) -> "Breaker":
        """Return the breaker once a probe is let out at `at`. Raises ValueError when none may."""
        if not self.may_probe(at):
            raise ValueError(f"no probe may go out at {at.isoformat()}")
        return replace(self, probe_at=at)

    def on_success(self, started_at: datetime) -> "Breaker":
        """Return the breaker after a success of a request that started at `started_at`.

        While open only a probe's success counts: an answer to an older request says how the target was.
        """
        return self if self.is_open and not self._is_probe(started_at) else Breaker()

    def on_failure(self, started_at: datetime, *, at: datetime, threshold: int | None) -> "Breaker":
        """Return the breaker after a failure that counts, of a request that started at `started_at`.

        at: when the outcome is looked at; a breaker that opens is open from then on. threshold: how many in a
        row open it, >= 1; None: nothing does. While open an older request's failure changes nothing, and a
        probe's says when that started: the next one goes out PROBE_INTERVAL after it.
        """
        if self.is_open:
            return self._probed(started_at)
        failures = self.failures_in_row + 1
        if threshold is None or failures < threshold:
            return Breaker(failures)
        return Breaker(failures, opened_at=max(at, started_at))

    def after(
        self, verdict: Verdict, *, started_at: datetime, at: datetime, threshold: int | None
    ) -> "Breaker":
        """Return the breaker after an outcome, by its verdict: a queue may have rules of its own for statuses.

        Other arguments as for on_success and on_failure. A failure that is the ID's own (404, say) changes
        nothing: it neither ends a row nor belongs to it.
        """
        if verdict is Verdict.SUCCEEDED:
            return self.on_success(started_at)
        if verdict is Verdict.RETRY:
            return self.on_failure(started_at, at=at, threshold=threshold)
        return self._probed(started_at)

    def _probed(self, started_at: datetime) -> "Breaker":
        """The next probe goes out PROBE_INTERVAL after the last one's start: a slot or so after it was let out."""
        if self.probe_at is None or not self._is_probe(started_at):
            return self
        return replace(self, probe_at=max(self.probe_at, started_at))

    def _is_probe(self, started_at: datetime) -> bool:
        # Not compared with probe_at: that may be another host's clock, a little ahead of the sender's, and a
        # probe that isn't known as one would leave the breaker open for good.
        return self.probe_at is not None and self.opened_at is not None and started_at > self.opened_at
