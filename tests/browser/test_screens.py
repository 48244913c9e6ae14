"""Makes the pictures of README and docs, and all pages in all looks into var/screens/: `make screens`.

Look at them before the docs' are committed. Their clock stands at one moment, so that a picture differs from the
last one only where the page does.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django_q.models import OrmQ

from scheduling import demo, models, store
from scheduling.core import clock
from scheduling.intake import allocation
from scheduling.jobqueue import cluster
from scheduling.proof import checks
from scheduling.reports import days
from tests.browser.conftest import SIZES
from tests.browser.test_pages import NOT_FOUND, PAGES, SELDOM, things  # noqa: F401 (a fixture)

pytestmark = [pytest.mark.screens, pytest.mark.django_db(transaction=True)]

PICTURES = settings.BASE_DIR / "docs" / "images"
# For whoever looks at them; not committed.
EVERY_PAGE = settings.BASE_DIR / "var" / "screens"
# 14:22:38 in Berlin.
MOMENT = datetime(2026, 11, 25, 13, 22, 38, tzinfo=UTC)
ZONE = "Europe/Berlin"


@pytest.fixture
def a_day(monkeypatch) -> datetime:
    """The demonstration's day, in the middle of a minute."""
    monkeypatch.setattr(store, "now", lambda: MOMENT)
    models.Queue.objects.get_or_create(name="default", defaults={"rpm": 120, "created_at": MOMENT})
    demo.populate(at=MOMENT)
    demo.run_part_of_minute(at=MOMENT)
    _a_list_past_rpm()
    _signs_of_life()
    return MOMENT


def _a_list_past_rpm() -> None:
    queue = models.Queue.objects.get(name="default")
    begin = clock.quarter_start(MOMENT) + clock.QUARTER
    filled = days.columns([queue], begin=begin, end=begin + clock.QUARTER)[0].filled
    ids = list(range(500_000, 500_000 + 15 * 157 - 9 - filled))
    demo.submit("default", "Spring renewals, part 3", ids, by=demo.BY[0], now=lambda: MOMENT)
    allocation.write_segments(lambda: MOMENT, seconds=60)


def _signs_of_life() -> None:
    OrmQ.objects.all().delete()
    for number, (name, workers) in enumerate(((cluster.DEFAULT, 2), (cluster.MINUTES, 5)), start=1):
        models.Heartbeat.objects.create(
            owner=number, cluster=name, host="w1", pid=number, workers=workers,
            started_at=MOMENT - timedelta(hours=30), seen_at=MOMENT - timedelta(milliseconds=400),
        )  # fmt: skip
    quarter = clock.quarter_start(MOMENT)
    models.QuarterRun.objects.create(quarter_at=quarter, ran_at=quarter + timedelta(seconds=8))
    minute = clock.minute_start(MOMENT)
    models.Minute.objects.filter(pk=clock.minute_number(minute)).update(
        started_at=minute + timedelta(microseconds=200)
    )


def take(
    open_page,
    path: str,
    name: str,
    *,
    size: str = "desk",
    scheme: str = "light",
    act=None,
    whole: bool = True,
) -> None:
    page = open_page(path, size=size, scheme=scheme, time_zone=ZONE, clock=MOMENT)
    if act is not None:
        act(page)
    page.wait_for_timeout(400)
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=whole, animations="disabled")
    assert page.locator("html").evaluate("html => html.scrollWidth") <= SIZES[size]["width"]


def test_screenshots_for_the_docs(a_day, open_page):
    task = models.Task.objects.filter(queue__name="default", succeeded_count__gt=0, finished_at=None).first()
    failed = models.Assignment.objects.filter(status=models.Status.FAILED).latest("pk")

    take(open_page, "/dashboard/", "board")
    take(open_page, "/dashboard/", "board-dark", scheme="dark")
    take(open_page, "/dashboard/", "board-phone", size="phone")
    take(open_page, "/dashboard/upload/", "upload")
    take(open_page, "/dashboard/upload/", "preview", act=_preview)
    take(open_page, "/dashboard/upload/", "preview-phone", size="phone", act=_preview)
    take(open_page, "/dashboard/tasks/?size=25", "tasks", whole=False)
    take(open_page, f"/dashboard/tasks/{task.pk}/", "task", whole=False)
    take(open_page, f"/dashboard/ids/{failed.user_id}/", "id")
    take(open_page, "/dashboard/failures/", "failures")
    take(open_page, "/dashboard/history/2026-11-25/", "history")
    take(open_page, "/dashboard/queues/default/?rpm=200", "queue")
    _proof()
    take(open_page, "/dashboard/proof/", "proof")
    take(open_page, "/dashboard/activity/?size=25", "activity", scheme="dark", whole=False)


@pytest.mark.parametrize("size", ["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots_of_every_page(open_page, things, size, scheme):  # noqa: F811
    page = open_page("/dashboard/account/", size=size, scheme=scheme, role="admin")
    root = page.url.split("/dashboard")[0]
    look = EVERY_PAGE / f"{size}-{scheme}"
    for number, path in enumerate(["/dashboard/upload/", *PAGES, *SELDOM, NOT_FOUND]):
        page.goto(root + path.format(**things))
        page.wait_for_timeout(300)
        name = re.sub(r"[^a-z]+", "-", path.removeprefix("/dashboard/")).strip("-") or "board"
        page.screenshot(path=look / f"{number:02}-{name}.png", full_page=True, animations="disabled")
    out = page.context.browser.new_context(viewport=SIZES[size], color_scheme=scheme).new_page()
    out.goto(f"{root}/sign-in/")
    out.screenshot(path=look / "sign-in.png", full_page=True)
    out.context.close()
    # What the browser itself says of the page that isn't there.
    open_page.errors[:] = [error for error in open_page.errors if "status of 404" not in error]


def _proof() -> None:
    began = MOMENT
    check = checks.begin(by=demo.BY[0], at=began)
    # What it takes, about. On a busy machine one job isn't enough.
    checks.resume(check.pk, lambda: began + timedelta(seconds=0.8), seconds=600)


def _preview(page) -> None:
    rows = "".join(f"{70_001 + 13 * k};x\n" for k in range(1200))
    text = f"user_id;name\n{rows}1e+05;bad\n;nothing\n91002\u200b3;hidden\n"
    page.get_by_label("A file").set_input_files(
        {"name": "renewals-part-4.csv", "mimeType": "text/csv", "buffer": text.encode()}
    )
    page.get_by_role("button", name="Show the preview").click()
    page.locator("#overlap dd").first.wait_for()
