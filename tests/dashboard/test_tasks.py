import html
import re
from datetime import timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from dashboard import formatting
from scheduling import demo, models, store
from scheduling.core import clock
from scheduling.reports import stories
from scheduling.tasks import bulk_cancel, resend
from tests.dashboard.conftest import squeezed

pytestmark = pytest.mark.django_db


def test_task_list_is_filtered_by_its_address(place, sign_in):
    place([1], name="Spring renewals")
    place([2], name="Address check")
    client = sign_in("viewer")

    result = client.get("/dashboard/tasks/?q=Spring&state=placed&queue=default").context["tasks"]

    assert [line.task.name for line in result] == ["Spring renewals"]


@pytest.mark.parametrize(
    "query", ["quue=default", "queue=nosuch", "state=lost", "since=yesterday", "size=7", "before=x"]
)
def test_unknown_task_filter_is_refused_by_name(place, sign_in, query):
    answer = sign_in("viewer").get(f"/dashboard/tasks/?{query}")

    assert answer.status_code == 400
    assert query.split("=")[0] in answer.content.decode()


def test_pages_skip_and_repeat_no_task_while_new_ones_arrive(place, sign_in):
    for number in range(60):
        place([number + 1], name=f"list {number}")
    client = sign_in("viewer")
    shown_keys, before = [], ""

    while before is not None:
        page = client.get(f"/dashboard/tasks/?size=25{f'&before={before}' if before else ''}").context
        shown_keys += [line.task.pk for line in page["tasks"]]
        before = page["page"].next_before
        place([1000 + len(shown_keys)], name="a newer one")

    assert len(shown_keys) == len(set(shown_keys)) == 60


@pytest.mark.parametrize(("sort", "name"), [("ids", "list {}"), ("name", "the same"), ("name", "list {}")])
def test_sorted_pages_skip_and_repeat_no_task_while_rows_arrive_in_front(place, sign_in, sort, name):
    """Most have the same value; what comes in meanwhile sorts before them, and one is renamed on the way."""
    for number in range(60):
        place([number + 1], name=name.format(number))
    own = set(models.Task.objects.values_list("pk", flat=True))
    client = sign_in("viewer")
    shown_keys, query = [], ""

    while query is not None:
        page = client.get(f"/dashboard/tasks/?size=25&sort={sort}{query}").context
        shown = [line.task.pk for line in page["tasks"]]
        shown_keys += shown
        query = page["page"].next_before and f"&{urlencode({'before': page['page'].next_before})}"
        place([1000 + len(shown_keys), 2000 + len(shown_keys)], name="a newer one, and larger")
        models.Task.objects.filter(pk=shown[-1]).update(name="a renamed one")

    assert len(shown_keys) == len(set(shown_keys))
    assert own <= set(shown_keys)


def test_page_size_is_remembered(place, sign_in):
    client = sign_in("viewer")

    client.get("/dashboard/tasks/?size=25")

    assert client.get("/dashboard/tasks/").context["size"] == 25


def test_export_contains_all_matching_tasks_and_no_formulas(place, sign_in):
    place([1], name="=cmd()")
    place([2], name="another")

    answer = sign_in("viewer").get("/dashboard/tasks/?format=csv")

    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert len(lines) == 3
    assert ",'=cmd()," in lines[2]


def test_ids_are_text_in_exports_past_what_javascript_can_count(place, sign_in):
    task = place([9007199254740993])

    answer = sign_in("viewer").get(f"/dashboard/tasks/{task.pk}/?format=ndjson")

    assert b'"user_id": "9007199254740993"' in b"".join(answer.streaming_content)


def test_every_count_of_a_task_links_to_a_list_of_that_length(place, fail, sign_in):
    task = place(range(1, 40), at=store.now() - 2 * clock.QUARTER)
    fail(task)
    client = sign_in("viewer")

    assert len(client.get(f"/dashboard/tasks/{task.pk}/?status=failed").context["places"].rows) == 39
    assert len(client.get(f"/dashboard/tasks/{task.pk}/?status=waiting").context["places"].rows) == 0


