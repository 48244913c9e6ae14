"""Full pages at eight widths, and every mark against its ground."""

from urllib.parse import urlsplit

import pytest

from dashboard.tables.listings import TaskTable
from operators.actor import Actor
from scheduling import demo, models, store
from scheduling.core import clock, keys
from scheduling.intake import allocation
from scheduling.proof import checks
from scheduling.upkeep import quarter_hour
from tests.browser.test_board import place

pytestmark = pytest.mark.django_db(transaction=True)
WIDTHS = (320, 360, 700, 768, 1024, 1280, 1920, 2560)
# WCAG 1.4.11: what is not text has at least this contrast with what it lies on.
LEAST = 3.0
MARKS = (
    "--qd-succeeded", "--qd-failed", "--qd-in-flight", "--qd-past", "--qd-expired", "--qd-line", "--qd-edge",
    "--qd-focus", "--qd-heat-1", "--qd-heat-2", "--qd-heat-3", "--qd-heat-4",
)  # fmt: skip
CONTRAST = """(name) => {
    const probe = document.createElement("i");
    document.body.append(probe);
    const light = (variable) => {
        probe.style.setProperty("color", `var(${variable})`);
        const [r, g, b] = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((value) => {
            const share = value / 255;
            return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const [high, low] = [light(name), light("--qd-panel")].sort((a, b) => b - a);
    probe.remove();
    return (high + 0.05) / (low + 0.05);
}"""


@pytest.fixture
def pages() -> list[str]:
    """Pages that hold more than those of test_pages.py: long names, long lists, a check, the receipt of a window."""
    task = place(120 * 15 + 40, name="a list with a name that is as long as names of files sometimes are.csv")
    models.Queue.objects.update(brake_per_minute=5)
    check = checks.begin(by=Actor.system(), at=store.now())
    checks.resume(check.pk, store.now)
    starts_at = keys.starts_at_of_window(models.Window.objects.order_by("pk").last().pk)
    stamp = f"{starts_at:%Y-%m-%dT%H:%MZ}"
    # At the brake's 5 a minute it ends on another day, at any hour of this one: the longest words for a time.
    ended = store.now() - 4 * clock.QUARTER
    old = demo.submit(
        "default", "an old list", list(range(5001, 25_001)), by=Actor.system(), now=lambda: ended
    )
    allocation.write_segments(store.now)
    demo.catch_up(old.first_minute_at, at=store.now())
    quarter_hour.total(store.now)
    receipt = f"{old.first_minute_at - clock.QUARTER:%Y-%m-%dT%H:%MZ}"
    return [
        f"windows/default/{receipt}/",
        "",
        "?queue=*",
        "tasks/?" + "&".join(f"columns={name}" for name, _ in TaskTable.choosable()),
        f"tasks/{task.pk}/",
        f"tasks/{task.pk}/cancel/",
        "ids/7/",
        "queues/default/?rpm=60",
        "calendar/?queue=default&ids=100000",
        f"windows/default/{stamp}/",
        f"minutes/{clock.runs_at(starts_at):%Y-%m-%dT%H:%MZ}/",
        f"drill-down/?queue=default&window={stamp}",
        f"history/{store.now():%Y-%m-%d}/",
        "proof/",
        "nothing/",
    ]


def overflows(page, addresses: list[str]) -> list[str]:
    """Return which addresses need more than which width."""
    base = page.url.removesuffix(urlsplit(page.url).path)
    result = []
    for address in addresses:
        page.goto(f"{base}{address}")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            needed = page.locator("html").evaluate("html => html.scrollWidth")
            if needed > width:
                result.append(f"{address} needs {needed} at {width}")
    return result


def test_full_pages_overflow_at_no_width(pages, open_page):
    page = open_page("/dashboard/")
    assert overflows(page, [f"/dashboard/{address}" for address in pages]) == []
    # The console tells of the page that is not there.
    open_page.errors[:] = [error for error in open_page.errors if "404" not in error]


SCROLLED = """() => [...document.querySelectorAll(".scroll")].filter((box) => box.querySelector("table"))
    .filter((box) => box.scrollWidth > box.clientWidth).map((box) => `${box.scrollWidth} of ${box.clientWidth}`)"""
NARROW_NAMES = """() => [...document.querySelectorAll("table.list td.name")].filter((cell) => {
    const words = cell.innerText.trim().split(/\\s+/).filter((word) => word.length < 11);
    return words.length && cell.querySelector("a") && cell.clientWidth < 90;
}).map((cell) => cell.innerText)"""


def test_tables_hide_no_column_and_break_no_short_name(pages, open_page):
    page = open_page("/dashboard/")
    base = page.url.split("/dashboard/")[0]
    # Somebody who has chosen all columns of a table scrolls it.
    chosen = [address for address in pages if "columns=" not in address and address != "nothing/"]
    faults = []
    for address in [*chosen, "tasks/", "queues/"]:
        page.goto(f"{base}/dashboard/{address}")
        for width in (700, 768, 850, 1024, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            faults += [(address, width, fault) for fault in page.evaluate(SCROLLED)]
            faults += [(address, width, name) for name in page.evaluate(NARROW_NAMES)]
    assert not faults, faults


@pytest.mark.parametrize("width", [1280, 1440, 1920, 2560])
def test_head_begins_and_ends_where_the_page_does(open_page, width):
    page = open_page("/dashboard/queues/")
    page.set_viewport_size({"width": width, "height": 900})
    edges = page.evaluate(
        """() => {
            const box = (name) => document.querySelector(name).getBoundingClientRect();
            return [box(".head .brand").left - box("#content .panel").left,
                    box(".head .menu").right - box("#content .panel").right];
        }"""
    )
    assert [abs(edge) < 12 for edge in edges] == [True, True], edges


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chart_marks_contrast_with_their_panel(open_page, scheme):
    models.Queue.objects.get_or_create(name="default", defaults={"rpm": 120, "created_at": store.now()})
    page = open_page("/dashboard/", scheme=scheme)

    contrasts = {name: round(page.evaluate(CONTRAST, name), 2) for name in MARKS}
    assert all(contrast >= LEAST for contrast in contrasts.values()), contrasts
