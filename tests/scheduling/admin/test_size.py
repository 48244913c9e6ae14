"""The lists stand a million rows: none counts them, none reads them all. Measured in SQLite's own steps."""

from array import array
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from operators.actor import Actor
from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.lists import stored_lists
from scheduling.queues import operations

ROWS = 60_000
# What reads each of the rows once takes three steps a row at the very least.
STEPS = 60_000
STEP = 100

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite counts its steps"),
]


def make_crowd(rows: int) -> dict[str, int]:
    """Make as many users, each with an assignment, all of one task in one minute, and as many lines in the log."""
    by, at = Actor.command_line(), timezone.now()
    queue = operations.create(name="letters", by=by, at=at)
    ids = list(range(1, rows + 1))
    window = keys.window_id(queue.pk, clock.open_window_start(at))
    first = keys.bucket_id(window, 0)
    with store.write():
        store.insert_users(ids, at=at)
        store.create_windows([window], capacity=120)
        id_list = models.IdList.objects.create(ids_count=rows, created_at=at, accepted_at=at)
        stored_lists.write(
            id_list, [array("q", ids[start : start + 20_000]) for start in range(0, rows, 20_000)]
        )
        task = models.Task.objects.create(
            name="letters", queue=queue, list=id_list, ids_count=rows, waiting_count=rows, first_minute_at=at,
            last_minute_at=at, created_at=at, created_by="a test", placed_at=at,
        )  # fmt: skip
        store.insert_assignments(task.pk, [(keys.assignment_id(first, 0), ids)], status=models.Status.WAITING)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE scheduling_user SET name = 'Person ' || id")
    line = {"at": at, "actor_kind": "operator", "actor_name": "ann", "face": "page", "verb": "submitted"}
    models.Activity.objects.bulk_create(
        [models.Activity(**line, object_kind="task", object_id=number) for number in ids], batch_size=5000
    )
    return {"task": task.pk, "bucket": first, "queue": queue.pk, "window": window}


@contextmanager
def steps() -> Iterator[list[int]]:
    """How many steps SQLite takes, in hundreds."""
    taken = [0]

    def step() -> int:
        taken[0] += 1
        return 0

    connection.ensure_connection()
    connection.connection.set_progress_handler(step, STEP)
    try:
        yield taken
    finally:
        connection.connection.set_progress_handler(None, 0)


PAGES = [
    "user/",
    "user/?p=30000",
    "user/?q=29999",
    "user/?q=Person",
    "user/?q=Person 2999",
    "user/?q=Nobody",
    "user/29999/change/",
    "user/29999/delete/",
    "assignment/",
    "assignment/?q=29999",
    "assignment/?q=70000",
    "assignment/?task={task}",
    "assignment/?task={task}&p=30000",
    "assignment/?bucket={bucket}",
    "task/",
    "task/?q=lett",
    "task/?q={task}",
    "task/?queue={queue}&state=running",
    "task/{task}/change/",
    "window/",
    "window/{window}/change/",
    "activity/",
    "activity/?p=30000",
    "activity/?q=ann",
    "activity/?q=bob",
    "activity/?q=submitted",
    "activity/?q=29999",
    "activity/?face=api",
    "activity/?object_kind=task&object_id=7",
    "activity/?object_kind=queue",
]


def test_admin_pages_never_count_or_read_all_rows(signed_in):
    crowd = make_crowd(ROWS)
    client = signed_in()
    with steps() as all_rows:
        assert models.User.objects.exclude(name="x").count() == ROWS
    assert all_rows[0] * STEP > STEPS
    for page in PAGES:
        address = f"/admin/scheduling/{page.format(**crowd)}"
        with (
            steps() as taken,
            CaptureQueriesContext(
                connection,
            ) as queries,
        ):
            answer = client.get(address)
        assert answer.status_code == 200, address
        assert taken[0] * STEP < STEPS, address
        assert len(queries) <= 12, address
        assert not [q for q in queries if "COUNT(" in q["sql"]], address


def test_admin_paging_shows_every_row_once(signed_in):
    make_crowd(250)
    client = signed_in()
    for address in ("/admin/scheduling/user/", "/admin/scheduling/user/?q=Person"):
        shown, after = [], address
        while after:
            listed = client.get(after).context["cl"]
            shown += [user.pk for user in listed.result_list]
            after = f"/admin/scheduling/user/{listed.later_url}" if listed.later_url else ""
        assert len(shown) == 250
        assert sorted(shown) == list(range(1, 251))


def test_task_ids_are_in_list_order(signed_in):
    crowd = make_crowd(1_000)
    client = signed_in()
    address = f"/admin/scheduling/assignment/?task={crowd['task']}"
    first = client.get(address).context["cl"]
    second = client.get(f"/admin/scheduling/assignment/{first.later_url}").context["cl"]
    assert [row.user_id for row in [*first.result_list, *second.result_list]] == list(range(1, 201))


def test_windows_are_ordered_by_time_across_queues(signed_in, db):
    by, at = Actor.command_line(), timezone.now()
    start = clock.open_window_start(at)
    for name in ("a", "b", "c"):
        queue = operations.create(name=name, by=by, at=at)
        store.create_windows(
            [keys.window_id(queue.pk, start + n * clock.QUARTER) for n in range(50)], capacity=1
        )
    client, shown, after = signed_in(), [], "/admin/scheduling/window/"
    while after:
        listed = client.get(after).context["cl"]
        shown += [(window.starts_at, window.pk) for window in listed.result_list]
        after = f"/admin/scheduling/window/{listed.later_url}" if listed.later_url else ""
    assert len(shown) == 150
    assert shown == sorted(set(shown), reverse=True)


@pytest.mark.parametrize(
    "query", ["p=x", "p=99999999999999999999999", "task=x", "bucket=1", "bucket=x", "state=lost"]
)
def test_malformed_address_is_refused_without_a_server_error(signed_in, deck, query):
    client = signed_in()
    for model in ("assignment", "task", "user"):
        answer = client.get(f"/admin/scheduling/{model}/?{query}", follow=True)
        assert answer.status_code == 400