@pytest.mark.parametrize(
    ("ids", "span"), [(14, "1 minute"), (150, "15 minutes"), (2_000, "1 hour"), (9_000, "6 hours")]
)
def test_task_bars_cover_its_whole_time_and_link_to_their_ids(queue, place, sign_in, ids, span):
    models.Queue.objects.create(name="slow", rpm=2, overflow="carry_over", created_at=store.now())
    task = place(range(1, ids + 1), into="slow")
    client = sign_in("viewer")
    page = client.get(f"/dashboard/tasks/{task.pk}/")
    chart = page.context["chart"]

    assert len(chart.bars) <= 75
    assert sum(bar.counts.filled for bar in chart.bars) == ids
    assert formatting.whole_minutes(chart.span) == span
    matches = re.findall(
        r'<a href="([^"]+)" id="task-\d+"><title>[^:]+:\d\d: ([\d,]+) ID', page.content.decode()
    )
    assert len(matches) == sum(bar.counts.filled > 0 for bar in chart.bars)
    for address, count in (matches[0], matches[-1]):
        listed = client.get(html.unescape(address).split("#")[0] + "&format=csv").getvalue().decode()
        assert len(listed.splitlines()) - 1 == int(count.replace(",", ""))


def test_minute_of_a_task_excludes_cancelled_ids(place, sign_in):
    task = place(range(1, 11))
    models.Assignment.objects.filter(task=task, user_id__lte=4).update(status=models.Status.CANCELLED)
    client = sign_in("viewer")
    minute = f"{task.first_minute_at:%Y-%m-%dT%H:%MZ}"
    listed = client.get(f"/dashboard/tasks/{task.pk}/?minute={minute}&format=csv").getvalue().decode()
    assert len(listed.splitlines()) - 1 == 6


def test_cancel_of_many_ids_requires_the_number(place, sign_in):
    task = place(range(1, 1500))
    client = sign_in()

    client.post(f"/dashboard/tasks/{task.pk}/cancel/")
    task.refresh_from_db()
    assert task.cancelled_at is None

    client.post(f"/dashboard/tasks/{task.pk}/cancel/", {"count": "1,499"})
    task.refresh_from_db()
    assert task.cancelled_count == 1499


@pytest.mark.parametrize(
    "address", ["tasks/{}/cancel/", "tasks/cancel/?q=S&up_to={}&at=2026-11-25T12:00:00Z"]
)
def test_cancel_accepts_a_number_that_has_fallen_and_asks_again_if_it_grew(place, sign_in, address):
    """A running task has less to cancel each second: the number of the question counts."""
    task = place(range(1, 1500), name="Spring")
    address = f"/dashboard/{address.format(task.pk)}"
    client = sign_in()
    assert 'name="asked" value="1499"' in client.get(address).content.decode()

    again = client.post(address, {"count": "1200", "asked": "1200"}).content.decode()
    assert "Type 1,499 to confirm. Nothing has been changed." in again
    assert not models.Task.objects.filter(cancelled_at__isnull=False).exists()
    # Asked when nine more of them waited.
    assert client.post(address, {"count": "1508", "asked": "1508"}).status_code == 302

    task.refresh_from_db()
    assert task.cancelled_count == 1499


def test_second_cancel_says_that_the_task_was_already_cancelled(place, sign_in):
    task = place(range(1, 30))
    client = sign_in()
    client.post(f"/dashboard/tasks/{task.pk}/cancel/")

    again = client.post(f"/dashboard/tasks/{task.pk}/cancel/", follow=True)

    assert [str(each) for each in again.context["messages"]][-1] == (
        "The task had already been cancelled; nothing was changed."
    )
    assert models.Activity.objects.filter(verb="cancelled").count() == 1


def test_bulk_cancel_excludes_tasks_that_came_later(place, sign_in):
    for number in range(3):
        place([number + 1], name=f"Spring {number}")
    place([9], name="another")
    client = sign_in()
    address = client.get("/dashboard/tasks/?q=Spring").context["cancel_all"]
    place([10], name="Spring, later")

    assert client.get(address).context["count"].tasks == 3
    client.post(address)

    cancelled = models.Task.objects.filter(cancelled_at__isnull=False)
    assert sorted(cancelled.values_list("name", flat=True)) == ["Spring 0", "Spring 1", "Spring 2"]


def test_stale_rename_is_reported_and_changes_nothing(place, sign_in):
    task = place([1], name="before")
    models.Task.objects.update(version=5)

    answer = sign_in().post(
        f"/dashboard/tasks/{task.pk}/rename/", {"name": "after", "version": "1"}, follow=True
    )

    task.refresh_from_db()
    assert task.name == "before"
    assert "changed in the meantime" in answer.content.decode()


