import gzip
import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django_q.models import OrmQ

from dashboard.board import live_board, strip
from dashboard.board.viewpoint import Viewpoint
from dashboard.drawing import charts
from operators.actor import Actor
from scheduling import demo, models, store
from scheduling.core import clock, limits
from scheduling.dispatch import overdue
from scheduling.jobqueue import cluster
from scheduling.queues import operations
from scheduling.reports import board, health, receipts
from scheduling.tasks import cancellation, holds
from tests.dashboard.conftest import squeezed

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 25, 12, 7, tzinfo=UTC)


def poll(client, version="", query=""):
    return client.get(f"/dashboard/?version={version}{query}", headers={"HX-Request": "true"})


def shown(answer) -> str:
    return shown_in(answer.content)


def shown_in(body: bytes) -> str:
    return re.search(r'name="version" value="([^"]+)"', body.decode())[1]


@pytest.mark.parametrize(
    ("accept", "is_compressed"), [("gzip, br", True), ("identity", False), ("gzip;q=0", False), ("", False)]
)
def test_poll_is_compressed_for_browsers_that_accept_it(sign_in, queue, monkeypatch, accept, is_compressed):
    client, at = sign_in("viewer"), store.now()
    # A minute that began between the two would make another part of it.
    monkeypatch.setattr(store, "now", lambda: at)
    plain = poll(client).content
    response = client.get(
        "/dashboard/?version=", headers={"HX-Request": "true", "Accept-Encoding": accept or "deflate"}
    )
    assert (response.get("Content-Encoding") == "gzip") == is_compressed
    assert (gzip.decompress(response.content) if is_compressed else response.content) == plain
    assert {"HX-Request", "Accept-Encoding"} <= set(response["Vary"].split(", "))
    if is_compressed:
        assert len(response.content) == int(response["Content-Length"]) < len(plain) / 3
    # A page has its forms' secrets, and stays as it is.
    page = client.get("/dashboard/", headers={"Accept-Encoding": accept})
    assert "Content-Encoding" not in page


def test_submitted_ids_are_in_the_filling_window(place):
    place(range(1, 301), at=NOON)

    view = board.snapshot("default", at=NOON).board()

    assert view.filling.filled == 300
    assert [minute.filled for minute in view.filling.minutes[:4]] == [120, 120, 60, 0]
    assert view.running.filled == 0


def test_filling_window_runs_a_quarter_later(place):
    place(range(1, 301), at=NOON)

    view = board.snapshot("default", at=NOON + clock.QUARTER).board()

    assert view.running.filled == 300
    assert view.filling.filled == 0


def test_excess_over_rpm_is_given_per_minute_and_in_total(place):
    place(range(1, 120 * 15 + 31), at=NOON)

    filling = board.snapshot("default", at=NOON).board().filling

    assert filling.peak.filled == 122
    assert filling.peak.over == 2
    assert filling.over == 30


def test_board_of_all_queues_adds_up_capacity_of_queues_without_a_window(place, queue):
    models.Queue.objects.create(name="other", rpm=60, created_at=NOON)
    models.Queue.objects.create(name="idle", rpm=7, created_at=NOON)
    place(range(1, 101), at=NOON)
    place(range(1, 101), at=NOON, into="other")

    first = board.snapshot("", at=NOON).board().filling.minutes[0]

    assert first.filled == 160
    assert first.capacity == 187


def test_unsent_ids_are_late_since_their_minute(place):
    place(range(1, 301), at=NOON)

    view = board.snapshot("default", at=NOON + clock.QUARTER + timedelta(minutes=10)).board()

    assert view.late_count == 300
    assert view.late[0].since == clock.quarter_start(NOON) + clock.QUARTER


def test_fingerprint_changes_with_an_id_and_not_with_a_second(place):
    before = board.snapshot("default", at=NOON)
    place([1], at=NOON)

    after = board.snapshot("default", at=NOON)

    assert after.version != before.version
    assert board.snapshot("default", at=NOON + timedelta(seconds=1)).version == after.version


