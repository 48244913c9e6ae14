"""Every page of the dashboard in a real browser: it fits, in light and dark, at a desk and on a phone."""

from collections import defaultdict
from datetime import timedelta
from ipaddress import ip_network

import pytest
from django.urls import resolve
from playwright.sync_api import expect

from dashboard import urls
from operators.actor import Actor
from scheduling import demo, models, store
from scheduling.core import clock, keys
from scheduling.dispatch import claims, messages
from scheduling.events import recording
from scheduling.intake import acceptance, allocation
from scheduling.jobqueue import bulk_operations
from scheduling.queues import operations, shared_hours
from tests.browser.test_board import LOOKS, assert_fits
from tests.browser.test_widths import overflows
from tests.scheduling.queues.test_shared_hours import OFFICE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def things() -> dict[str, str]:
    """A list that ran half an hour ago, with failures, one that fills, and a queue that is braked."""
    now = store.now()
    by = Actor.system()
    queue, _ = models.Queue.objects.get_or_create(name="default", defaults={"rpm": 120, "created_at": now})
    then = now - 2 * clock.QUARTER
    old = demo.submit("default", "Spring renewals", list(range(1, 400)), by=by, now=lambda: then)
    allocation.write_segments(lambda: then)
    bucket = models.Bucket.objects.filter(waiting_count__gt=0).first()
    _fail_some(bucket, queue)
    waiting = demo.submit("default", "Address check", list(range(5000, 7100)), by=by, now=store.now)
    allocation.write_segments(store.now)
    operations.brake(queue, 100, by=by, at=now)
    starts_at = keys.starts_at_of_window(bucket.window_id)
    bulk_operations.begin(models.BulkActKind.RETRY_FAILED, request={}, number=5, name="abc", by=by, at=now)
    # Half of it waits already; it is somebody else's, so that throwing it away is asked about.
    faults = [{"line": 3, "token": "1e+05", "reason": "It is in scientific notation."}]
    about = {"faults": faults, "first": ["6000"], "last": ["8099"], "warnings": {}, "fault_count": 1}
    about |= {"task_name": "x", "queue": "default", "bytes": 9, "operator": "somebody", "operator_id": 0}
    draft = acceptance.write_draft(demo.InMemory(list(range(6000, 8100))), at=now, about=about)
    replacing = {**about, "replaces": waiting.pk}
    other = acceptance.write_draft(demo.InMemory(list(range(6000, 8100))), at=now, about=replacing)
    channel = models.Channel.objects.create(
        kind="email", name="On call", address="ops@deck.example", types=["alert.firing"], created_at=now
    )
    event = recording.record(models.EventType.ALERT_FIRING, "Nothing is wrong.", {"test": True}, at=now)
    event.deliveries.update(attempts=2, attempted_at=now, due_at=None, error="the mail server answered 451")
    models.Alert.objects.create(
        kind="quota",
        subject="x",
        text="Used up.",
        path="/dashboard/",
        started_at=now,
        seen_at=now,
        fired_at=now,
    )
    shared_hours.create(name="office", form=OFFICE, by=by, at=now)
    target = models.Target.objects.create(origin="https://api.vendor.example:443", rpm=60)
    return {
        "target": str(target.pk),
        "channel": str(channel.pk),
        "task": str(old.pk),
        "waiting": str(waiting.pk),
        "draft": str(draft.pk),
        "other": str(other.pk),
        "now": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "user": "1",
        "minute": f"{bucket.minute_at:%Y-%m-%dT%H:%MZ}",
        "window": f"{starts_at:%Y-%m-%dT%H:%MZ}",
        "day": f"{then + timedelta(minutes=15):%Y-%m-%d}",
    }


def _fail_some(bucket: models.Bucket, queue: models.Queue) -> None:
    want = messages.ClaimRequest(queue, until=60.0, immediate=False, at_most=5)
    minute = bucket.minute_at
    taken = claims.commit_tick(owner=1, elapsed=lambda: 0.0, requests={bucket.pk: want}, now=lambda: minute)
    kept_rows = [
        messages.Result(
            claimed,
            models.Status.FAILED,
            100,
            models.Attempt(
                task_id=claimed.task_id,
                user_id=claimed.user_id,
                number=1,
                bucket_id=bucket.pk,
                started_at=minute,
                duration_ms=820,
                http_status=404,
                answer="no such customer",
            ),
        )
        for claimed in taken.claims
    ]
    batches = {claimed.batch_id for claimed in taken.claims}
    claims.commit_tick(
        owner=1, elapsed=lambda: 0.0, requests={}, results=kept_rows, open_batches=batches, now=lambda: minute
    )