def test_replacement_keeps_adds_and_cancels_what_the_preview_said(place, sign_in):
    task = place([1, 2, 3, 4], name="a list")
    client = sign_in()

    address = client.post(f"/dashboard/tasks/{task.pk}/replace/", {"payload": "3 4 5"}).url
    shown = client.get(address).context["against"]
    client.post(address)

    assert (shown.kept, shown.added, shown.cancelled) == (2, 1, 2)
    task.refresh_from_db()
    assert (task.waiting_count, task.cancelled_count) == (3, 2)
    assert not models.IdList.objects.filter(accepted_at=None).exists()


def test_id_page_tells_its_story_or_that_no_list_contained_it(place, sign_in):
    place([42], name="the only list")
    client = sign_in("viewer")

    assert "the only list" in client.get("/dashboard/ids/42/").content.decode()
    assert "No list contained this ID" in client.get("/dashboard/ids/43/").content.decode()
    assert client.get("/dashboard/ids/?q=%2042 ").url == "/dashboard/ids/42/"
    assert "is not allowed" in client.get("/dashboard/ids/?q=4e1").content.decode()
    assert client.get(f"/dashboard/ids/{10**30}/").status_code == 200


def test_newer_tasks_are_offered_and_move_no_row(place, sign_in):
    place([1], name="Spring 1")
    client = sign_in("viewer")
    address = client.get("/dashboard/tasks/?q=Spring").context["newer_url"]

    assert client.get(address).status_code == 204
    place([2], name="another")
    assert client.get(address).status_code == 204
    place([3], name="Spring 2")
    assert "1 new" in client.get(address).content.decode()


def test_resend_sends_succeeded_ids_again_once(place, sign_in):
    task = place(range(1, 11), at=store.now() - 2 * clock.QUARTER)
    demo.catch_up(task.first_minute_at, at=store.now())
    client = sign_in()
    response = client.get(f"/dashboard/tasks/{task.pk}/send-again/").context

    for _ in range(2):
        client.post(f"/dashboard/tasks/{task.pk}/send-again/", {"at": response["at"].isoformat()})

    task.refresh_from_db()
    assert response["number"] == 10
    assert (task.waiting_count, task.succeeded_count, task.finished_at) == (10, 0, None)
    assert models.Move.objects.filter(task_id=task.pk, reason="operator").count() == 10


def test_operation_continued_by_a_job_is_followed_and_stopped(place, sign_in, monkeypatch):
    monkeypatch.setattr(resend, "CLICK_SECONDS", -1.0)
    monkeypatch.setattr(bulk_cancel, "CLICK_SECONDS", -1.0)
    task = place(range(1, 11), at=store.now() - 2 * clock.QUARTER)
    demo.catch_up(task.first_minute_at, at=store.now())
    place([20], name="Spring 1")
    client = sign_in()
    response = client.get(f"/dashboard/tasks/{task.pk}/send-again/").context
    sending = client.post(f"/dashboard/tasks/{task.pk}/send-again/", {"at": response["at"].isoformat()}).url
    cancel = client.get("/dashboard/tasks/?q=Spring").context["cancel_all"]
    cancelling = client.post(cancel).url

    assert "<b>0</b> of 10 are waiting for a free place; 10 to go" in squeezed(client.get(sending))
    assert "<b>0</b> of 1 tasks have been cancelled; 1 to go" in squeezed(client.get(cancelling))
    assert f'href="{sending}"' in client.get(f"/dashboard/tasks/{task.pk}/").content.decode()
    assert f'href="{cancelling}"' in client.get("/dashboard/tasks/").content.decode()
    for address in (sending, cancelling):
        client.post(f"{address}stop/")
        ended = client.get(address, headers={"HX-Request": "true"})
        assert ended.status_code == 286
        assert "unchanged" in ended.content.decode()
    assert set(models.Activity.objects.filter(verb__startswith="stopped").values_list("verb", flat=True)) == {
        "stopped_sending_again",
        "stopped_cancelling",
    }


def poll(client, task, version: str = ""):
    return client.get(
        f"/dashboard/tasks/{task.pk}/",
        {"version": version} if version else {},
        headers={"HX-Request": "true"},
    )


def test_task_poll_returns_only_what_changed(place, fail, sign_in, django_assert_num_queries, monkeypatch):
    at = store.now()
    monkeypatch.setattr(store, "now", lambda: at)
    task = place(range(1, 40), at=at - 2 * clock.QUARTER)
    client = sign_in("viewer")
    page = client.get(f"/dashboard/tasks/{task.pk}/")
    version = page.context["version"]
    assert f'value="{version}"' in page.content.decode()

    # Session, operator, and one look.
    with django_assert_num_queries(3):
        assert poll(client, task, version).status_code == 204
    fail(task, 404)
    moved = poll(client, task, version)

    assert "39 failed" in moved.content.decode()
    assert "<html" not in moved.content.decode()
    assert moved.headers["Vary"].count("HX-Request") == 1


