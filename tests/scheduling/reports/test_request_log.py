"""The latest requests of a queue: those that succeeded at once, and those of which something is kept."""

from datetime import timedelta

import pytest

from scheduling import models
from scheduling.core import clock, keys
from scheduling.dispatch import claims, messages
from scheduling.models import Status
from scheduling.reports import request_log
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker

pytestmark = pytest.mark.django_db

AFTER = MINUTE + timedelta(hours=1)


def answer(queue: models.Queue, statuses: dict[int, int]) -> None:
    """Let requests be answered with these HTTP statuses, each a second later; the responses are kept."""
    bucket = keys.bucket_at(queue.pk, MINUTE)
    requests = {bucket: messages.ClaimRequest(queue, until=60.0, immediate=False)}
    taken = claims.commit_tick(owner=1, elapsed=lambda: 0.0, requests=requests, now=lambda: MINUTE)
    results = []
    for claimed in taken.claims:
        second = list(statuses).index(claimed.user_id)
        status = statuses[claimed.user_id]
        attempt = models.Attempt(
            task_id=claimed.task_id, user_id=claimed.user_id, number=1, bucket_id=bucket,
            started_at=MINUTE + timedelta(seconds=second), duration_ms=12, http_status=status,
            answer=f"answer {claimed.user_id}", error=f"answered {status}" if status > 299 else "",
        )  # fmt: skip
        outcome = Status.SUCCEEDED if status < 300 else Status.FAILED
        results.append(messages.Result(claimed, outcome, second * 1000, attempt))
    batches = {claimed.batch_id for claimed in taken.claims}
    claims.commit_tick(
        owner=1, elapsed=lambda: 0.0, requests={}, results=results, open_batches=batches, now=lambda: MINUTE
    )


def test_requests_that_succeeded_at_once_are_listed_newest_first():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: range(1, 21)}, at=BEFORE)
    SimulatedWorker(queue).serve(0, 60)
    result = request_log.latest(queue, 5, at=AFTER)
    assert [request.user_id for request in result] == [20, 19, 18, 17, 16]
    assert result[0].started_at > result[4].started_at >= MINUTE
    assert {(request.has_succeeded, request.task_name, request.number) for request in result} == {
        (True, "a list", 1)
    }
    assert {request.http_status for request in result} == {None}


def test_request_whose_response_is_kept_is_listed_once():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
    answer(queue, {1: 200, 2: 404, 3: 201})
    result = request_log.latest(queue, 50, at=AFTER)
    assert [(request.user_id, request.http_status, request.has_succeeded) for request in result] == [
        (3, 201, True),
        (2, 404, False),
        (1, 200, True),
    ]
    assert [(request.answer, request.duration_ms) for request in result[:1]] == [("answer 3", 12)]


def test_requests_of_other_queues_are_not_listed():
    queue, other = make_queue(rpm=60), make_queue("other", rpm=60)
    for item in (queue, other):
        place(item, {MINUTE: [item.pk]}, at=BEFORE)
        answer(item, {item.pk: 500})
    assert [request.user_id for request in request_log.latest(queue, 50, at=AFTER)] == [queue.pk]


def test_waiting_ids_and_minutes_to_come_are_not_listed():
    queue = make_queue(rpm=60)
    place(queue, {MINUTE: [1], MINUTE + clock.MINUTE: [2]}, at=BEFORE)
    assert request_log.latest(queue, 50, at=AFTER) == []


def test_log_takes_four_queries_however_much_was_sent(django_assert_num_queries):
    queue = make_queue(rpm=600)
    place(queue, {MINUTE: range(1, 301)}, at=BEFORE)
    SimulatedWorker(queue).serve(0, 60)
    with django_assert_num_queries(4):
        assert len(request_log.latest(queue, 50, at=AFTER)) == 50