def test_fingerprint_changes_with_the_minute(queue):
    assert (
        board.snapshot("default", at=NOON).version
        != board.snapshot("default", at=NOON + clock.MINUTE).version
    )


@pytest.mark.parametrize("seconds", [1, 31, 59, 61, 120])
def test_board_and_health_check_agree_on_clusters_and_quarters(queue, seconds):
    at = clock.quarter_start(NOON) + timedelta(seconds=seconds)
    for owner, name in enumerate((cluster.DEFAULT, cluster.MINUTES)):
        models.Heartbeat.objects.create(
            owner=owner,
            cluster=name,
            host="a",
            pid=1,
            started_at=NOON,
            seen_at=at - timedelta(seconds=seconds),
        )

    on_board, report = board.snapshot("default", at=at).board().health, health.assess(at)

    assert bool(on_board.missing) == any("silent" in error for error in report.problems)
    assert on_board.quarter_is_late == any("quarter-hour" in error for error in report.problems)


def test_dead_cluster_is_red_on_the_board_beside_a_live_one(queue, sign_in):
    at = store.now()
    for owner, name, seen_at in (
        (1, cluster.DEFAULT, at),
        (2, cluster.MINUTES, at),
        (3, cluster.MINUTES, at - timedelta(seconds=61)),
    ):
        models.Heartbeat.objects.create(
            owner=owner, cluster=name, host="a", pid=1, started_at=NOON, seen_at=seen_at
        )

    body = poll(sign_in("viewer")).content.decode()

    assert "1 cluster minutes: silent since" in body
    assert "2 clusters" in body
    assert "nothing is sent" not in body


def test_board_shows_waiting_jobs_and_the_age_of_a_late_quarter(queue, sign_in):
    quarter = clock.quarter_start(NOON) - clock.QUARTER
    models.QuarterRun.objects.create(quarter_at=quarter, ran_at=quarter + timedelta(seconds=8))
    at = store.now()
    for owner, name in enumerate((cluster.DEFAULT, cluster.MINUTES)):
        models.Heartbeat.objects.create(
            owner=owner, cluster=name, host="a", pid=1, started_at=NOON, seen_at=at
        )
    client = sign_in("viewer")
    versions = []
    for _ in range(3):
        body = poll(client).content.decode()
        assert f"{OrmQ.objects.count()} job{'' if OrmQ.objects.count() == 1 else 's'} waiting" in body
        versions.append(shown(poll(client)))
        OrmQ.objects.create(key="jobs", payload="", lock=at - timedelta(seconds=9))

    assert len(set(versions)) == 3
    view = board.snapshot("default", at=clock.quarter_start(NOON) + timedelta(minutes=5)).board()
    text = "".join(strip._silence(view.health, Viewpoint.at(view.at)))
    assert re.search(r"last quarter-hour run: .*<span data-ago=\"\d+\">20 min</span> ago", text)


def test_fingerprint_changes_in_the_second_a_quarter_becomes_late(queue):
    due = clock.quarter_start(NOON)
    at = due + limits.QUARTER_LATE

    assert (
        board.snapshot("default", at=at).version
        != board.snapshot("default", at=at + timedelta(seconds=1)).version
    )


def test_poll_takes_two_queries_besides_session_and_operator(place, sign_in, django_assert_max_num_queries):
    place(range(1, 301))
    client = sign_in("viewer")

    with django_assert_max_num_queries(2 + 2):
        assert poll(client).status_code == 200


def test_poll_without_changes_is_an_empty_204(place, sign_in):
    place(range(1, 301))
    client = sign_in("viewer")
    version = shown(poll(client))

    answer = poll(client, version)

    # A minute may have begun in between: then the answer is the new board.
    if answer.status_code == 200:
        answer = poll(client, shown(answer))
    assert answer.status_code == 204
    assert answer.content == b""


