"""Jobs while the clock has jumped."""

from datetime import timedelta

import pytest
from django_q.models import OrmQ

from scheduling import jobs, models, store
from scheduling.core import clock
from scheduling.core.clock_watch import SETTLED_AFTER_SECONDS, ClockWatch
from scheduling.dispatch import minute_worker, recovery
from scheduling.jobqueue import minute_jobs
from tests.scheduling.placed import counted, make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def world(monkeypatch):
    """The database's clock and the seconds since the machine's start, as a test sets them."""

    class World:
        seconds, jumped = 0.0, timedelta()

        def now(self):
            return MINUTE + timedelta(seconds=self.seconds) + self.jumped

    world = World()
    monkeypatch.setattr(store, "now", world.now)
    monkeypatch.setattr(jobs, "_clock_watch", ClockWatch(lambda: world.seconds))
    monkeypatch.setattr(minute_worker, "DECLINED_SECONDS", 0)
    return world


def test_clock_jump_of_an_hour_moves_no_id_an_hour_away(world):
    queue = make_queue(rpm=60)
    place(queue, {MINUTE + n * clock.MINUTE: range(100 * n, 100 * n + 60) for n in range(15)}, at=BEFORE)
    places = set(models.Assignment.objects.values_list("pk", flat=True))
    jobs.look_around()
    world.jumped = HOUR
    for _ in range(6):
        world.seconds += 15
        jobs.look_around()
        jobs.place_late()
        jobs.process_quarter()
        jobs.seat(clock.minute_number(MINUTE), 0)
    assert set(models.Assignment.objects.values_list("pk", flat=True)) == places
    assert counted() == {"waiting": 900}
    # Of each worker that was called too early another one is queued for the right time.
    seats = [job for job in OrmQ.objects.all() if job.task["func"] == "scheduling.jobs.seat"]
    assert {job.lock for job in seats} == {MINUTE - minute_jobs.WORKER_AHEAD}
    world.jumped = timedelta()
    world.seconds += 60
    jobs.place_late()
    late = models.Move.objects.count()
    assert late == 120, "the two minutes that passed meanwhile"
    assert (
        max(row.minute_at for row in models.Assignment.objects.all())
        < MINUTE + clock.QUARTER + 3 * clock.MINUTE
    )


def test_clock_that_stays_jumped_is_followed_after_a_while(world):
    place(make_queue(rpm=60), {MINUTE: [1]}, at=BEFORE)
    jobs.place_late()
    world.jumped = HOUR
    jobs.place_late()
    assert not models.Move.objects.exists()
    world.seconds += SETTLED_AFTER_SECONDS
    jobs.place_late()
    assert models.Move.objects.count() == 1


def test_lease_taken_an_hour_ahead_ends():
    queue = make_queue(rpm=60, handler="webhook", webhook_url="https://hook.test/")
    place(queue, {MINUTE: [1]}, at=BEFORE)
    SimulatedWorker(queue).tick(0)
    models.Batch.objects.update(lease_until=MINUTE + HOUR)
    assert recovery.recover(lambda: MINUTE + timedelta(seconds=1)) == 1
    assert counted() == {"waiting": 1}
