"""What is said of failures is what their rows say, however much of it is kept; also of a part, and of a moment."""

from collections import Counter
from datetime import timedelta

import pytest

from operators.actor import Actor
from scheduling import models
from scheduling.core import clock, keys
from scheduling.dispatch import claims, messages
from scheduling.models import Status
from scheduling.tasks import failures, resend
from scheduling.tasks.failures import FailureSelection
from scheduling.upkeep import retention
from tests.scheduling.placed import make_queue, place

from .test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db

MINUTES = [MINUTE + k * clock.MINUTE for k in range(4)]
LATER = MINUTE + timedelta(hours=1)
ANSWERS = ((404, "no such customer"), (500, ""), (None, "reset"))


def fail(queue: models.Queue, minute, ids: range, *, ran: int = 60) -> models.Task:
    """A list in one minute; of its IDs all fail that come up in the first `ran` seconds, each at its slot."""
    task = place(queue, {minute: ids}, at=BEFORE)
    _run(queue, minute, from_second=0, to_second=ran)
    return task


def _run(
    queue: models.Queue, minute, *, from_second: int, to_second: int, at_most: int | None = None
) -> None:
    bucket_id = keys.bucket_at(queue.pk, minute)
    want = messages.ClaimRequest(queue, until=float(to_second), immediate=False, at_most=at_most)
    at = minute + timedelta(seconds=from_second)
    taken = claims.commit_tick(
        owner=1, elapsed=lambda: float(from_second), requests={bucket_id: want}, now=lambda: at
    )
    kept_rows = []
    for claimed in taken.claims:
        status, text = ANSWERS[claimed.user_id % 3]
        attempt = models.Attempt(
            task_id=claimed.task_id,
            user_id=claimed.user_id,
            number=claimed.attempts + 1,
            bucket_id=bucket_id,
            started_at=minute + timedelta(seconds=claimed.offset),
            http_status=status,
            answer=text if status else "",
            error="" if status else text,
        )
        kept_rows.append(messages.Result(claimed, Status.FAILED, round(claimed.offset * 1000), attempt))
    batches = {claimed.batch_id for claimed in taken.claims}
    claims.commit_tick(
        owner=1,
        elapsed=lambda: float(to_second),
        requests={},
        results=kept_rows,
        open_batches=batches,
        now=lambda: at,
    )


@pytest.fixture
def queues(db) -> list[models.Queue]:
    return [make_queue("a", rpm=120), make_queue("b", rpm=60)]


@pytest.fixture
def several(queues) -> list[models.Task]:
    """In two queues and four minutes, two tasks in one of them."""
    a, b = queues
    return [
        fail(a, MINUTES[0], range(1, 31)),
        fail(a, MINUTES[1], range(101, 131)),
        fail(a, MINUTES[1], range(201, 211)),
        fail(b, MINUTES[1], range(1, 21)),
        fail(b, MINUTES[3], range(301, 311)),
    ]


def rows() -> list[tuple]:
    """Every failed row, read one by one: (key, queue, task, user, status, said, at, key of its request)."""
    result = []
    for row in models.Assignment.objects.filter(status=Status.FAILED).select_related("task__queue"):
        if row.task.cancelled_at is not None:
            continue
        last = models.Attempt.objects.filter(
            task_id=row.task_id, user_id=row.user_id, number=row.attempts, unknown=False
        ).first()
        status, text, at = (last.http_status, last.error or last.answer, last.started_at) if last else (
            None, "", None
        )  # fmt: skip
        result.append(
            (row.pk, row.task.queue_id, row.task_id, row.user_id, status, text, at, last and last.pk)
        )
    return sorted(result)


def expected(selection: FailureSelection) -> list[tuple]:
    def matches(row: tuple) -> bool:
        _, queue, task, user, status, text, at, key = row
        return (
            selection.queue_id in (None, queue)
            and selection.task_id in (None, task)
            and selection.user_id in (None, user)
            and selection.http_status in (None, status)
            and not (selection.has_no_status and status is not None)
            and selection.message in (None, text)
            and not (selection.since and not (at and at >= selection.since))
            and not (selection.at and at and at > selection.at)
            and not (selection.up_to is not None and key is not None and key > selection.up_to)
        )

    return [row for row in rows() if matches(row)]