def test_page_and_fragment_vary_by_the_htmx_header(queue, sign_in):
    client = sign_in("viewer")

    page, fragment = client.get("/dashboard/"), poll(client)

    assert b"<html" in page.content
    assert b"<html" not in fragment.content
    assert "HX-Request" in page["Vary"]
    assert "HX-Request" in fragment["Vary"]


def test_fragment_sets_no_cookie_so_open_forms_stay_valid(queue, sign_in):
    assert not poll(sign_in("viewer")).cookies


@pytest.mark.parametrize("query", ["?queu=default", "?queue=nosuch", "?queue=default&queue=other"])
def test_unknown_board_parameter_is_refused_by_name(queue, sign_in, query):
    answer = sign_in("viewer").get(f"/dashboard/{query}")

    assert answer.status_code == 400
    assert b"queu" in answer.content


def test_signed_out_poll_is_redirected_to_the_sign_in_page(queue, client):
    answer = poll(client)

    assert answer.status_code == 204
    assert "HX-Redirect" in answer.headers


def test_empty_board_says_what_to_do_first(queue, sign_in):
    assert b"Nothing is planned yet" in sign_in("viewer").get("/dashboard/").content


def test_times_are_in_the_operators_zone_which_is_named(queue, sign_in):
    page = sign_in("viewer", time_zone="Asia/Kathmandu").get("/dashboard/").content.decode()

    filling = page.split("Filling")[1].split("</h2>")[0]
    runs_at = clock.runs_at(clock.open_window_start(store.now()))
    assert "Asia/Kathmandu" in page
    # 5:45 ahead of UTC: the hour and the minute differ.
    assert (runs_at + timedelta(hours=5, minutes=45)).strftime(">%H:%M<") in filling


def test_fragment_is_the_same_for_every_operator(place, sign_in, make_operator, client):
    place(range(1, 30))
    first = poll(sign_in("operator")).content
    client.force_login(make_operator("admin"))

    assert poll(client).content == first
    assert b"csrfmiddlewaretoken" not in first


def test_viewer_sees_disabled_buttons_with_the_reason(place, client, make_operator):
    task = place(range(1, 30))
    bodies = {}
    for role in ("operator", "viewer"):
        client.force_login(make_operator(role))
        bodies[role] = poll(client).content.decode()

    for key in (f"cancel-{task.pk}", "to-queue", "to-upload"):
        assert '<a class="button' in bodies["operator"].split(f'id="{key}"')[0][-40:]
        disabled = re.search(rf'<button [^>]*id="{key}" disabled title="([^"]+)"', bodies["viewer"])
        assert disabled[1].startswith("You can view but not change things")
    assert client.get(f"/dashboard/tasks/{task.pk}/cancel/").status_code == 403


def test_board_buttons_resume_and_release_and_return_to_the_board(make_operator, queue):
    """By the page's form, which names its token: a poll has none of its own."""
    at = store.now()
    models.Queue.objects.create(name="held", rpm=30, created_at=at, paused_at=at)
    models.Queue.objects.create(
        name="slow",
        rpm=30,
        created_at=at,
        brake_per_minute=5,
        handler="webhook",
        webhook_url="https://x.test/",
    )
    models.Target.objects.create(origin="https://x.test:443", opened_at=at, failures_count=20)
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_operator("operator"))
    page = client.get("/dashboard/?queue=held").content.decode()
    form = re.search(r'<form id="act" method="post">(.*?)</form>', page)[1]
    sent = dict(re.findall(r'name="([^"]+)" value="([^"]+)"', form))
    buttons = re.findall(
        r'<button class="button small" id="([^"]+)" form="act" formaction="([^"]+)"( name="per_minute" value="")?>',
        poll(client, query="&queue=held").content.decode(),
    )
    [target] = models.Target.objects.all()

    assert [key for key, *_ in buttons] == [
        f"release-slow-{target.pk}", "resume-held", "unbrake-slow", "resume-shown",
    ]  # fmt: skip
    assert client.post(buttons[0][1], {"board": "held"}).status_code == 403
    for _, action, field in buttons[:3]:
        answer = client.post(action, sent | ({"per_minute": ""} if field else {}))
        assert answer.url == "/dashboard/?queue=held"

    assert not models.Queue.objects.filter(paused_at__isnull=False).exists()
    assert not models.Queue.objects.filter(brake_per_minute__isnull=False).exists()
    assert not models.Target.objects.filter(opened_at__isnull=False).exists()
    assert "release-slow" not in poll(client).content.decode()
    # Whatever else is said of where it came from leads to the queue's own page.
    away = client.post(buttons[1][1], sent | {"board": "https://evil.test/"})
    assert away.url == "/dashboard/queues/held/"


