"""Real minutes of webhooks on real clusters, counted at the target."""

import os
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import islice

import pytest

from operators.actor import Actor
from scheduling import models, proof, store
from scheduling.core import clock, limits, pacing
from scheduling.models import Status
from scheduling.queues import targets
from scheduling.reports import receipts
from tests.patience import wait_until
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.placed import make_queue, place
from tests.scheduling.target import ReceivedRequest, Target, status

from .clusters import wait_for_clusters
from .test_minutes import arm, coming_minute, over

pytestmark = pytest.mark.django_db(transaction=True)

OPEN = (Status.WAITING, Status.IN_FLIGHT)
SUBMIT_A_MILLION = """
import random, sys, django
django.setup()
from operators.actor import Actor
from scheduling import demo, store
ids = random.sample(range(10**9, 2 * 10**9), 1_000_000)
demo.submit(sys.argv[1], "a long list", ids, by=Actor.command_line(), now=store.now)
"""


@pytest.fixture
def clusters(process_environment, start_cluster):
    """Two clusters of the minutes that may call this machine, and one that places what is late."""
    process_environment["WEBHOOK_ALLOWED_NETWORKS"] = "127.0.0.0/8"
    start_cluster()
    of_minutes = [start_cluster("minutes"), start_cluster("minutes")]
    wait_for_clusters(3)
    return of_minutes


def webhook_queue(target: Target, **fields) -> models.Queue:
    return make_queue(handler="webhook", webhook_url=target.url, **fields)


def settled() -> bool:
    return not models.Assignment.objects.filter(status__in=OPEN).exists()


def most_in_60_seconds(request: list[ReceivedRequest]) -> int:
    return receipts.most_in_60_seconds(Counter(round(item.at * 1000) for item in request))


@pytest.mark.minutes
def test_requests_start_at_their_slots_and_once(clusters):
    with Target() as target:
        queue = webhook_queue(target, rpm=600)
        first = coming_minute()
        second = first + clock.MINUTE
        place(queue, {first: range(1, 601), second: range(601, 901)}, at=store.now())
        arm(first, second)
        wait_until(settled, "all are sent", seconds=over(second) + 70)
        check_counters()
    assert Counter(request.user_id for request in target.requests) == Counter(range(1, 901))
    offsets = sorted(request.at - first.timestamp() for request in target.requests)
    expected = [slot * 0.1 for slot in range(600)] + [60 + slot * 0.2 for slot in range(300)]
    late = [offset - slot for offset, slot in zip(offsets, expected, strict=True)]
    assert min(late) > -0.005
    assert most_in_60_seconds(target.requests) <= pacing.most_starts_in_60_seconds(600)
    # On a machine that is busy with something else some slots pass before a process gets its turn.
    if not os.environ.get("BUSY_MACHINE"):
        assert models.Move.objects.count() == 0, "IDs were late: run this on an idle machine"
        assert late[0] < 0.05
        assert max(late) < 0.1


@pytest.mark.minutes
def test_three_queues_share_the_budget_of_one_target(clusters):
    """Two clusters, as on two hosts; the target counts what it sees in any 60 seconds."""
    rates, budget = {"a": 120, "b": 100, "c": 40}, 120
    # How many IDs each has in the minutes: each full, by other shares, and late IDs of the first one come on top.
    shares = [{"a": 40, "b": 40, "c": 40}, {"a": 100, "b": 10, "c": 10}, {"a": 10, "b": 100}]
    with Target() as target:
        queues = {name: webhook_queue(target, name=name, rpm=rpm) for name, rpm in rates.items()}
        first = coming_minute(ahead_seconds=20)
        minutes = [first + number * clock.MINUTE for number in range(len(shares))]
        for name, queue in queues.items():
            ids = iter(range(1, 1_000))
            placed = {
                minute: list(islice(ids, of_minute[name]))
                for minute, of_minute in zip(minutes, shares, strict=True)
                if name in of_minute
            }
            place(queue, placed, at=store.now())
        targets.create(origin=target.origin, fields={"rpm": budget}, by=Actor.command_line(), now=store.now)
        arm(*minutes)
        wait_until(settled, "all are sent", seconds=over(minutes[-1]) + 130)
        check_counters()
    assert len(target.requests) == sum(sum(of_minute.values()) for of_minute in shares)
    assert most_in_60_seconds(target.requests) <= pacing.most_starts_in_60_seconds(budget)
    assert models.Bucket.objects.filter(target_slots__isnull=False).count() >= 8
    late = models.Move.objects.count()
    assert late <= 4, f"{late} IDs were late: run this on an idle machine"


