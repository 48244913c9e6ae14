"""How much a page costs: queries, bytes, whatever there is."""

import gzip
import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.db import connection

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.proof import checks
from scheduling.reports import drill_down

pytestmark = pytest.mark.django_db

MOST_QUERIES = 12
MOST_BYTES = 150_000
LOADED = re.compile(r'(?:href|src)="/static/([^"]+)"')


def weight(page: bytes) -> int:
    """Bytes of the page and of all files that it loads, as they travel: WhiteNoise serves files packed."""
    files = set(LOADED.findall(page.decode()))
    assert "quarterdeck/dashboard.css" in files
    return len(page) + sum(len(gzip.compress(Path(finders.find(path)).read_bytes())) for path in files)


@pytest.fixture
def addresses(place, fail, sign_in) -> list[str]:
    """Several queues, many tasks, one of them over many windows, some failures, drafts with many faults."""
    for number in range(4):
        models.Queue.objects.create(name=f"queue-{number}", rpm=60, created_at=store.now())
    models.Queue.objects.filter(name="queue-0").update(overflow="carry_over")
    then = store.now() - 2 * clock.QUARTER
    old = place(range(1, 400), at=then)
    fail(old, 404, "no such customer")
    for number in range(30):
        place(range(1000 * number + 1000, 1000 * number + 1100), name=f"list {number}")
    long = place(range(200_000, 220_000), into="queue-0")
    client = sign_in("operator")
    text = "\n".join([*map(str, range(1000, 3000)), *("=fault" + "x" * 40 + str(n) for n in range(300))])
    draft = client.post("/dashboard/upload/", {"queue": "default", "payload": text}).url
    replacing = client.post(f"/dashboard/tasks/{old.pk}/replace/", {"payload": text}).url
    client.post("/dashboard/proof/")
    checks.resume(checks.stored().get().pk, store.now)
    starts_at = keys.starts_at_of_window(models.Window.objects.order_by("pk").first().pk)
    return [
        "/dashboard/?queue=*",
        "/dashboard/",
        "/dashboard/upload/",
        draft,
        f"{draft}?queue=queue-0&rpm=30",
        f"{draft}overlap/",
        f"/dashboard/tasks/{old.pk}/replace/",
        replacing,
        f"/dashboard/tasks/{old.pk}/send-again/",
        f"/dashboard/drill-down/?queue=*&window={starts_at:%Y-%m-%dT%H:%MZ}&kind=failed",
        "/dashboard/drill-down/?queue=*&kind=late",
        "/dashboard/proof/",
        "/dashboard/tasks/",
        f"/dashboard/tasks/{long.pk}/",
        f"/dashboard/tasks/{old.pk}/?status=failed",
        f"/dashboard/tasks/{long.pk}/cancel/",
        "/dashboard/ids/7/",
        f"/dashboard/minutes/{starts_at + clock.QUARTER:%Y-%m-%dT%H:%MZ}/",
        f"/dashboard/windows/default/{starts_at:%Y-%m-%dT%H:%MZ}/",
        "/dashboard/failures/?queue=default",
        "/dashboard/queues/",
        "/dashboard/queues/default/?rpm=50",
        "/dashboard/queues/default/requests/",
        "/dashboard/queues/default/trends/",
        "/dashboard/calendar/?queue=queue-0&ids=100000",
        f"/dashboard/history/{store.now():%Y-%m-%d}/",
        "/dashboard/activity/",
        "/dashboard/account/",
    ]


def test_pages_take_at_most_twelve_queries(addresses, sign_in, django_assert_max_num_queries):
    client = sign_in("admin")
    for address in addresses:
        with django_assert_max_num_queries(MOST_QUERIES, info=address):
            assert client.get(address).status_code == 200, address


def test_pages_weigh_at_most_150_kilobytes_with_their_assets(addresses, sign_in):
    client = sign_in("admin")
    for address in addresses:
        assert weight(client.get(address).content) < MOST_BYTES, address


def test_full_day_stays_within_the_page_weight(addresses, sign_in):
    """The largest heat map: each minute another shade than its neighbours."""
    queue = models.Queue.objects.get(name="default")
    midnight = store.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for quarter in range(96):
        starts_at = midnight + (quarter - 1) * clock.QUARTER
        pk = keys.window_id(queue.pk, starts_at)
        models.Window.objects.get_or_create(pk=pk, defaults={"queue": queue, "starts_at": starts_at})
        for k in range(clock.BUCKETS):
            count = 1 + (k * 7 + quarter * 3) % 5 * 33
            counts = {"filled_count": count, "succeeded_count": count}
            models.Bucket.objects.get_or_create(
                pk=keys.bucket_id(pk, k), defaults={"window_id": pk, "capacity": 120, **counts}
            )
    client = sign_in("admin")
    for address in ("/dashboard/", f"/dashboard/history/{store.now():%Y-%m-%d}/"):
        page = client.get(address).content
        assert page.count(b"ismap") > 90
        assert weight(page) < MOST_BYTES, address


def test_id_in_many_tasks_takes_no_more_queries_than_one_in_two(
    place, sign_in, django_assert_max_num_queries
):
    for number in range(5):
        place([7, 100 + number], name=f"list {number}")
    client = sign_in("viewer")

    with django_assert_max_num_queries(MOST_QUERIES):
        page = client.get("/dashboard/ids/7/").content.decode()
    assert all(f"list {number}" in page for number in range(5))


@pytest.mark.skipif(connection.vendor != "sqlite", reason="another planner")
@pytest.mark.parametrize("kind", [drill_down.Kind.ALL, drill_down.Kind.SENT, drill_down.Kind.WAITING])
def test_drill_down_reads_only_the_rows_of_its_minutes(place, kind):
    place(range(1, 1000))
    buckets = list(models.Bucket.objects.filter(filled_count__gt=0).values_list("pk", flat=True))
    assert len(buckets) > 1

    plan = drill_down.DrillDown((1,), kind, store.now())._assignments(buckets, after=0).explain()

    assert "scheduling_assignment USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in plan