PAGES = [
    "/dashboard/?queue=*",
    "/dashboard/?queue=default",
    "/dashboard/upload/",
    "/dashboard/help/",
    "/dashboard/targets/",
    "/dashboard/targets/{target}/",
    "/dashboard/hours/",
    "/dashboard/hours/office/",
    "/dashboard/queues/default/slow-down/",
    "/dashboard/acts/abc/",
    "/dashboard/tasks/",
    "/dashboard/tasks/?state=running&q=Addr",
    "/dashboard/tasks/{task}/",
    "/dashboard/tasks/{task}/?status=failed",
    "/dashboard/tasks/{task}/cancel/",
    "/dashboard/ids/{user}/",
    "/dashboard/ids/999/",
    "/dashboard/minutes/{minute}/?queue=default",
    "/dashboard/windows/default/{window}/",
    "/dashboard/failures/",
    "/dashboard/failures/?queue=default",
    "/dashboard/queues/",
    "/dashboard/queues/?recipe=message-api",
    "/dashboard/queues/default/?rpm=200",
    "/dashboard/queues/default/requests/",
    "/dashboard/queues/default/trends/",
    "/dashboard/calendar/?ids=5000",
    "/dashboard/history/{day}/",
    "/dashboard/proof/",
    "/dashboard/alerts/",
    "/dashboard/alerts/channels/new/webhook/",
    "/dashboard/alerts/channels/{channel}/",
    "/dashboard/alerts/deliveries/",
    "/dashboard/activity/",
    "/dashboard/account/",
]
# Those that come up seldom: each of them light on a phone or dark at a desk, by turns.
SELDOM = [
    "/dashboard/upload/{draft}/",
    "/dashboard/upload/{draft}/overlap/",
    "/dashboard/tasks/{waiting}/replace/",
    "/dashboard/tasks/{waiting}/replace/{other}/",
    "/dashboard/tasks/{task}/send-again/",
    "/dashboard/tasks/cancel/?q=Addr&at={now}&up_to={waiting}",
    "/dashboard/failures/retrying/?queue=default&run=abc",
    "/dashboard/drill-down/?queue=default&window={window}&kind=failed",
]
# What is no page: the target of a form, a part of a page, a redirect or a file.
NO_PAGES = {
    "ahead", "alarms", "alert_rules", "alert_test", "cell", "cell_of_all", "channel_delete", "channel_test",
    "delete_view", "discard", "faults", "faults_ndjson", "find", "former_drill_down", "go_to",
    "history_today", "leave_out", "queue_act", "queue_release", "queue_test", "queues_act", "receipts",
    "save_view", "send_event_again", "sign_out_everywhere", "stop_operation", "target_end", "task_continue",
    "task_hold", "task_rename", "tasks_newer", "tasks_selected", "two_factor",
}  # fmt: skip
NOT_FOUND = "/dashboard/tasks/987654321/"
FORBIDDEN = "/dashboard/upload/"


def test_pages_are_all_that_there_are():
    dashboard = next(part for part in urls.urlpatterns if str(part.pattern) == "dashboard/")
    named = {part.name for part in dashboard.url_patterns}
    stamps = {"minute": "2026-11-25T12:15Z", "window": "2026-11-25T12:15Z", "day": "2026-11-25"}
    things = defaultdict(lambda: "1", stamps)
    measured = {resolve(path.partition("?")[0].format_map(things)).url_name for path in [*PAGES, *SELDOM]}
    assert measured | NO_PAGES == named
    assert not measured & NO_PAGES


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_every_page_fits_and_passes_axe(open_page, things, size, scheme):
    page = open_page(PAGES[0], size=size, scheme=scheme, role="admin")
    seldom = {("phone", "light"): SELDOM[::2], ("desk", "dark"): SELDOM[1::2]}
    for path in [*PAGES, *seldom.get((size, scheme), ())]:
        page.goto(page.url.split("/dashboard")[0] + path.format(**things))
        _assert_it_fits(page, path)


def test_every_page_overflows_at_no_width(open_page, things):
    page = open_page("/dashboard/", role="admin")
    assert overflows(page, [path.format(**things) for path in (*PAGES, *SELDOM)]) == []


def _assert_it_fits(page, path: str) -> None:
    expect(page.locator("main")).to_be_visible()
    try:
        assert_fits(page)
    except AssertionError as error:
        raise AssertionError(f"{path}: {error}") from error