def test_fragments_of_different_time_zones_are_not_shared(place, client, make_operator):
    place(range(1, 30))
    bodies = []
    for zone in ("UTC", "Asia/Kathmandu"):
        operator = make_operator("viewer", username=zone)
        operator.time_zone = zone
        operator.save()
        client.force_login(operator)
        bodies.append(poll(client).content)

    assert bodies[0] != bodies[1]


def test_rescheduled_late_ids_are_shown_with_both_minutes(place, sign_in):
    task = place(range(1, 31), at=store.now() - 2 * clock.QUARTER)
    models.Queue.objects.create(name="other", rpm=5, created_at=store.now())
    client = sign_in("viewer")
    # Whichever queue is looked at.
    for address in ("/dashboard/", "/dashboard/?queue=other"):
        assert "30 IDs late" in client.get(address).content.decode()
    overdue.run(store.now)

    for address in ("/dashboard/", "/dashboard/?queue=other"):
        page = squeezed(client.get(address))
        text = re.sub(r"<[^>]+>", "", page.split('id="replanned"')[1].split("</div>")[0])
        since = f"{task.first_minute_at:%H:%M}"
        assert re.search(rf"30 IDs of default were late, since {since}, and run at \d\d:\d\d", text)
        assert page.index('id="replanned"') < page.index('id="board"')
    again = client.get("/dashboard/ahead/?queue=other", headers={"HX-Request": "true"}).content.decode()
    assert 'id="replanned" hx-swap-oob="true"' in again


NUMBERED = re.compile(
    r'<a (?:id="[^"]+" |class="[^"]+" )?href="([^"]+)"[^>]*>(?:<b>)?([\d,]+)(?:</b>)?[ <a-zA-Z]'
)


def numbers(page: str) -> list[tuple[str, int]]:
    """(address, number) of each link to a list of IDs that says a number."""
    matches = [(html.unescape(href), int(error.replace(",", ""))) for href, error in NUMBERED.findall(page)]
    return [(href, error) for href, error in matches if "/drill-down/" in href or "#ids" in href]


def length(client, address: str) -> int:
    """How many IDs the list there has, by its export."""
    base, _, query = address.partition("#")[0].partition("?")
    answer = client.get(f"{base}?{query}&format=csv" if query else f"{base}?format=csv")
    assert answer.status_code == 200
    return len(b"".join(answer.streaming_content).decode().split("\r\n")) - 2


@pytest.mark.parametrize("query", ["", "&queue=*"])
def test_every_number_of_ids_links_to_a_list_of_that_length(place, sign_in, fail, query):
    models.Queue.objects.create(name="other", rpm=60, created_at=store.now())
    now = store.now()
    fail(place(range(1, 41), at=now - clock.QUARTER), 404)
    place(range(100, 230), at=now - clock.QUARTER)
    place(range(300, 3000))
    place(range(300, 310), into="other")
    place(range(1, 31), at=now - 2 * clock.QUARTER, name="left behind")
    cancelled = place(range(5000, 5011))
    cancellation.cancel(cancelled, by=Actor.system(), now=store.now)
    client = sign_in("viewer")

    result = numbers(poll(client, query=query).content.decode())

    kinds = {re.search(r"(?:kind|status)=(\w+)|$", address)[1] for address, _ in result}
    assert {"failed", "sent", "waiting", "cancelled", "late", None} <= kinds
    for address, number in result:
        assert number == length(client, address), address


