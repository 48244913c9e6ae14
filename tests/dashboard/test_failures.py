"""Field case 26: "all" is what was shown, no more and no less."""

import re
from datetime import timedelta

import pytest
from django.db.models import F

from dashboard.inputs.forms import ConfirmForm
from dashboard.views import failures as view
from operators.actor import Actor
from scheduling import demo, models, store
from scheduling.core import clock
from scheduling.intake import allocation
from scheduling.lists import external_ids
from scheduling.models import Status
from scheduling.tasks import resend
from tests.dashboard.conftest import squeezed

pytestmark = pytest.mark.django_db

LONG_AGO = timedelta(hours=3)


@pytest.fixture
def failed(place, fail):
    """In `a` 50 that failed; in `b` 20 hours ago and 10 just now, of two kinds."""
    for name in ("a", "b"):
        models.Queue.objects.create(name=name, rpm=120, created_at=store.now())
    then = store.now() - LONG_AGO
    fail(place(range(1000, 1050), into="a", at=then), 404, "no such customer")
    fail(place(range(2000, 2020), into="b", at=then), 404, "no such customer")
    recent = store.now() - 2 * clock.QUARTER
    fail(place(range(3000, 3010), into="b", at=recent), 410, "gone")


def failed_count() -> int:
    return models.Assignment.objects.filter(status=Status.FAILED).count()


def again(client, page, **fields):
    carried = dict(re.findall(r'name="(at|up_to|shown)" value="([^"]+)"', page.content.decode()))
    assert set(carried) == {"at", "up_to", "shown"}
    return client.post(page.request["PATH_INFO"] + "?" + page.request["QUERY_STRING"], {**carried, **fields})


def test_failures_are_grouped_by_queue_answer_and_message(failed, sign_in):
    groups = [group for group, _ in sign_in("viewer").get("/dashboard/failures/").context["groups"]]

    assert [(g.queue, g.http_status, g.message, g.count) for g in groups] == [
        ("a", 404, "no such customer", 50),
        ("b", 404, "no such customer", 20),
        ("b", 410, "gone", 10),
    ]


def test_failure_group_links_to_a_list_of_its_length(failed, sign_in):
    client = sign_in("viewer")

    for group, address in client.get("/dashboard/failures/").context["groups"]:
        assert client.get(address).context["count"] == group.count


def test_retry_takes_exactly_the_shown_failures_less_the_excluded(failed, sign_in, place, fail):
    client = sign_in()
    page = client.get("/dashboard/failures/?queue=b&last=1h")
    keys = re.findall(r'name="left_out" value="(\d+)"', page.content.decode())
    assert page.context["count"] == len(keys) == 10
    fail(place(range(4000, 4005), into="b", at=store.now() - clock.QUARTER), 410, started=store.now())

    answer = again(client, page, left_out=keys[:2], number="8")

    messages = [str(message) for message in client.get(answer.url).context["messages"]]
    assert messages == ["8 IDs are waiting to be retried. 5 newer failures match this filter."]
    assert failed_count() == 80 + 5 - 8
    assert models.Activity.objects.get(verb="retried").count == 8


def test_retry_without_javascript_confirms_a_number_that_differs_from_the_button(failed, sign_in):
    client = sign_in()
    page = client.get("/dashboard/failures/?queue=b&last=1h")
    keys = re.findall(r'name="left_out" value="(\d+)"', page.content.decode())

    question = again(client, page, left_out=[*keys[:2], keys[0], "4611686018427387904"], number="10")

    assert question.status_code == 200
    assert failed_count() == 80
    text = question.content.decode()
    assert "<h1>Retry 8 IDs?</h1>" in text
    fields = re.findall(r'type="hidden" name="(at|up_to|shown|number|left_out)" value="([^"]+)"', text)
    posted = {name: [value for each, value in fields if each == name] for name, _ in fields}
    answer = client.post("/dashboard/failures/?queue=b&last=1h", posted)
    content = [str(message) for message in client.get(answer.url).context["messages"]]
    assert content == ["8 IDs are waiting to be retried."]
    assert failed_count() == 72


def test_ids_excluded_on_one_page_stay_excluded_on_all_pages(failed, sign_in, monkeypatch):
    monkeypatch.setattr(view, "ROWS", 4)
    client = sign_in()
    page, left_out, shown_keys = client.get("/dashboard/failures/?queue=b&last=1h"), [], []
    while True:
        shown = page.content.decode()
        keys = re.findall(r'type="checkbox" name="left_out" value="(\d+)"', shown)
        shown_keys += keys
        left_out.append(keys[0])
        if page.context["next_after"] is None:
            break
        page = again(client, page, left_out=left_out, go_to=str(page.context["next_after"]))
    assert len(shown_keys) == len(set(shown_keys)) == 10
    assert f"Retry {10 - len(left_out) + 1}" in shown
    first = again(client, page, left_out=left_out, go_to="0").content.decode()
    assert re.search(rf'value="{left_out[0]}" aria-label="[^"]+" checked>', first)

    answer = again(client, page, left_out=left_out, number="7")

    messages = [str(message) for message in client.get(answer.url).context["messages"]]
    assert messages == ["7 IDs are waiting to be retried."]
    kept_rows = models.Assignment.objects.filter(pk__in=left_out).values_list("status", flat=True)
    assert set(kept_rows) == {models.Status.FAILED}


