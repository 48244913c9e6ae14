"""How far away the database is, and how far off the clock: the best of some answers counts."""

from datetime import timedelta

import pytest

from scheduling.jobqueue import host_watch
from scheduling.jobqueue.host_watch import HostWatch, Reading

MS = timedelta(milliseconds=1)


class Watched:
    def __init__(self, *readings: Reading) -> None:
        self.readings, self.seconds, self.read_count = list(readings), 0.0, 0
        self.watch = HostWatch(self._read, lambda: self.seconds)

    def _read(self) -> Reading:
        self.read_count += 1
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]

    def after(self, seconds: float) -> Reading:
        self.seconds += seconds
        return self.watch.look()


def test_database_is_asked_once_a_second():
    watched = Watched(Reading(MS, MS))
    for _ in range(13):
        watched.after(0.25)
    # At first three.
    assert watched.read_count == 6


def test_slow_answers_of_a_busy_host_do_not_make_it_far():
    watched = Watched(
        Reading(MS, 400 * MS), Reading(MS, 2 * MS), Reading(MS, 300 * MS), Reading(MS, 500 * MS)
    )
    for _ in range(9):
        assert watched.after(1).round_trip == 2 * MS


def test_host_is_far_when_every_answer_takes_long():
    watched = Watched(Reading(MS, 2 * MS), Reading(MS, 80 * MS))
    assert [host_watch.is_far(watched.after(1).round_trip) for _ in range(10)] == [False] * 8 + [True] * 2


@pytest.mark.parametrize("offset", [3, -3, 3_600])
def test_clock_that_was_set_is_known_with_the_next_answer(offset):
    watched = Watched(*[Reading(MS, MS)] * 3, Reading(timedelta(seconds=offset), 40 * MS))
    assert not host_watch.is_off(watched.after(1).offset)
    assert host_watch.is_off(watched.after(1).offset)