def test_moved_ids_are_listed_with_their_new_minute(place, sign_in):
    task = place(range(1, 31), at=store.now() - 2 * clock.QUARTER)
    window = task.first_minute_at - clock.QUARTER
    overdue.run(store.now)
    client = sign_in("viewer")

    address = f"/dashboard/drill-down/?queue=default&window={window:%Y-%m-%dT%H:%MZ}&kind=moved"

    assert "30 IDs: moved away" in client.get(address).content.decode()
    assert length(client, address) == 30


def test_receipt_links_to_ids_that_may_have_been_sent_twice(place, sign_in):
    task = place(range(1, 31), at=store.now() - 2 * clock.QUARTER)
    bucket = models.Bucket.objects.filter(filled_count__gt=0).first()
    minute = bucket.minute_at
    for user in (4, 9):
        models.Attempt.objects.create(
            task_id=task.pk, user_id=user, number=1, bucket_id=bucket.pk, started_at=minute, unknown=True
        )
    models.Bucket.objects.filter(pk=bucket.pk).update(repeats_count=2)
    window = models.Window.objects.get(pk=bucket.window_id)
    buckets = list(models.Bucket.objects.filter(window=window))
    window.receipt, window.totalled_at = (
        receipts.of_window(window, buckets, receipts.own_starts(window.pk)),
        store.now(),
    )
    window.save()
    client = sign_in("viewer")
    page = client.get(f"/dashboard/windows/default/{window.starts_at:%Y-%m-%dT%H:%MZ}/").content.decode()

    [address] = re.findall(r'href="([^"]*kind=repeats)">2</a>', page)

    address = html.unescape(address)
    shown = client.get(address).content.decode()
    assert "2 IDs: may have gone out twice" in shown
    assert '<a class="id" href="/dashboard/ids/9/">9</a>' in shown
    assert length(client, address) == 2


def test_drill_down_says_while_rows_are_being_written(queue, sign_in, monkeypatch):
    # None of its minutes begins meanwhile.
    at = clock.quarter_start(store.now())
    monkeypatch.setattr(store, "now", lambda: at)
    demo.submit("default", "a list", list(range(1, 11)), by=Actor.system(), now=store.now)
    client = sign_in("viewer")

    [(address, number)] = [
        result for result in numbers(poll(client).content.decode()) if "kind=waiting" in result[0]
    ]

    assert number == 10
    assert "They have their places; their rows are being written." in squeezed(client.get(address))


@pytest.mark.parametrize(
    "query",
    [
        "kind=failed",
        "kind=nope&window=2026-11-25T12:15Z",
        "window=2026-11-25T12:16Z",
        "queue=nope",
        "minute=2026-11-25T12:16",
        "from=2026-11-25T12:15Z",
        "from=2026-11-25T12:15Z&to=2026-11-25T12:15Z",
        "from=2026-11-25T00:00Z&to=2026-11-26T01:01Z",
        "minute=2026-11-25T12:16Z&window=2026-11-25T12:15Z",
    ],
)
def test_drill_down_of_an_unknown_kind_is_refused(queue, sign_in, query):
    assert sign_in("viewer").get(f"/dashboard/drill-down/?{query}").status_code == 400


HOSTILE = """"><script>alert('1')</script><b title='x' & "y">"""