def test_number_to_type_excludes_left_out_ids(failed, sign_in, monkeypatch):
    monkeypatch.setattr(ConfirmForm, "ASKED_FROM", 5)
    client = sign_in()
    page = client.get("/dashboard/failures/?queue=b&last=1h")
    keys = re.findall(r'name="left_out" value="(\d+)"', page.content.decode())

    again(client, page, left_out=keys[:2], number="8", count="10")
    assert failed_count() == 80
    again(client, page, left_out=keys[:2], number="8", count="8")
    assert failed_count() == 72


def test_retry_excludes_ids_that_were_in_flight_when_the_page_was_shown(failed, sign_in, place, fail):
    client = sign_in()
    before = store.now() - timedelta(seconds=1)
    page = client.get("/dashboard/failures/?queue=b&last=1h")
    fail(place(range(4000, 4005), into="b", at=store.now() - clock.QUARTER), 410, started=before)

    answer = again(client, page)

    messages = [str(message) for message in client.get(answer.url).context["messages"]]
    assert messages == ["10 IDs are waiting to be retried. 5 newer failures match this filter."]


def test_retry_asks_again_if_somebody_changed_the_list(failed, sign_in):
    client = sign_in()
    page = client.get("/dashboard/failures/?queue=b")
    again(client, client.get("/dashboard/failures/?queue=b&status=410"))

    answer = again(client, page)

    looked = client.get(answer.url)
    assert [str(message) for message in looked.context["messages"]][-1] == (
        "Nothing was retried, because the list has changed: 20 IDs still match. Look again."
    )
    assert looked.context["count"] == 20
    assert failed_count() == 70


def test_retried_ids_take_free_places_and_counters_add_up(failed, sign_in):
    client = sign_in()

    again(client, client.get("/dashboard/failures/?queue=a"))

    moved = models.Assignment.objects.filter(task__queue__name="a")
    assert {row.status for row in moved} == {Status.WAITING}
    assert all(row.minute_at > store.now() for row in moved)
    assert not models.Bucket.objects.filter(filled_count__gt=F("capacity")).exists()
    task = models.Task.objects.get(queue__name="a")
    assert (task.failed_count, task.waiting_count, task.finished_at) == (0, 50, None)
    assert models.Move.objects.filter(task_id=task.pk, reason="operator").count() == 50


def test_retry_of_nothing_changes_and_logs_nothing(failed, sign_in):
    answer = sign_in().post(
        "/dashboard/failures/?queue=a&status=500", {"at": store.now().isoformat()}, follow=True
    )

    assert [str(each) for each in answer.context["messages"]] == [
        "Nothing was retried: these failures no longer exist."
    ]
    assert not models.Activity.objects.filter(verb="retried").exists()


def test_retry_without_a_filter_requires_typing_the_number(failed, sign_in):
    client = sign_in()
    page = client.get("/dashboard/failures/")

    again(client, page)
    assert failed_count() == 80
    again(client, page, count="80")
    assert failed_count() == 0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("queu=b", "queu"),
        ("queue=nosuch", "queue"),
        ("status=abc", "status"),
        ("last=2h", "last"),
        ("task=x", "task"),
    ],
)
def test_unknown_failure_filter_is_refused_and_retries_nothing(failed, sign_in, query, words):
    client = sign_in()

    for answer in (client.get(f"/dashboard/failures/?{query}"), client.post(f"/dashboard/failures/?{query}")):
        assert answer.status_code == 400
        assert words in answer.content.decode()
    assert failed_count() == 80


def test_stopped_retry_goes_no_further(failed, sign_in, monkeypatch):
    monkeypatch.setattr(resend, "SLICE_IDS", 10)
    monkeypatch.setattr(resend, "CLICK_SECONDS", -1.0)
    client = sign_in()

    answer = again(client, client.get("/dashboard/failures/?queue=a"))
    progress = client.get(answer.url)
    offered = client.get("/dashboard/failures/").content.decode()
    assert f'href="/dashboard/acts/{progress.context["run"].name}/"' in offered
    client.post(f"/dashboard/acts/{progress.context['run'].name}/stop/")
    resend.resume_retry(_job(), store.now)

    assert progress.context["run"].number == progress.context["left"] == 50
    assert failed_count() == 80
    assert "stopped, 50 are unchanged" in squeezed(client.get(answer.url))


def test_stopping_an_ended_retry_does_nothing_and_an_unknown_one_is_404(failed, sign_in):
    client = sign_in()
    again(client, client.get("/dashboard/failures/?queue=a"))
    run = models.BulkAct.objects.get(kind=models.BulkActKind.RETRY_FAILED)

    client.post(f"/dashboard/acts/{run.name}/stop/")

    run.refresh_from_db()
    assert run.stopped_at is None
    assert client.post("/dashboard/acts/nosuch/stop/").status_code == 404
    assert client.get("/dashboard/failures/retrying/?run=nosuch").status_code == 404
    assert not models.Activity.objects.filter(verb="stopped_retrying").exists()


