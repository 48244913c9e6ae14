"""Leave out of a failing scenario what the failure doesn't need."""

from .scenario import Scenario, scenario
from .storm import play


def shrink(failing: Scenario, error: BaseException) -> Scenario:
    """Return the smallest scenario found that fails in the same way: fewer faults, fewer actions."""
    kind, smallest = _kind(error), failing
    for name in sorted(failing.faults):
        smallest = _without(smallest, kind, frozenset({name}), frozenset())
    for action in reversed(failing.actions):
        smallest = _without(smallest, kind, frozenset(), frozenset({action.number}))
    return smallest


def _without(before: Scenario, kind: str, faults: frozenset[str], actions: frozenset[int]) -> Scenario:
    smaller = scenario(before.seed, without=before.without | faults, skipped=before.skipped | actions)
    _, error = play(smaller)
    return smaller if error is not None and _kind(error) == kind else before


def _kind(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:12]}"