def test_board_escapes_what_people_write(queue, place, sign_in):
    place(range(1, 11), name=HOSTILE)
    models.Task.objects.update(created_by=HOSTILE)
    models.Queue.objects.create(
        name="hook", handler="webhook", webhook_url="https://x.test/", created_at=store.now()
    )
    models.Target.objects.create(
        origin="https://x.test:443", blocked_until=store.now() + timedelta(minutes=9), block_reason=HOSTILE
    )
    silent = {"seen_at": store.now() - timedelta(hours=1), "started_at": NOON}
    models.Heartbeat.objects.create(owner=1, cluster=HOSTILE, host="a", pid=1, **silent)

    body = poll(sign_in("operator")).content.decode()

    assert "<script" not in body
    assert "<b title" not in body
    # The task and who sent it, the cluster, and why a target is held: each whole.
    assert html.unescape(body).count(HOSTILE) == 4


def test_breaker_that_no_queue_uses_is_not_shown(queue, sign_in):
    """Nothing waits for it, no probe closes it, and no page has a button for it."""
    hook = models.Queue.objects.create(
        name="hook", handler="webhook", webhook_url="https://x.test/", created_at=store.now()
    )
    models.Target.objects.create(origin="https://x.test:443", opened_at=store.now(), failures_count=20)
    client = sign_in()
    assert "breaker open" in poll(client).content.decode()

    models.Queue.objects.filter(pk=hook.pk).update(webhook_url="https://y.test/")
    assert "breaker open" not in poll(client).content.decode()

    models.Queue.objects.filter(pk=hook.pk).update(webhook_url="https://x.test/", handler="record")
    assert "breaker open" not in poll(client).content.decode()


def test_bars_stay_in_place_with_sixty_queues_in_trouble(place, sign_in):
    """Told together, with the first few tabs and the chosen one; the rest are chosen from a list."""
    at, then = store.now(), store.now() - 2 * clock.QUARTER
    models.Queue.objects.bulk_create(
        models.Queue(name=f"q{number:02d}", rpm=5, created_at=then, paused_at=at) for number in range(60)
    )
    for name in ("q10", "q20", "q30", "q40"):
        place([1, 2], into=name, at=then)
    client = sign_in()

    page = client.get("/dashboard/?queue=q44").content.decode()
    tabs = re.search(r'<nav class="tabs".*?</nav>', page)[0]
    assert re.findall(r'id="tab-([^"]+)"', tabs) == [
        *("default", "q00", "q01", "q02", "q03"),
        *("q44", "all", "more"),
    ]
    assert ">55 more&hellip;<" in tabs
    assert page.count("paused since") == 0
    assert '60 queues paused <a class="button small" id="resume-queues" href="/dashboard/queues/"' in page
    jump = re.search(r'<select id="jump".*?</select>', page, re.DOTALL)[0]
    assert jump.count("<option") == 62
    assert "<option selected>q44</option>" in jump
    every = client.get("/dashboard/?queue=*").content.decode()
    assert ">8 IDs late</a> in 4 queues" in every
    assert length(client, "/dashboard/drill-down/?queue=*&kind=late") == 8


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (7, "7"),
        (999, "999"),
        (3993, "4.0k"),
        (9949, "9.9k"),
        (9951, "10k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
    ],
)
def test_number_above_a_bar_fits_its_width(count, text):
    assert charts.shortest(count) == text


def test_page_without_javascript_contains_the_same_drawing_as_a_poll(place, sign_in):
    place(range(1, 301))
    client = sign_in("operator")

    # A second in which both see the same clusters and minute.
    for _ in range(3):
        page, fragment = client.get("/dashboard/").content, poll(client).content
        if shown_in(page) == shown_in(fragment):
            break
    assert fragment in page


def test_former_address_of_the_drill_down_redirects_with_its_query(sign_in):
    answer = sign_in("viewer").get("/dashboard/held/?queue=*&kind=late")
    assert (answer.status_code, answer.url) == (302, "/dashboard/drill-down/?queue=*&kind=late")