def test_confirmation_and_error_pages_fit(open_page, things):
    size, scheme = "phone", "dark"
    page = open_page(f"/dashboard/upload/{things['draft']}/", size=size, scheme=scheme)
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_role("heading", name="Discard")).to_be_visible()
    _assert_it_fits(page, "the question before a preview of somebody else goes")

    _assert_it_fits(open_page(NOT_FOUND, size=size, scheme=scheme), NOT_FOUND)
    _assert_it_fits(open_page(FORBIDDEN, size=size, scheme=scheme, role="viewer"), FORBIDDEN)

    # What the browser itself says of such answers.
    text = [error for error in open_page.errors if "status of 40" in error]
    assert len(text) == 2
    open_page.errors[:] = [error for error in open_page.errors if error not in text]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desk", "phone"])
def test_sign_in_page_fits(open_page, size, scheme):
    page = open_page("/dashboard/", size=size, scheme=scheme, role=None)

    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert_fits(page)


def test_fifth_wrong_password_locks_out_with_a_message(open_page):
    page = open_page("/sign-in/", role=None)

    for _ in range(5):
        page.get_by_label("Username").fill("m.ortiz")
        page.get_by_label("Password").fill("wrong")
        with page.expect_navigation():
            page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_contain_text("Too many failed attempts")
    open_page.errors[:] = [error for error in open_page.errors if "status of 429" not in error]


def test_cancel_asks_for_the_number_and_reports_the_result(open_page, things):
    task = models.Task.objects.get(name="Address check")
    page = open_page(f"/dashboard/tasks/{task.pk}/")

    page.get_by_role("link", name="Cancel…").click()
    expect(page.locator("main")).to_contain_text("2,100 waiting IDs will be cancelled")
    page.get_by_role("button", name="Cancel these IDs").click()
    expect(page.locator("main")).to_contain_text("Type 2,100 to confirm")
    page.get_by_label("To confirm, type 2,100").fill("2,100")
    page.get_by_role("button", name="Cancel these IDs").click()

    expect(page.get_by_role("status")).to_contain_text("2,100 IDs cancelled")
    task.refresh_from_db()
    assert task.cancelled_count == 2100


def test_list_is_replaced_and_cancelled_without_javascript(open_page, things):
    page = open_page(f"/dashboard/tasks/{things['waiting']}/", javascript=False)

    page.get_by_role("link", name="Replace").click()
    page.get_by_label("IDs").fill(" ".join(map(str, range(5001, 7101))))
    page.get_by_role("button", name="Show").click()
    page.get_by_role("button", name="Keep 2,099, add 1, cancel 1").click()
    expect(page.get_by_role("status")).to_contain_text("2,099 IDs kept their places, 1 added, 1 cancelled")

    page.get_by_role("link", name="Cancel…").click()
    page.get_by_label("To confirm, type 2,100").fill("2100")
    page.get_by_role("button", name="Cancel these IDs").click()
    expect(page.get_by_role("status")).to_contain_text("2,100 IDs cancelled")


def test_queue_is_paused_braked_and_its_rpm_previewed_without_javascript(open_page, things):
    page = open_page("/dashboard/queues/default/", javascript=False)
    main, address = page.locator("main"), page.url

    page.get_by_role("link", name="Pause…").click()
    expect(main).to_contain_text("everything planned is done at")
    page.get_by_role("button", name="Pause default").click()
    page.wait_for_url("**/dashboard/?queue=default")
    page.goto(address)
    expect(main).to_contain_text("Paused since")
    page.get_by_role("button", name="Resume").click()
    expect(main).to_contain_text("runs at 120 a minute")
    page.get_by_role("link", name="Change…").click()
    page.get_by_label("Limit to how many requests a minute?").fill("7")
    page.get_by_role("button", name="Show what it does").click()
    page.get_by_role("button", name="Limit default to 7 a minute").click()
    page.wait_for_url("**/dashboard/?queue=default")
    page.goto(address)
    expect(main).to_contain_text("brake: at most 7 a minute")
    page.get_by_role("button", name="Release").click()
    expect(page.get_by_role("link", name="Brake…")).to_be_visible()

    page.get_by_label("What would another limit per minute do?").fill("200")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("columnheader", name="at 200")).to_be_visible()
    assert models.Queue.objects.get(name="default").rpm == 120
    page.get_by_role("button", name="Set 200 a minute").click()
    expect(main).to_contain_text("runs at 200 a minute")