def test_retry_counts_only_the_ids_it_retried_itself(failed, sign_in, monkeypatch):
    monkeypatch.setattr(resend, "SLICE_IDS", 10)
    monkeypatch.setattr(resend, "CLICK_SECONDS", -1.0)
    client = sign_in()
    answer = again(client, client.get("/dashboard/failures/?queue=a"))
    job = _job()
    monkeypatch.setattr(resend, "CLICK_SECONDS", 5.0)
    again(client, client.get("/dashboard/failures/?queue=a"))

    resend.resume_retry(job, store.now)

    page = squeezed(client.get(answer.url))
    assert "<b>0</b> of 50 are waiting to be retried; the other 50 were retried or cancelled" in page
    assert 'hx-trigger="every 2s"' not in page


def test_retry_finished_by_a_job_counts_newer_failures(failed, place, fail, sign_in, monkeypatch):
    monkeypatch.setattr(resend, "CLICK_SECONDS", -1.0)
    client = sign_in()
    answer = again(client, client.get("/dashboard/failures/?queue=a"))
    fail(place(range(9000, 9005), into="a", at=store.now() - clock.QUARTER), 404, started=store.now())

    resend.resume_retry(_job(), store.now)

    page = squeezed(client.get(answer.url))
    assert "<b>50</b> of 50 are waiting to be retried: all of them. 5 newer failures match" in page


def test_empty_message_stays_a_filter_through_every_link_and_form(place, fail, sign_in, monkeypatch):
    """Without it the list to come back to, and the filter's own form, would mean any message."""
    monkeypatch.setattr(resend, "CLICK_SECONDS", -1.0)
    then = store.now() - LONG_AGO
    fail(place(range(1000, 1003), at=then), 404, "")
    fail(place(range(2000, 2020), at=then), 404, "no such customer")
    client = sign_in()
    page = client.get("/dashboard/failures/?queue=default&status=404&message=")
    assert page.context["count"] == 3
    assert 'name="message" value=""' in page.content.decode()

    answer = again(client, page)

    assert client.get(answer.url).context["run"].number == 3
    back = client.get(client.get(answer.url).context["back"])
    assert back.context["count"] == 3


def _job() -> str:
    from django_q.models import OrmQ

    jobs = [job.task for job in OrmQ.objects.all()]
    return next(job["args"][0] for job in jobs if job["func"].endswith("retry_failed"))


def test_job_continues_where_the_click_stopped(failed, sign_in, monkeypatch):
    monkeypatch.setattr(resend, "SLICE_IDS", 10)
    monkeypatch.setattr(resend, "CLICK_SECONDS", -1.0)
    client = sign_in()

    again(client, client.get("/dashboard/failures/?queue=a"))
    resend.resume_retry(_job(), store.now)

    assert failed_count() == 30


def test_retry_by_a_viewer_is_refused(failed, sign_in):
    client = sign_in("viewer")

    answer = again(client, client.get("/dashboard/failures/?queue=a"))

    assert answer.status_code == 403
    assert failed_count() == 80


def test_failures_export_follows_the_filter_and_is_complete(failed, sign_in):
    answer = sign_in("viewer").get("/dashboard/failures/?queue=b&format=csv")

    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert len(lines) == 1 + 30
    assert lines[0].startswith("user_id,task_id,task_name")


def test_failure_shows_the_answer_or_the_address_of_a_redirect(place, fail, sign_in):
    then = store.now() - 2 * clock.QUARTER
    task = place([1, 2, 3], at=then)
    fail(task, 404, "no such customer")
    attempts = models.Attempt.objects.filter(task_id=task.pk).order_by("user_id")
    attempts.filter(user_id=1).update(error="answered 404")
    where = "answers 308 to https://hook.test/in/: put this address into the queue"
    attempts.filter(user_id=2).update(http_status=308, error=where, answer="")
    attempts.filter(user_id=3).update(error="answered 404", answer="")
    client = sign_in("viewer")

    groups = {group.message for group, _ in client.get("/dashboard/failures/").context["groups"]}

    assert groups == {"no such customer", where, "answered 404"}
    assert where in client.get("/dashboard/ids/2/").content.decode()
    assert "answered 404" in client.get("/dashboard/ids/1/").content.decode()
    assert "no such customer" in client.get("/dashboard/ids/1/").content.decode()


def test_failures_are_filtered_by_an_id_that_is_text(sign_in, fail, queue):
    numbers = external_ids.number(["ann@example.com", "bo@example.com"])
    task = demo.submit("default", "x", list(numbers), by=Actor.system(), now=store.now)
    allocation.write_segments(store.now)
    task.refresh_from_db()
    fail(task, 404, "no such customer")
    client = sign_in()
    page = client.get("/dashboard/failures/?user=bo@example.com").content.decode()
    assert "bo@example.com" in page
    assert "ann@example.com" not in page
    assert client.get("/dashboard/failures/?user=nobody@example.com").status_code == 200
    assert client.get("/dashboard/failures/?user=0").status_code == 400