def test_alarms_reach_every_page_without_signs_and_buttons(queue, sign_in):
    models.Queue.objects.create(name="held", rpm=5, created_at=store.now(), paused_at=store.now())
    client = sign_in("operator")

    alarms = client.get("/dashboard/alarms/").json()["alarms"]

    assert any(alarm.startswith("held paused since ") for alarm in alarms), alarms
    assert not any("Resume" in alarm or "‖" in alarm or "<" in alarm for alarm in alarms)
    assert (
        '<meta name="alarms" content="/dashboard/alarms/">'
        in client.get("/dashboard/tasks/").content.decode()
    )


def test_board_gives_the_reason_of_a_pause_and_a_brake(queue, sign_in):
    client = sign_in()
    client.post("/dashboard/queues/default/pause/", {"reason": "vendor asked", "board": "default"})
    client.post("/dashboard/queues/default/brake/", {"per_minute": "9", "reason": "slow <site>"})
    other = models.Queue.objects.create(name="other", created_at=store.now())
    operations.brake(other, 5, "night shift", by=Actor.system(), at=store.now())

    page = client.get("/dashboard/").content.decode()

    assert ": vendor asked <button" in page
    assert "at most 5 a minute: night shift" in page
    assert models.Activity.objects.get(verb="paused").after["reason"] == "vendor asked"
    assert models.Activity.objects.filter(verb="braked").first().after["reason"] == "night shift"
    assert "vendor asked" in client.get("/dashboard/queues/default/").content.decode()
    client.post("/dashboard/queues/default/resume/")
    queue.refresh_from_db()
    assert (queue.pause_reason, queue.brake_reason) == ("", "slow <site>")
    assert "slow &lt;site&gt;" in client.get("/dashboard/").content.decode()
    client.post("/dashboard/queues/default/brake/", {"per_minute": ""})
    assert "slow &lt;site&gt;" not in client.get("/dashboard/").content.decode()


def test_reason_of_a_pause_that_is_too_long_is_refused(queue, sign_in):
    answer = sign_in().post("/dashboard/queues/default/pause/", {"reason": "x" * 201}, follow=True)

    assert "at most 200 characters" in answer.content.decode()
    queue.refresh_from_db()
    assert not queue.paused


def test_board_shows_lists_on_hold_and_deadlines_at_risk_of_any_queue(queue, sign_in, place):
    models.Queue.objects.create(name="other", rpm=1, created_at=store.now())
    held = place([1, 2], name="held one", into="other")
    at_risk = place([3, 4], name="late one")
    in_time = place([5], name="early one")
    holds.hold(held, "customer called", by=Actor.system(), now=store.now)
    models.Task.objects.filter(pk=at_risk.pk).update(deadline_at=at_risk.last_minute_at)
    models.Task.objects.filter(pk=in_time.pk).update(deadline_at=in_time.last_minute_at + clock.MINUTE)

    client = sign_in("viewer")
    chips = client.get("/dashboard/alarms/").json()["alarms"]

    assert any(chip.startswith("“held one” is on hold since") and "customer called" in chip for chip in chips)
    assert any(chip.startswith("“late one” would be done at") for chip in chips)
    assert not any("early one" in chip for chip in chips)
    assert "“held one”" in client.get("/dashboard/").content.decode()
    models.Task.objects.filter(pk=at_risk.pk).update(
        deadline_at=at_risk.last_minute_at + timedelta(seconds=59)
    )
    assert any("late one" in chip for chip in client.get("/dashboard/alarms/").json()["alarms"])


