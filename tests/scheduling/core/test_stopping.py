"""The error budget of a list."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core import stopping


@pytest.mark.parametrize(
    ("succeeded", "failed", "percent", "least", "is_over"),
    [
        (196, 4, 2, 200, False),
        (199, 5, 2, 200, True),
        (0, 199, 2, 200, False),
        (0, 0, 0, 1, False),
        (0, 1, 0, 1, True),
        (1, 0, 0, 1, False),
        (0, 1, 99.5, 1, True),
        (0, 1, None, 1, False),
    ],
)
def test_budget_is_exceeded_by_more_than_its_percentage_of_enough_ids(
    succeeded, failed, percent, least, is_over
):
    result = stopping.is_over_budget(
        succeeded=succeeded, failed=failed, max_failed_percent=percent, min_finished=least
    )
    assert result == is_over


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 99), st.integers(1, 10**6))
def test_budget_is_the_exact_share(succeeded, failed, percent, least):
    finished = succeeded + failed
    expected = finished >= least and Fraction(failed, finished) > Fraction(percent, 100)
    assert expected == stopping.is_over_budget(
        succeeded=succeeded, failed=failed, max_failed_percent=percent, min_finished=least
    )