@pytest.mark.minutes
@pytest.mark.parametrize("seats", [1, 8])
def test_fifty_queues_keep_their_rates_with_any_number_of_workers(
    seats, process_environment, start_cluster, settings
):
    process_environment.update(WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8", SEATS=str(seats))
    settings.SEATS = seats
    start_cluster()
    for _ in range(min(seats, 2)):
        start_cluster("minutes")
    wait_for_clusters(1 + min(seats, 2))
    rates = {"fast": 6_000, "middle": 600} | {f"slow-{n}": 60 for n in range(48)}
    with Target() as target:
        first = coming_minute(ahead_seconds=20)
        second = first + clock.MINUTE
        for name, rpm in rates.items():
            queue = make_queue(name, rpm=rpm, handler="webhook", webhook_url=f"{target.url}/{name}")
            half = rpm // 2
            place(queue, {first: range(1, rpm + 1), second: range(rpm + 1, rpm + half + 1)}, at=store.now())
        arm(first, second)
        wait_until(settled, "all are sent", seconds=over(second) + 130)
        check_counters()
    by_queue = defaultdict(list)
    for request in target.requests:
        by_queue[request.path.rpartition("/")[2]].append(request)
    for name, rpm in rates.items():
        assert Counter(request.user_id for request in by_queue[name]) == Counter(range(1, rpm + rpm // 2 + 1))
        assert most_in_60_seconds(by_queue[name]) <= pacing.most_starts_in_60_seconds(rpm), name
    late = models.Move.objects.count()
    assert late <= 0.01 * 9_480, f"{late} IDs were late: run this on an idle machine"


@pytest.mark.minutes
def test_minutes_stay_punctual_while_a_million_ids_are_written(clusters, process_environment):
    with Target() as target:
        queue = webhook_queue(target, rpm=600)
        first = coming_minute()
        task = place(queue, {first: range(1, 601), first + clock.MINUTE: range(601, 1201)}, at=store.now())
        arm(first, first + clock.MINUTE)
        other = make_queue("other", rpm=100_000)
        wait_until(lambda: target.requests, "the minute runs", seconds=over(first))
        # In a process of its own, as the web's is: this one has to look at the clock for the target.
        subprocess.run(
            [sys.executable, "-c", SUBMIT_A_MILLION, other.name], env=process_environment, check=True
        )
        long = models.Task.objects.get(queue=other)
        wait_until(
            lambda: models.Task.objects.get(pk=long.pk).placed_at,
            "the long list is written",
        )
        written_at = store.now()
        wait_until(
            lambda: not models.Assignment.objects.filter(task=task, status__in=OPEN).exists(),
            "all are sent",
            seconds=over(first) + 190,
        )
    assert written_at < first + 2 * clock.MINUTE, "it was written beside them"
    assert Counter(request.user_id for request in target.requests) == Counter(range(1, 1201))
    assert most_in_60_seconds(target.requests) <= pacing.most_starts_in_60_seconds(600)
    late = models.Move.objects.filter(task_id=task.pk).count()
    assert late <= 12, f"{late} IDs were late: run this on an idle machine"


@pytest.mark.minutes
def test_every_id_gets_through_when_half_of_the_answers_fail(clusters):
    tries: Counter = Counter()

    def answer(request: ReceivedRequest):
        tries[request.user_id] += 1
        return status(503 if tries[request.user_id] == 1 and request.user_id % 2 else 200)

    with Target(answer) as target:
        queue = webhook_queue(target, rpm=60, breaker_threshold=None)
        first = coming_minute()
        place(queue, {first: range(1, 61)}, at=store.now())
        arm(*(first + n * clock.MINUTE for n in range(5)))
        wait_until(settled, "all are through", seconds=over(first) + 240)
        check_counters()
    assert tries == {user: 1 + user % 2 for user in range(1, 61)}
    assert dict(models.Assignment.objects.values_list("user_id", "attempts")) == dict(tries)
    assert most_in_60_seconds(target.requests) <= 61
    assert models.Move.objects.filter(reason="retry").count() == 30
    again = {}
    for request in target.requests:
        again.setdefault(request.user_id, []).append(request)
    for item, two in (seens for seens in again.values() if len(seens) == 2):
        assert two.at - item.at >= 60
        assert item.key == two.key


@pytest.mark.faults
@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_dead_minute_worker_loses_no_id_and_names_repeats(clusters, how):
    with Target() as target:
        queue = webhook_queue(target, rpm=600)
        first = coming_minute()
        place(queue, {first: range(1, 301)}, at=store.now())
        arm(first, first + clock.MINUTE)
        wait_until(lambda: len(target.requests) > 50, "the minute runs", seconds=over(first))
        if how == "kill":
            clusters[0].kill_a_worker(pick=busiest)
            clusters[1].kill_a_worker(pick=busiest)
        else:
            frozen = [busiest(workers_of(cluster)) for cluster in clusters[:1]]
            for process in frozen:
                process.suspend()
            wait_until(
                lambda: (
                    not models.Batch.objects.filter(lease_until__lt=store.now()).exists()
                    and store.now() > first + clock.MINUTE / 2
                ),
                "its lease is over and taken up",
            )
            for process in frozen:
                process.resume()
        wait_until(settled, "all are sent", seconds=over(first) + 130)
        check_counters()
    sent = Counter(request.user_id for request in target.requests)
    named = set(models.Attempt.objects.filter(unknown=True).values_list("user_id", flat=True))
    assert set(sent) == set(range(1, 301))
    assert {user for user, times in sent.items() if times > 1} <= named
    assert max(sent.values()) <= 2
    assert len(named) <= 2 * (600 / 60 * limits.UNCOMMITTED_MS / 1000 + 2)
    assert most_in_60_seconds(target.requests) <= pacing.most_starts_in_60_seconds(600)
    wait_until(lambda: not models.Batch.objects.exists(), "no claim is left")
    # The test chose the places, not a rule.
    by_rule = {"places follow the rules", "every place is explained"}
    assert [d for d in proof.check(store.now) if d.check not in by_rule] == []


def workers_of(cluster):
    return [child for child in cluster.children if child.ppid() != cluster.process.pid]


def busiest(processes):
    """The process with the most threads: a seat that sends has a loop's thread beside its own."""
    return max(processes, key=lambda process: (process.num_threads(), process.cpu_times().user))