@pytest.mark.parametrize("shown_queue", ["default", ""])
def test_board_promises_nothing_for_a_list_on_hold(queue, place, shown_queue):
    task = place(range(1, 601), at=NOON)
    at = clock.quarter_start(NOON) + timedelta(minutes=17)
    for owner, name in enumerate((cluster.DEFAULT, cluster.MINUTES)):
        models.Heartbeat.objects.create(
            owner=owner, cluster=name, host="a", pid=1, started_at=NOON, seen_at=at
        )

    def sentences() -> str:
        view = board.snapshot(shown_queue, at=at).board()
        chips = "".join(strip.alarms(view, Viewpoint.at(at)))
        return chips + live_board._outlook(view, Viewpoint.at(at))

    assert "they take the next free places<" in sentences()
    assert "except" not in sentences()

    holds.hold(task, "", by=Actor.system(), now=lambda: NOON)

    assert "they take the next free places, except those of lists on hold<" in sentences()
    assert sentences().endswith(", except lists on hold")


def test_many_lists_on_hold_are_one_alarm(queue, sign_in, place):
    for number in range(1, 6):
        holds.hold(place([number], name=f"list {number}"), "", by=Actor.system(), now=store.now)

    chips = sign_in("viewer").get("/dashboard/alarms/").json()["alarms"]

    assert [chip for chip in chips if "on hold" in chip] == ["“list 1” and 4 more lists are on hold"]


def test_board_shows_how_much_of_each_quota_is_used(queue, sign_in, place):
    models.Queue.objects.update(quotas=[{"limit": 10, "per": "day"}, {"limit": 1_000, "per": "month"}])
    client = sign_in("viewer")
    place(range(1, 10), at=clock.quarter_start(store.now()))

    answer = client.get("/dashboard/ahead/?queue=default")
    uses = answer.context["quotas"]

    assert [(use.per, use.limit) for use in uses] == [("day", 10), ("month", 1_000)]
    assert uses[1].booked in (0, 9)
    assert uses[1].percent in (0, 0)
    assert "per month" in answer.content.decode()


def test_later_quarter_hours_of_another_day_say_which(queue, sign_in, place):
    tomorrow = store.now() + timedelta(days=1)
    place(range(1, 10), at=tomorrow)

    body = squeezed(sign_in("viewer").get("/dashboard/ahead/?queue=default"))

    window = models.Window.objects.filter(buckets__filled_count__gt=0).latest("pk")
    runs_at = clock.runs_at(window.starts_at)
    assert f"{runs_at:%-d %b %Y, %H:%M} to {runs_at + clock.QUARTER:%H:%M}" in body


def test_board_shows_how_much_of_the_quotas_of_a_target_its_queues_use(queue, sign_in, place):
    target = models.Target.objects.create(
        origin="https://hook.test:443", quotas=[{"limit": 100, "per": "month"}]
    )
    sends = {"handler": "webhook", "webhook_url": "https://hook.test/in", "target": target}
    models.Queue.objects.filter(name="default").update(**sends, quotas=[{"limit": 10, "per": "day"}])
    models.Queue.objects.create(name="other", rpm=60, created_at=store.now(), **sends)
    place(range(1, 10))
    place(range(1, 4), into="other")

    answer = sign_in("viewer").get("/dashboard/ahead/?queue=other")

    (use,) = answer.context["quotas"]
    # Both queues count. In the last quarter-hour of a month they are of the next one.
    assert (use.limit, use.booked) in ((100, 12), (100, 0))
    assert f'<a href="/dashboard/targets/{target.pk}/">https://hook.test:443</a>' in answer.content.decode()


def test_panel_beside_the_board_puts_one_list_on_hold(queue, sign_in, place):
    task = place([1, 2], name="mine")
    client = sign_in()

    panel = client.get(
        "/dashboard/queues/default/slow-down/", headers={"HX-Request": "true"}
    ).content.decode()
    assert f'formaction="/dashboard/tasks/{task.pk}/hold/"' in panel
    answer = client.post(f"/dashboard/tasks/{task.pk}/hold/", {"reason": "wait", "board": "default"})

    assert answer.url == "/dashboard/?queue=default"
    task.refresh_from_db()
    assert task.hold_reason == "wait"
    panel = client.get("/dashboard/queues/default/slow-down/").content.decode()
    assert "Or put one list on hold" not in panel
