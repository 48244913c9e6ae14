from datetime import UTC, datetime, timedelta

from scheduling.core.clock_watch import JUMP, SETTLED_AFTER_SECONDS, ClockWatch

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Steps:
    """A watch, and a clock that jumps."""

    def __init__(self):
        self.seconds = 0.0
        self.watch = ClockWatch(lambda: self.seconds)

    def after(self, seconds, jumped=timedelta()):
        self.seconds += seconds
        return self.watch.is_steady(NOON + timedelta(seconds=self.seconds) + jumped)


def test_steady_clock_is_trusted_after_any_pause():
    steps = Steps()
    assert steps.after(0)
    assert steps.after(86_400)
    assert steps.after(1, JUMP / 2)


def test_clock_that_jumps_by_an_hour_is_not_trusted_until_it_is_back():
    steps = Steps()
    steps.after(0)
    assert not steps.after(1, HOUR)
    assert not steps.after(90, HOUR)
    assert steps.after(1)
    assert not steps.after(1, -HOUR)


def test_clock_that_stays_jumped_is_trusted_again():
    steps = Steps()
    steps.after(0)
    assert not steps.after(1, HOUR)
    assert not steps.after(SETTLED_AFTER_SECONDS - 1, HOUR)
    assert steps.after(1, HOUR)
    assert not steps.after(1)