def test_task_poll_ends_when_the_task_does(place, fail, sign_in):
    task = place(range(1, 5), at=store.now() - 2 * clock.QUARTER)
    client = sign_in("viewer")
    assert poll(client, task).status_code == 200
    assert "hx-trigger" in client.get(f"/dashboard/tasks/{task.pk}/").content.decode()

    fail(task, 404)

    # htmx stops at this status, and takes its content.
    assert poll(client, task).status_code == 286
    assert "hx-trigger" not in client.get(f"/dashboard/tasks/{task.pk}/").content.decode()


def test_page_and_poll_of_a_missing_task_are_404(queue, sign_in):
    client = sign_in("viewer")
    assert client.get("/dashboard/tasks/77/").status_code == 404
    assert client.get("/dashboard/tasks/77/", headers={"HX-Request": "true"}).status_code == 404


def test_moved_ids_move_the_bars(place, sign_in):
    task = place(range(1, 5))
    client = sign_in("viewer")
    version = client.get(f"/dashboard/tasks/{task.pk}/").context["version"]

    models.TaskBucket.objects.filter(task=task).update(moved_count=1)

    assert poll(client, task, version).status_code == 200


def test_unavailable_actions_are_disabled_with_the_reason(place, fail, sign_in):
    task = place(range(1, 5), at=store.now() - 2 * clock.QUARTER)
    client = sign_in()
    before = client.get(f"/dashboard/tasks/{task.pk}/").content.decode()
    fail(task, 404)
    after = client.get(f"/dashboard/tasks/{task.pk}/").content.decode()

    assert 'disabled title="none of its IDs has failed permanently."' in before
    assert f'href="/dashboard/failures/?task={task.pk}">Retry 4 failed' in after
    assert 'disabled title="the task is done."' in after


def test_replacement_that_cancels_many_ids_requires_the_number(place, sign_in):
    task = place(range(1, 1500))
    client = sign_in()
    address = client.post(f"/dashboard/tasks/{task.pk}/replace/", {"payload": "3 x 4"}).url
    page = client.get(address).content.decode()
    assert "To confirm, type 1,497" in page
    faults = address.replace(f"tasks/{task.pk}/replace", "upload") + "faults.csv"
    assert f'href="{faults}"' in page
    assert b"".join(client.get(faults).streaming_content).count(b"not a number") == 1

    assert "Type 1,497 to confirm" in client.post(address, {"count": "1", "asked": "1497"}).content.decode()
    client.post(address, {"count": "1,497", "asked": "1497"})

    task.refresh_from_db()
    assert (task.waiting_count, task.cancelled_count) == (2, 1497)


def test_id_story_has_times_in_the_operators_zone(place, sign_in):
    task = place([50])
    client = sign_in("viewer", time_zone="Asia/Kolkata")
    minute = task.first_minute_at.astimezone(ZoneInfo("Asia/Kolkata"))

    page = client.get("/dashboard/ids/50/").content.decode()
    assert re.search(rf"Waits for its minute, (\d+ \w+ )?{minute:%H:%M}\.", page)
    models.Queue.objects.update(paused_at=store.now())
    assert "UTC." not in client.get("/dashboard/ids/50/").content.decode()


def test_id_story_includes_a_request_that_succeeded_at_once(place, sign_in):
    task = place([50], at=store.now() - 2 * clock.QUARTER)
    models.Assignment.objects.update(status=models.Status.SUCCEEDED, attempts=1, started_after_ms=1500)
    started = task.first_minute_at + timedelta(milliseconds=1500)

    (message,) = stories.stories(50, at=store.now())
    event = message.history[-1]
    assert (event.kind, event.at, event.details["number"]) == ("attempt", started, 1)
    assert "request 1 was sent and succeeded." in sign_in("viewer").get("/dashboard/ids/50/").content.decode()

    models.Attempt.objects.create(
        task_id=task.pk,
        user_id=50,
        number=1,
        bucket_id=message.place.bucket_id,
        started_at=started,
        answer="cut",
    )
    assert len(stories.stories(50, at=store.now())[0].history) == len(message.history)


