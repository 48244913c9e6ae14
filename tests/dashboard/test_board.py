import gzip
import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django_q.models import OrmQ

from dashboard.board import strip
from dashboard.board.viewpoint import Viewpoint
from dashboard.drawing import charts
from operators.actor import Actor
from scheduling import demo, models, store
from scheduling.core import clock, limits
from scheduling.dispatch import overdue
from scheduling.jobqueue import cluster
from scheduling.reports import board, health, receipts
from scheduling.tasks import cancellation
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
def test_poll_is_compressed_for_browsers_that_accept_it(sign_in, queue, accept, is_compressed):
    client = sign_in("viewer")
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

    found = board.snapshot("default", at=NOON).board()

    assert found.filling.filled == 300
    assert [minute.filled for minute in found.filling.minutes[:4]] == [120, 120, 60, 0]
    assert found.running.filled == 0


def test_filling_window_runs_a_quarter_later(place):
    place(range(1, 301), at=NOON)

    found = board.snapshot("default", at=NOON + clock.QUARTER).board()

    assert found.running.filled == 300
    assert found.filling.filled == 0


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

    found = board.snapshot("default", at=NOON + clock.QUARTER + timedelta(minutes=10)).board()

    assert found.late_count == 300
    assert found.late[0].since == clock.quarter_start(NOON) + clock.QUARTER


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

    on_board, checked = board.snapshot("default", at=at).board().health, health.assess(at)

    assert bool(on_board.missing) == any("silent" in said for said in checked.problems)
    assert on_board.quarter_is_late == any("quarter-hour" in said for said in checked.problems)


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
    found = board.snapshot("default", at=clock.quarter_start(NOON) + timedelta(minutes=5)).board()
    said = "".join(strip._silence(found.health, Viewpoint.at(found.at)))
    assert re.search(r"last quarter-hour run: .*<span data-ago=\"\d+\">20 min</span> ago", said)


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
        said = re.sub(r"<[^>]+>", "", page.split('id="replanned"')[1].split("</div>")[0])
        since = f"{task.first_minute_at:%H:%M}"
        assert re.search(rf"30 IDs of default were late, since {since}, and run at \d\d:\d\d", said)
        assert page.index('id="replanned"') < page.index('id="board"')
    again = client.get("/dashboard/ahead/?queue=other", headers={"HX-Request": "true"}).content.decode()
    assert 'id="replanned" hx-swap-oob="true"' in again


NUMBERED = re.compile(
    r'<a (?:id="[^"]+" |class="[^"]+" )?href="([^"]+)"[^>]*>(?:<b>)?([\d,]+)(?:</b>)?[ <a-zA-Z]'
)


def numbers(page: str) -> list[tuple[str, int]]:
    """(address, number) of each link to a list of IDs that says a number."""
    found = [(html.unescape(href), int(said.replace(",", ""))) for href, said in NUMBERED.findall(page)]
    return [(href, said) for href, said in found if "/drill-down/" in href or "#ids" in href]


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

    found = numbers(poll(client, query=query).content.decode())

    kinds = {re.search(r"(?:kind|status)=(\w+)|$", address)[1] for address, _ in found}
    assert {"failed", "sent", "waiting", "cancelled", "late", None} <= kinds
    for address, number in found:
        assert number == length(client, address), address


def test_moved_ids_are_listed_with_their_new_minute(place, sign_in):
    place(range(1, 31), at=store.now() - 2 * clock.QUARTER)
    window = clock.quarter_start(store.now()) - 2 * clock.QUARTER
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
    window.receipt, window.totalled_at = receipts.of_window(window, buckets), store.now()
    window.save()
    client = sign_in("viewer")
    page = client.get(f"/dashboard/windows/default/{window.starts_at:%Y-%m-%dT%H:%MZ}/").content.decode()

    [address] = re.findall(r'href="([^"]*kind=repeats)">2</a>', page)

    address = html.unescape(address)
    shown = client.get(address).content.decode()
    assert "2 IDs: may have gone out twice" in shown
    assert '<a class="id" href="/dashboard/ids/9/">9</a>' in shown
    assert length(client, address) == 2


def test_drill_down_says_while_rows_are_being_written(queue, sign_in):
    demo.submit("default", "a list", list(range(1, 11)), by=Actor.system(), now=store.now)
    client = sign_in("viewer")

    [(address, number)] = [
        found for found in numbers(poll(client).content.decode()) if "kind=waiting" in found[0]
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
    ("count", "said"),
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
def test_number_above_a_bar_fits_its_width(count, said):
    assert charts.shortest(count) == said


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


def test_alarms_are_told_to_every_page_without_signs_and_buttons(queue, sign_in):
    models.Queue.objects.create(name="held", rpm=5, created_at=store.now(), paused_at=store.now())
    client = sign_in("operator")

    alarms = client.get("/dashboard/alarms/").json()["alarms"]

    assert any(alarm.startswith("held paused since ") for alarm in alarms), alarms
    assert not any("Resume" in alarm or "‖" in alarm or "<" in alarm for alarm in alarms)
    assert (
        '<meta name="alarms" content="/dashboard/alarms/">'
        in client.get("/dashboard/tasks/").content.decode()
    )
