"""When a list stops by itself: its error budget.

Pure: standard library only. Source: docs/lists.md.
"""


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
