"""The number of queries that reading takes, whatever the length of the list."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling import models, store
from scheduling.core import clock, keys

pytestmark = pytest.mark.django_db

MOST = 12
PATHS = (
    "/ids/7/",
    "/celery_ids_tasks/",
    "/celery_ids_tasks/?state=placed&queue=mail",
    "/celery_ids_tasks/{task}/",
    "/celery_ids_tasks/{task}/ids/",
    "/celery_ids_tasks/{task}/ids/?status=waiting",
    "/celery_ids_tasks/{task}/distribution/",
    "/users/",
    "/queues/",
    "/windows/",
    "/windows/?queue=mail",
)


@pytest.fixture
def busy(api, write_lists) -> int:
    """Create many tasks with the ID 7, in several queues and all states; return the number of one of them."""
    for name in ("mail", "push"):
        api.send("POST", "/queues/", {"name": name})
    models.Queue.objects.filter(name="mail").update(handler="webhook", webhook_url="https://hook.test/in")
    models.Queue.objects.filter(name="push").update(brake_per_minute=0)
    tasks = []
    for n in range(30):
        query = f"?task_name={n}&queue={('default', 'mail', 'push')[n % 3]}"
        tasks.append(api.list([7, *range(10 * n + 100, 10 * n + 400)], query=query).json()["task_id"])
    write_lists()
    # An edited one, two that are being written, moves, attempts and an open breaker.
    api.send("PATCH", f"/celery_ids_tasks/{tasks[0]}/", {"payload": [7, 8, 9]})
    for n in range(2):
        api.list([n + 20, 7, 8], query=f"?task_name=unwritten{n}")
    models.Target.objects.create(origin="https://hook.test:443", failures_count=20, opened_at=store.now())
    for row in models.Assignment.objects.filter(user_id=7, task_id__in=tasks[::2]):
        at = store.now()
        facts = {"task_id": row.task_id, "user_id": 7}
        models.Attempt.objects.create(**facts, number=1, bucket_id=row.bucket_id, started_at=at)
        models.Move.objects.create(
            **facts,
            from_bucket_id=keys.bucket_at(row.task.queue_id, row.minute_at - clock.QUARTER),
            to_bucket_id=row.bucket_id,
            reason="late",
            moved_at=at + timedelta(seconds=1),
        )
    return tasks[1]


def test_reading_takes_a_fixed_number_of_queries(api, busy):
    for path in PATHS:
        with CaptureQueriesContext(connection) as queries:
            response = api.get(path.format(task=busy))
        assert response.status_code == 200, path
        assert len(queries) <= MOST, (path, [query["sql"][:150] for query in queries])


def test_story_in_a_minute_that_begins_or_runs_takes_no_more_queries(api, busy, monkeypatch):
    start = clock.quarter_start(store.now())
    for minutes in (14, 15):
        at = start + timedelta(minutes=minutes, seconds=30)
        monkeypatch.setattr(store, "now", lambda at=at: at)
        with CaptureQueriesContext(connection) as queries:
            api.get("/ids/7/")
        assert len(queries) <= MOST, (minutes, [query["sql"][:150] for query in queries])


def test_id_pages_are_the_same_as_all_stories_at_once(api, busy):
    whole = api.get("/ids/7/").json()
    assert len(whole) == 32
    first = api.get("/ids/7/?limit=1").json()
    assert first == whole[:1]
    moved = [story for story in whole if any(event["event"] == "moved" for event in story["history"])]
    assert len(moved) == 15
    assert all(story["late_seconds"] >= 0 for story in whole)