def questions(several: list[models.Task]) -> list[FailureSelection]:
    middle = MINUTES[1] + timedelta(seconds=20)
    task = several[1]
    return [
        FailureSelection(),
        FailureSelection(queue_id=task.queue_id),
        FailureSelection(task_id=task.pk),
        FailureSelection(user_id=5),
        FailureSelection(http_status=404),
        FailureSelection(has_no_status=True, message="reset"),
        FailureSelection(message=""),
        FailureSelection(at=middle),
        FailureSelection(since=middle),
        FailureSelection(up_to=models.Attempt.objects.order_by("pk")[models.Attempt.objects.count() // 2].pk),
        FailureSelection(up_to=0),
        FailureSelection(queue_id=task.queue_id, up_to=failures.newest(), since=middle),
        FailureSelection(since=MINUTES[0] + timedelta(seconds=10), at=MINUTES[1] + timedelta(seconds=40)),
        FailureSelection(task_id=task.pk, http_status=500, at=middle),
    ]


def assert_all_is_told(several: list[models.Task]) -> None:
    names = dict(models.Queue.objects.values_list("pk", "name"))
    for requested in questions(several):
        fields = expected(requested)
        result = requested.summary()
        assert result.count == requested.count() == len(fields), requested
        groups = Counter((names[row[1]], row[4], row[5]) for row in fields)
        assert {(g.queue, g.http_status, g.message): g.count for g in result.groups} == groups, requested
        assert [row.key for row in requested.rows()] == [row[0] for row in fields], requested
        assert [row.key for row in requested.rows(limit=7)] == [row[0] for row in fields[:7]], requested
        if len(fields) > 9:
            behind = requested.rows(after=fields[8][0], limit=3)
            assert [row.key for row in behind] == [row[0] for row in fields[9:12]], requested


def test_failures_are_summarized_from_rows(several):
    assert rows()
    assert_all_is_told(several)


def test_failures_are_summarized_from_stored_counts(several):
    assert failures.keep_counts(at=LATER) == 4
    assert sum(models.FailureCount.objects.values_list("ids_count", flat=True)) == len(rows())
    assert_all_is_told(several)


def test_failure_counts_are_updated_only_where_changed(several):
    failures.keep_counts(at=LATER)
    assert failures.keep_counts(at=LATER) == 0
    fail(several[0].queue, MINUTES[2], range(401, 411))
    assert_all_is_told(several)
    assert failures.keep_counts(at=LATER) == 1


def test_failures_exclude_retried_ids_until_they_fail_again(several):
    failures.keep_counts(at=LATER)
    selection = FailureSelection(task_id=several[1].pk, http_status=404, at=LATER)
    count = selection.count()

    resend.retry(selection, number=count, run="r", by=Actor.system(), now=lambda: LATER)

    assert count == 10
    assert selection.count() == 0
    assert_all_is_told(several)
    failures.keep_counts(at=LATER)
    assert_all_is_told(several)


def test_retry_by_two_clicks_is_one_run(several):
    selection = FailureSelection(at=LATER)
    options = {"number": selection.count(), "run": "one run", "by": Actor.system(), "now": lambda: LATER}
    first = resend.retry(selection, **options)
    assert resend.retry(selection, **options) == first
    assert models.BulkAct.objects.count() == 1
    assert models.Activity.objects.filter(verb="retried").count() == 1


def test_failure_counts_notice_a_change_with_the_same_number(queues):
    # One leaves and another comes in: only the second counter tells.
    task = fail(queues[0], MINUTE, range(1, 31), ran=30)
    before = len(rows())
    failures.keep_counts(at=LATER)
    assert 0 < before < 30
    first = FailureSelection(user_id=rows()[0][3])

    resend.retry(first, number=1, run="r", by=Actor.system(), now=lambda: MINUTE + timedelta(seconds=31))
    _run(queues[0], MINUTE, from_second=32, to_second=34, at_most=1)

    bucket = models.Bucket.objects.get(pk=keys.bucket_at(queues[0].pk, MINUTE))
    assert bucket.failed_count == before
    assert_all_is_told([task, task])


def test_failures_of_a_cancelled_task_are_not_counted(several):
    failures.keep_counts(at=LATER)
    place(several[1].queue, {LATER: range(900, 910)}, at=BEFORE)
    models.Task.objects.filter(pk=several[1].pk).update(cancelled_at=LATER)
    assert FailureSelection(task_id=several[1].pk).count() == 0
    assert_all_is_told(several)


def test_failure_without_a_known_request_belongs_to_every_moment(several):
    models.Attempt.objects.filter(task_id=several[0].pk, user_id__lt=6).update(unknown=True)
    assert_all_is_told(several)
    failures.keep_counts(at=LATER)
    assert_all_is_told(several)


def test_failures_of_a_minute_are_counted_once_it_is_over(several):
    assert failures.keep_counts(at=MINUTES[0] + timedelta(seconds=89)) == 0
    assert failures.keep_counts(at=MINUTES[0] + timedelta(seconds=90)) == 1


def test_failure_counting_stops_in_time_and_resumes(several, monkeypatch):
    monkeypatch.setattr(failures, "STEP_IDS", 1)
    assert failures.keep_counts(at=LATER, seconds=0) == 1
    assert_all_is_told(several)
    assert failures.keep_counts(at=LATER) == 3


def test_failure_counts_replace_reading_rows(several):
    failures.keep_counts(at=LATER)
    models.Attempt.objects.all().delete()
    assert {group.http_status for group in FailureSelection().summary().groups} == {404, 500, None}


def test_pruning_deletes_failure_counts(several, settings):
    settings.RETENTION_DAYS = 90
    failures.keep_counts(at=LATER)
    night = MINUTE + timedelta(days=100)
    models.Window.objects.update(totalled_at=LATER)
    assert retention.prune(lambda: night)
    assert not models.FailureCount.objects.exists()