def test_id_in_many_tasks_says_so_and_every_task_can_be_shown(place, sign_in, monkeypatch):
    monkeypatch.setattr("dashboard.views.ids.TASKS_SHOWN", 2)
    first, *_ = [place([50], name=f"list {n}") for n in range(3)]
    client = sign_in("viewer")

    page = client.get("/dashboard/ids/50/").content.decode()
    oldest = client.get(f"/dashboard/ids/50/?task={first.pk}")

    assert "in more than 2 tasks" in page
    assert "The newest 2 of them" in page
    assert oldest.context["story"].task == first
    assert client.get("/dashboard/ids/50/?task=9223372036854775807").status_code == 400


def test_task_on_hold_offers_to_continue_or_to_cancel_the_rest(queue, sign_in, place):
    client, task = sign_in(), place([1, 2])
    page, question = f"/dashboard/tasks/{task.pk}/", f"/dashboard/tasks/{task.pk}/hold/"
    assert "Put on hold" in client.get(question).content.decode()

    client.post(question, {"reason": "wrong text"})

    assert "On hold since" in squeezed(client.get(page))
    shown = squeezed(client.get(question))
    assert "wrong text" in shown
    assert "All IDs keep their minutes" in shown
    assert "2 waiting IDs are cancelled" in shown
    client.post(f"/dashboard/tasks/{task.pk}/continue/")
    assert "On hold since" not in squeezed(client.get(page))


def select(client, act: str, *tasks: models.Task, **more: str):
    return client.post(
        "/dashboard/tasks/selected/", {"act": act, "id": [task.pk for task in tasks], **more}, follow=True
    )


def test_selected_tasks_are_cancelled_after_a_question_that_says_how_many_ids(place, sign_in):
    first, second, third = place([1, 2], name="first"), place([3], name="second"), place([4], name="third")
    client = sign_in()
    assert client.get("/dashboard/tasks/").content.decode().count('form="selected"') == 3

    question = squeezed(select(client, "cancel", first, second))
    assert "Cancel 2 tasks?" in question
    assert "<b>3 IDs</b> of them are waiting and will be cancelled." in question
    assert not models.Task.objects.exclude(cancelled_at=None).exists()
    assert "2 tasks cancelled." in squeezed(select(client, "cancel", first, second, sure="on", asked="3"))

    assert [*models.Task.objects.filter(cancelled_at=None)] == [third]


def test_selected_tasks_are_put_on_hold_and_continued(place, sign_in):
    tasks = place([1, 2], name="first"), place([3], name="second")
    client = sign_in()

    held = squeezed(select(client, "hold", *tasks, sure="on", reason="holiday"))
    assert "2 tasks: on hold." in held
    assert {task.hold_reason for task in models.Task.objects.all()} == {"holiday"}
    again = squeezed(select(client, "hold", *tasks, sure="on"))
    assert "“first”: The task is already on hold" in again
    assert "2 tasks: continued." in squeezed(select(client, "continue", *tasks, sure="on"))
    assert not models.Task.objects.exclude(held_at=None).exists()


def test_failed_ids_of_selected_tasks_are_retried(place, fail, sign_in):
    then = store.now() - timedelta(hours=1)
    first, second = place([1, 2], name="first", at=then), place([3], name="second", at=then)
    fail(first, 500)
    client = sign_in()

    assert "<b>3 IDs</b> of them are failed" in squeezed(select(client, "retry", first, second))
    done = squeezed(select(client, "retry", first, second, sure="on"))
    assert "“first”: 2 IDs are waiting to be retried; “second”: 1 ID is waiting to be retried." in done


def test_selection_of_many_ids_asks_for_their_number(place, sign_in):
    task = place(range(1, 1_501))

    answer = squeezed(select(sign_in(), "cancel", task, sure="on", asked="1500"))

    assert "To confirm, type 1,500" in answer
    assert models.Task.objects.get().cancelled_at is None


@pytest.mark.parametrize("posted", [{"act": "erase"}, {"act": "cancel", "id": ["x"]}])
def test_selection_that_makes_no_sense_is_refused(queue, sign_in, posted):
    assert sign_in().post("/dashboard/tasks/selected/", posted).status_code == 400


def test_empty_selection_is_explained(queue, sign_in):
    assert "Tick the tasks first." in squeezed(select(sign_in(), "cancel"))


def test_viewer_has_no_ticks(place, sign_in):
    place([1])

    assert 'form="selected"' not in sign_in("viewer").get("/dashboard/tasks/").content.decode()
