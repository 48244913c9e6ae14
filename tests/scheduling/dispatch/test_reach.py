"""A host that can't connect to a target leaves its requests to the others, and is named."""

from datetime import timedelta

import pytest
from django_q.models import OrmQ

from scheduling import jobs, models
from scheduling.core.retry import Verdict
from scheduling.handlers.base import Outcome
from scheduling.jobqueue import host_watch
from scheduling.reports import health
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import counted, make_queue, place
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db

HOOK = "https://hook.test/in"
REFUSED = Outcome(
    Verdict.RETRY, error="could not connect: 10.0.0.1 port 443: No route to host", unreached=True
)


@pytest.fixture
def time():
    simulated = SimulatedTime(MINUTE - timedelta(seconds=3))
    yield simulated
    simulated.loop.close()


@pytest.fixture
def queue():
    queue = make_queue(rpm=60, handler="webhook", webhook_url=HOOK, max_attempts=3, breaker_threshold=3)
    place(queue, {MINUTE: range(1, 51)}, at=BEFORE)
    return queue


def alive(*hosts: str) -> None:
    for number, host in enumerate(hosts):
        models.Heartbeat.objects.create(
            owner=number,
            cluster="minutes",
            host=host,
            pid=1,
            started_at=BEFORE,
            seen_at=MINUTE + timedelta(seconds=30),
        )


class Host:
    def __init__(self, time: SimulatedTime, name: str, owner: int, *, reaches: bool) -> None:
        self.handler = SimulatedHandler(*(() if reaches else (lambda request: REFUSED,)))
        self.worker = time.worker(MINUTE, owner=owner, make_handler=lambda queue: self.handler)
        self.worker.view.reach.host = name
        self.due: float | None = -2.0


def serve(time: SimulatedTime, *hosts: Host) -> None:
    while open_hosts := [host for host in hosts if host.due is not None]:
        following = min(open_hosts, key=lambda host: host.due)
        time.sleep(max(0.0, following.due - following.worker.clock.elapsed()))
        following.due = following.worker.tick()


def test_target_that_one_host_cannot_reach_is_served_by_the_other(time, queue):
    alive("a", "b")
    bad, good = Host(time, "a", 1, reaches=False), Host(time, "b", 2, reaches=True)
    serve(time, bad, good)
    assert counted() == {"succeeded": 50}
    assert sorted(request.user_id for request in good.handler.requests) == list(range(1, 51))
    # Some went to it before it knew, and one or two to see whether it still doesn't.
    assert 0 < len(bad.handler.requests) < 10
    assert {request.attempt for request in good.handler.requests} == {1}
    assert not models.Target.objects.filter(opened_at__isnull=False).exists()
    mark = models.Unreachable.objects.get()
    assert (mark.origin, mark.host, mark.error) == ("https://hook.test:443", "a", REFUSED.error)
    at = MINUTE + timedelta(minutes=1)
    sentence = "a can't connect to https://hook.test:443: other hosts send its requests."
    assert sentence in health.assess(at).problems
    check_counters()


def test_host_that_is_alone_with_a_target_asks_another_one_to_serve_the_minute(time, queue, monkeypatch):
    alive("a", "b")
    serve(time, Host(time, "a", 1, reaches=False))
    assert counted()["waiting"] == 50
    calls = [job.task["args"] for job in OrmQ.objects.all() if job.task["func"] == "scheduling.jobs.seat"]
    assert [args[2] for args in calls] == ["a"]
    monkeypatch.setattr(host_watch, "host_name", lambda: "a")
    monkeypatch.setattr("scheduling.dispatch.minute_worker.DECLINED_SECONDS", 0)
    before = OrmQ.objects.count()
    monkeypatch.setattr("scheduling.store.now", lambda: MINUTE)
    jobs.seat(*calls[0])
    assert OrmQ.objects.count() == before + 1


@pytest.mark.parametrize("hosts", [("a",), ("a", "b")])
def test_target_that_no_host_reaches_uses_up_attempts_and_opens_the_breaker(time, queue, hosts):
    alive(*hosts)
    serve(time, *(Host(time, name, number, reaches=False) for number, name in enumerate(hosts, 1)))
    assert models.Attempt.objects.filter(error=REFUSED.error).count() >= 3
    assert models.Target.objects.get().opened_at is not None


def test_host_that_reaches_the_target_again_takes_part(time, queue):
    alive("a", "b")
    models.Unreachable.objects.create(
        origin="https://hook.test:443", host="a", since=BEFORE, seen_at=MINUTE - timedelta(seconds=40)
    )
    host = Host(time, "a", 1, reaches=True)
    serve(time, host)
    assert not models.Unreachable.objects.exists()
    assert counted() == {"succeeded": 50}