@pytest.mark.parametrize(("size", "scheme"), [("phone", "dark"), ("desk", "light")])
def test_recipe_of_a_new_queue_is_filled_in_by_a_click_without_javascript(open_page, settings, size, scheme):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    page = open_page("/dashboard/queues/", size=size, scheme=scheme, javascript=False)

    page.get_by_role("link", name="An e-mail or message API").click()
    expect(page.locator("main")).to_contain_text("put your key in the place of YOUR-KEY")
    expect(page.get_by_label("Headers")).to_have_value("Authorization: Bearer YOUR-KEY")
    page.get_by_label("Headers").fill("Authorization: Bearer k-71")
    page.get_by_label("Address").fill("http://127.0.0.1/messages")
    page.get_by_role("button", name="Create queue").click()

    expect(page.get_by_role("status")).to_contain_text("Queue messages created")


def test_cancel_confirmation_focuses_its_field(open_page, things):
    task = models.Task.objects.get(name="Address check")
    page = open_page(f"/dashboard/tasks/{task.pk}/cancel/")

    expect(page.get_by_label("To confirm, type 2,100")).to_be_focused()
    page.keyboard.type("2,100")
    page.keyboard.press("Enter")

    expect(page.get_by_role("status")).to_contain_text("2,100 IDs cancelled")


@pytest.mark.parametrize("size", ["phone", "desk"])
def test_new_tasks_are_offered_without_moving_the_list(open_page, things, size):
    page = open_page("/dashboard/tasks/", size=size)
    before = page.locator("table.list").bounding_box()
    demo.submit("default", "One more", [7], by=Actor.system(), now=store.now)

    expect(page.get_by_role("link", name="1 new")).to_be_visible()

    assert page.locator("table.list").bounding_box() == before


def test_every_section_is_reachable_on_a_phone(open_page, things):
    page = open_page("/dashboard/tasks/", size="phone", javascript=False)

    for link in page.get_by_role("navigation", name="Sections").get_by_role("link").all():
        box = link.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


def test_queue_is_paused_and_resumed_by_keyboard(open_page, things):
    page = open_page("/dashboard/queues/default/")

    address = page.url
    page.get_by_role("link", name="Pause…").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Pause default").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/?queue=default")
    page.goto(address)
    expect(page.locator("main")).to_contain_text("Paused since")
    page.get_by_role("button", name="Resume").focus()
    page.keyboard.press("Enter")

    expect(page.locator("main")).to_contain_text("runs at 120 a minute")


def test_theme_is_toggled_and_remembered(open_page, things):
    page = open_page("/dashboard/tasks/")

    page.locator("summary", has_text="m.ortiz").click()
    page.get_by_role("button", name="Toggle theme").click()
    page.reload()

    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.parametrize(("size", "scheme"), [("phone", "light"), ("desk", "dark")])
def test_columns_and_views_are_chosen_by_keyboard(open_page, things, size, scheme):
    page = open_page("/dashboard/tasks/?state=done", size=size, scheme=scheme)

    page.locator("summary", has_text="Columns").focus()
    page.keyboard.press("Enter")
    assert_fits(page)
    page.get_by_label("Created").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_url("**columns=**")
    expect(page.get_by_role("columnheader", name="Created")).to_have_count(0)

    page.locator("summary", has_text="Save this view").focus()
    page.keyboard.press("Enter")
    assert_fits(page)
    page.get_by_label("Name of this view").fill("Done lists")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Done lists")).to_have_attribute("aria-current", "true")

    page.locator("summary", has_text="Columns").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.locator("summary", has_text="Columns")).to_be_focused()
    expect(page.get_by_label("Created")).to_be_hidden()


@pytest.mark.parametrize(("size", "scheme"), [("phone", "dark"), ("desk", "light")])
@pytest.mark.parametrize("javascript", [True, False])
def test_settings_show_what_the_handler_reads(open_page, things, size, scheme, javascript):
    page = open_page("/dashboard/queues/default/", size=size, scheme=scheme, javascript=javascript)
    expect(page.get_by_label("Statuses that mean success")).to_be_hidden()

    page.get_by_label("For each ID").select_option("webhook")

    expect(page.get_by_label("Statuses that mean success")).to_be_visible()
    expect(page.get_by_label("Function", exact=True)).to_be_hidden()
    expect(page.get_by_label("Template of the body")).to_be_hidden()
    page.get_by_label("Body", exact=True).select_option("template")
    expect(page.get_by_label("Template of the body")).to_be_visible()
    if javascript:
        assert_fits(page)
