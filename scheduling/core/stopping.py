"""When a list stops automatically: its error budget, and its canary.

Pure: standard library only. Source: docs/lists.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

# The largest canary: a larger one is no sample any more, and each of its IDs takes a row.
MOST_CANARY_IDS = 10_000


def is_over_budget(
    *, succeeded: int, failed: int, max_failed_percent: float | None, min_finished: int
) -> bool:
    """Whether more than `max_failed_percent` of the IDs that have finished have failed.

    succeeded, failed: how many have, since the list began or was last continued. Fewer than `min_finished` say nothing.
    max_failed_percent: None is no budget.
    """
    finished = succeeded + failed
    if max_failed_percent is None or finished < max(1, min_finished):
        return False
    return failed * 100 > max_failed_percent * finished


def budget_reason(*, succeeded: int, failed: int, max_failed_percent: float) -> str:
    """Why a list is over its budget, as the log and its page say it."""
    return (
        f"{failed:,} of {succeeded + failed:,} finished IDs have failed, more than {max_failed_percent:g} %"
    )


@dataclass(frozen=True)
class Canary:
    """The first `ids` IDs of a list run alone; the others continue once this percentage of them has succeeded."""

    ids: int
    min_succeeded_percent: float

    @classmethod
    def read(cls, form: object) -> "Canary":
        """Read `{"ids": 100, "min_succeeded_percent": 98}`. ValueError, as a sentence, for anything else."""
        names = {"ids", "min_succeeded_percent"}
        if not isinstance(form, Mapping) or set(form) != names:
            raise ValueError("It must be an object with ids and min_succeeded_percent.")
        return cls.of(form["ids"], form["min_succeeded_percent"])

    @classmethod
    def of(cls, ids: Any, percent: Any) -> "Canary":
        """Check both values. ValueError, as a sentence."""
        if type(ids) is not int or not 1 <= ids <= MOST_CANARY_IDS:
            raise ValueError(f"ids must be a whole number from 1 to {MOST_CANARY_IDS:,}.")
        if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 < percent <= 100:
            raise ValueError("min_succeeded_percent must be a number above 0, up to 100.")
        return cls(ids, float(percent))


def needed(count: int, percent: float) -> int:
    """Return the smallest number of IDs that is at least this percentage of `count`: exactly, in the given decimals."""
    return math.ceil(Fraction(str(percent)) * count / 100)


def canary_passed(*, count: int, succeeded: int, lost: int, percent: float) -> bool | None:
    """Return whether a canary has passed; None as long as both ends are possible.

    count: its IDs, without the cancelled ones. lost: how many of them have failed for good or expired. A canary
    without any IDs left has not passed.
    """
    least = needed(count, percent)
    if count and succeeded >= least:
        return True
    return None if count and count - lost >= least else False


def progress(succeeded: int, count: int, least: int) -> str:
    """Return how far a canary is, as pages, the API and the log say it."""
    return f"{succeeded:,} of {count:,} succeeded, {least:,} needed"
