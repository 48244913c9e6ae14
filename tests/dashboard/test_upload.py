import json
import re
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from dashboard.views.preview import STOPS
from operators.actor import Actor
from scheduling import models, store
from scheduling.core import clock
from scheduling.intake import acceptance, allocation
from scheduling.lists import stored_lists
from scheduling.tasks import cancellation
from tests.dashboard.conftest import squeezed
from tests.scheduling.parsing.sheets import number, sheet_xml, text, workbook

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def in_the_middle(monkeypatch):
    """Five minutes into a quarter-hour: near its end, its free places and the next one's are the same."""
    at = clock.quarter_start(store.now()) + timedelta(minutes=5, seconds=20)
    monkeypatch.setattr(store, "now", lambda: at)


def csv(text: str, name: str = "renewals.csv") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, text.encode(), content_type="text/csv")


def upload(client, **fields):
    return client.post("/dashboard/upload/", {"queue": "default", "task_name": "", **fields})


def drafts():
    return models.IdList.objects.filter(accepted_at=None)


def test_pasted_list_becomes_a_draft_only(queue, sign_in):
    answer = upload(sign_in(), payload="1001, 1002\n1003")

    draft = drafts().get()
    assert answer.url == f"/dashboard/upload/{draft.pk}/"
    assert draft.ids_count == 3
    assert not models.Task.objects.exists()
    assert not models.User.objects.exists()


def test_file_name_becomes_the_task_name(queue, sign_in):
    upload(sign_in(), file=csv("user_id\n1\n2\n"))

    assert drafts().get().about["task_name"] == "renewals"


def test_preview_lists_faults_by_line_and_places_the_rest(queue, sign_in):
    client = sign_in()
    page = client.get(upload(client, file=csv("user_id\n1\n1e+05\n2\n")).url).content.decode()

    assert "line 3" in page
    assert "1e+05" in page
    assert "Place 2 IDs in default without the 1 fault" in " ".join(page.split())


def test_faults_are_downloaded_as_csv_without_formulas(queue, sign_in):
    client = sign_in()
    address = upload(client, file=csv("user_id\n1\n=cmd()\n")).url

    content = b"".join(client.get(f"{address}faults.csv").streaming_content).decode()

    assert content.splitlines()[0] == "line,column,index,sheet,cell,token,reason"
    assert len(content.splitlines()) == 2
    assert ",'=cmd()," in content
    (line,) = b"".join(client.get(f"{address}faults.ndjson").streaming_content).decode().splitlines()
    assert json.loads(line)["token"] == "=cmd()"
    assert "faults.ndjson" in client.get(address).content.decode()


def test_placing_follows_the_preview(queue, sign_in):
    client = sign_in()
    address = upload(client, payload="1 2 3 4 5").url
    promised = client.get(address).context["preview"].plan

    answer = commit(client, address)

    task = models.Task.objects.get()
    assert answer.url == f"/dashboard/tasks/{task.pk}/"
    assert task.ids_count == 5
    assert task.first_minute_at == promised.first_at
    assert not drafts().exists()


def commit(client, address, **changed):
    return client.post(address, {**_promised(client, address), **changed})


def _promised(client, address) -> dict[str, str]:
    page = client.get(address).content.decode().split("data-commit")[1]
    return dict(
        re.findall(r'name="(queue|start|not_before|peak|at_rpm|first|last|seen_at)" value="([^"]*)"', page)
    )


def test_worsened_plan_shows_the_new_preview_before_placing(queue, sign_in, place):
    client = sign_in()
    address = upload(client, payload=" ".join(map(str, range(1, 101)))).url
    fields = _promised(client, address)
    place(range(5000, 5000 + 120 * 15))

    answer = client.post(address, fields)

    assert answer.status_code == 200
    assert "Other lists came in in the meantime" in answer.content.decode()
    assert models.Task.objects.count() == 1
    assert client.post(address, {"queue": "default"}).status_code == 302


def test_fuller_minute_within_rpm_shows_the_new_preview_first(queue, sign_in, place):
    client = sign_in()
    address = upload(client, payload="1 2").url
    fields = _promised(client, address)
    place([70, 71, 72])

    answer = client.post(address, fields)

    (sentence,) = [str(message) for message in answer.context["messages"]]
    assert sentence.startswith("Other lists came in in the meantime: the fullest minute would now have 5")
    assert not models.Task.objects.filter(ids_count=2).exists()


def test_improved_plan_is_reported(queue, sign_in, place):
    other = place(range(100, 100 + 130))
    client = sign_in()
    address = upload(client, payload="1 2").url
    fields = _promised(client, address)
    cancellation.cancel(other, by=Actor.system(), now=store.now)

    answer = client.post(address, fields, follow=True)

    (sentence,) = [str(message) for message in answer.context["messages"]]
    assert "at most 2 a minute. The preview said 120 a minute, from " in sentence
    assert sentence.endswith(": other lists came in or were cancelled.")


def test_preview_that_was_placed_leads_to_its_task(queue, sign_in):
    client = sign_in()
    address = upload(client, payload="1 2").url
    commit(client, address)

    assert client.get(address).url == f"/dashboard/tasks/{models.Task.objects.get().pk}/"
    assert client.post(address, {"queue": "default"}).status_code in (200, 302)
    assert models.Task.objects.count() == 1


def test_preview_at_another_rpm_has_no_button(queue, sign_in):
    client = sign_in()
    address = upload(client, payload=" ".join(map(str, range(1, 3001)))).url

    page = client.get(address, {"rpm": "240"})

    assert page.context["preview"].plan.peak_per_minute == 240
    assert "this is only a preview" in page.content.decode()
    assert "Place 3,000 IDs" not in page.content.decode()
    queue.refresh_from_db()
    assert queue.rpm == 120


def test_ids_waiting_in_other_tasks_are_counted_named_and_excluded(queue, sign_in, place):
    other = place([2, 3], name="the other")
    client = sign_in()
    address = upload(client, payload="1 2 3 4").url

    page = client.get(f"{address}overlap/", headers={"HX-Request": "true"}).content.decode()
    answer = client.post(f"{address}leave-out/")

    assert "Leave these 2 out" in page
    assert other.name in page
    smaller = drafts().get()
    assert answer.url == f"/dashboard/upload/{smaller.pk}/"
    assert smaller.ids_count == 2
    assert smaller.about["first"] == ["1", "4"]


def test_long_list_is_placed_without_ids_waiting_in_other_tasks(queue, sign_in, place, monkeypatch):
    # Written by ranges, it is read several times.
    monkeypatch.setattr(acceptance, "SEGMENT_IDS", 10)
    place(range(1, 41), name="the other")
    client = sign_in()
    own_ids = list(range(101, 0, -1))
    address = upload(client, payload=" ".join(map(str, [*own_ids, 77]))).url

    smaller_address = client.post(f"{address}leave-out/").url

    smaller = drafts().get()
    assert (smaller.ids_count, smaller.repeats_count) == (61, 1)
    assert smaller.about["left_out"] == 40
    assert (smaller.about["first"], smaller.about["last"]) == (["101", "100", "99"], ["43", "42", "41"])
    commit(client, smaller_address)
    allocation.write_segments(store.now)
    task = models.Task.objects.latest("pk")
    assert task.ids_count == 61
    placed = models.Assignment.objects.filter(task=task).values_list("user_id", flat=True)
    assert sorted(placed) == list(range(41, 102))


def test_list_waiting_entirely_in_other_tasks_is_not_emptied(queue, sign_in, place):
    place([1, 2], name="the other")
    client = sign_in()
    address = upload(client, payload="1 2").url

    answer = client.post(f"{address}leave-out/")

    assert answer.url == address
    assert drafts().get().ids_count == 2


def test_discarded_draft_leaves_nothing(queue, sign_in):
    client = sign_in()
    address = upload(client, payload="1 2").url

    client.post(f"{address}discard/")

    assert not models.IdList.objects.exists()
    assert not models.Chunk.objects.exists()


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"payload": ""}, 422, "The list contains no"),
        ({"payload": "1", "file": csv("2")}, 422, "send only one of them"),
        ({"file": csv("order,customer\n1,90017\n2,90018\n")}, 422, "Which column"),
        (
            {"file": SimpleUploadedFile("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)},
            415,
            "a.xls",
        ),
    ],
)
def test_unreadable_upload_is_refused_with_a_sentence_and_leaves_nothing(
    queue, sign_in, fields, status, words
):
    answer = upload(sign_in(), **fields)

    assert answer.status_code == status
    assert words in answer.content.decode()
    assert not models.IdList.objects.exists()


def test_script_upload_gets_an_address_or_a_sentence(queue, sign_in):
    client = sign_in()
    header = {"HX-Request": "true"}

    taken = client.post("/dashboard/upload/", {"payload": "1 2"}, headers=header)
    refused = client.post("/dashboard/upload/", {"payload": "x"}, headers=header)

    assert taken.status_code == 201
    assert taken.json()["address"].startswith("/dashboard/upload/")
    assert refused.status_code == 422
    assert refused.json()["sentence"]


def test_forged_form_is_refused_and_a_genuine_one_accepted(queue, make_operator):
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_operator("operator"))
    page = client.get("/dashboard/upload/").content.decode()
    token = re.search(r'data-upload.*?name="csrfmiddlewaretoken" value="([^"]+)"', page, re.DOTALL)[1]

    forged = upload(client, payload="1 2")
    good = upload(client, payload="1 2", csrfmiddlewaretoken=token)

    assert forged.status_code == 403
    assert good.status_code == 302
    assert drafts().count() == 1


def test_upload_by_a_viewer_is_refused_with_the_reason(queue, sign_in):
    answer = upload(sign_in("viewer"), payload="1 2")

    assert answer.status_code == 403
    assert "You can view but not change things" in answer.content.decode()
    assert not models.IdList.objects.exists()


def test_signed_out_script_gets_401_instead_of_a_sign_in_page(queue, client):
    answer = client.post("/dashboard/upload/", {"payload": "1 2"}, headers={"HX-Request": "true"})

    assert answer.status_code == 401
    assert "You are signed out; nothing was done" in answer.content.decode()


def test_upload_without_a_length_is_refused(queue, sign_in):
    client = sign_in()
    body = b"payload=1+2"
    answer = client.generic(
        "POST", "/dashboard/upload/", body, "application/x-www-form-urlencoded", CONTENT_LENGTH=""
    )

    assert answer.status_code == 411


def test_csv_named_xlsx_is_refused_by_name(queue, sign_in):
    answer = upload(sign_in(), file=SimpleUploadedFile("a.xlsx", b"user_id\n1\n"))

    assert answer.status_code == 415
    assert "a.xlsx" in answer.content.decode()


@pytest.mark.parametrize("export", ["tasks/$/?format=csv", "failures/?task=$&format=csv"])
def test_export_can_be_uploaded_again_with_the_same_ids(queue, sign_in, place, fail, export):
    task = place([3, 9007199254740993, 1], at=store.now() - 2 * clock.QUARTER)
    fail(task)
    client = sign_in()
    content = b"".join(client.get(f"/dashboard/{export.replace('$', str(task.pk))}").streaming_content)

    upload(client, file=csv(content.decode()))

    draft = drafts().get()
    assert sorted(stored_lists.ids_of(draft.pk, 0, 10)) == [1, 3, 9007199254740993]
    assert draft.about["fault_count"] == 0


def test_list_past_max_peak_needs_a_tick_to_be_placed(queue, sign_in):
    models.Queue.objects.update(max_peak=100)
    client = sign_in()
    address = upload(client, payload=" ".join(map(str, range(1, 301)))).url

    assert "max_peak" in client.get(address).content.decode()
    refused = commit(client, address)
    assert refused.status_code == 200
    assert "max_peak" in refused.content.decode()
    assert not models.Task.objects.exists()
    assert commit(client, address, allow_peak="on").status_code == 302


def test_not_before_is_read_in_the_operators_zone(queue, sign_in):
    client = sign_in(time_zone="Asia/Kathmandu")
    address = upload(client, payload="1 2").url
    local = store.now().astimezone(ZoneInfo("Asia/Kathmandu")) + timedelta(hours=5)

    client.post(address, {"queue": "default", "not_before": f"{local:%Y-%m-%dT%H:%M}"})

    task = models.Task.objects.get()
    assert task.not_before_at == local.replace(second=0, microsecond=0)
    assert task.first_minute_at >= task.not_before_at


def test_deadline_refuses_a_list_that_would_be_done_later(queue, sign_in):
    client = sign_in()
    address = upload(client, payload="1 2").url
    soon, later = (f"{store.now() + timedelta(minutes=n):%Y-%m-%dT%H:%MZ}" for n in (1, 90))

    assert "after its deadline" in client.get(address, {"deadline": soon}).content.decode()
    refused = client.post(address, {"queue": "default", "deadline": soon})
    assert "after its deadline" in refused.content.decode()
    assert not models.Task.objects.exists()

    assert client.post(address, {"queue": "default", "deadline": later}).status_code == 302
    task = models.Task.objects.get()
    assert f"{task.deadline_at:%Y-%m-%dT%H:%MZ}" == later
    assert 'id="its-deadline"' in client.get(f"/dashboard/tasks/{task.pk}/").content.decode()


def test_shortened_list_keeps_the_choices_of_the_preview(queue, sign_in, place):
    models.Queue.objects.create(name="slow", rpm=5, created_at=store.now())
    place([1, 2])
    client = sign_in()
    address = upload(client, payload="1 2 3 4").url
    choices = {
        "queue": "slow", "rpm": "7", "not_before": "2027-01-05T10:00", "rpm_of": "slow", "start": "first_free",
        "deadline": "2027-01-06T10:00", "max_failed_percent": "2.5", "min_finished": "3", "canary_ids": "2",
        "canary_percent": "99.0",
    }  # fmt: skip

    alone = client.get(f"{address}overlap/", choices).content.decode()
    answer = client.post(f"{address}leave-out/", choices)

    for name, value in choices.items():
        assert f'type="hidden" name="{name}" value="{value}"' in alone
        assert f"{name}={value.replace(':', '%3A')}" in answer.url
    shown = client.get(answer.url).context["preview"]
    assert (shown.queue.name, shown.rpm, shown.plan.start.value) == ("slow", 7, "first_free")
    for name in ("not_before", "deadline"):
        assert f"{getattr(shown, name):%Y-%m-%dT%H:%M}" == choices[name]
    assert {name: str(value) for name, value in shown.stops.items()} == {
        name: choices[name] for name in STOPS
    }


def test_worsened_plan_is_reported_in_the_operators_zone(queue, sign_in, place):
    client = sign_in(time_zone="Asia/Kolkata")
    address = upload(client, payload=" ".join(map(str, range(1, 101)))).url
    form = client.get(address).content.decode().split("data-commit")[1]
    fields = dict(
        re.findall(r'name="(queue|start|not_before|peak|at_rpm|first|last|seen_at)" value="([^"]*)"', form)
    )
    place(range(5000, 5000 + 120 * 15))

    answer = client.post(address, fields)

    ends = answer.context["preview"].ends_at.astimezone(ZoneInfo("Asia/Kolkata"))
    (sentence,) = [str(message) for message in answer.context["messages"]]
    assert f"would be done at {ends:%H:%M}. Nothing was placed" in sentence
    assert "Z" not in sentence


def test_discarding_another_operators_preview_asks_first_and_is_logged(queue, sign_in):
    address = upload(sign_in(), payload="1 2 3").url
    client = sign_in("admin")

    question = client.post(f"{address}discard/").content.decode()
    assert "This preview of 3 IDs was made by a operator" in question
    assert drafts().count() == 1
    client.post(f"{address}discard/", {"sure": "on"})

    assert not drafts().exists()
    line = models.Activity.objects.get(verb="discarded")
    assert (line.actor_name, line.count) == ("a admin", 3)
    assert line.after == {"preview_of": "pasted list", "made_by": "a operator"}


def test_discarding_ones_own_preview_asks_nothing(queue, sign_in):
    client = sign_in()
    address = upload(client, payload="1 2 3").url

    client.post(f"{address}discard/")

    assert not drafts().exists()
    assert models.Activity.objects.filter(verb="discarded").count() == 1


def test_ambiguous_column_without_javascript_keeps_what_was_typed(queue, sign_in):
    models.Queue.objects.create(name="slow", rpm=5, created_at=store.now())
    file = csv("left,right\n1,2\n3,4\n")

    answer = upload(sign_in(), task_name="Spring & Co", queue="slow", file=file)

    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'name="task_name" value="Spring &amp; Co"' in page
    assert '<option value="slow" selected>' in page
    assert "It is not clear which column contains the IDs" in page
    assert "parameter" not in page


def test_ambiguous_sheet_is_chosen_in_a_field(queue, sign_in):
    content = workbook(
        {
            "Cover": sheet_xml({1: {"A": text("Report year"), "B": number(2026)}}),
            "Data": sheet_xml({1: {"A": text("user_id")}, 2: {"A": number(1001)}}),
        }
    )
    client = sign_in()

    response = upload(client, file=SimpleUploadedFile("list.xlsx", content))

    assert response.status_code == 422
    page = response.content.decode()
    assert "It is not clear which sheet contains the list" in page
    assert "Report year, 2026" in page
    assert 'name="sheet"' in page
    assert upload(client, file=SimpleUploadedFile("list.xlsx", content), sheet="Data").status_code == 302
    assert drafts().get().about["sheet"]["name"] == "Data"


@pytest.mark.parametrize("name", ["   ", "\u200b", "\u00a0\u2060", "\u3164"])
def test_invisible_name_is_replaced_by_the_file_name(queue, sign_in, name):
    upload(sign_in(), task_name=name, file=csv("1001\n"))

    assert drafts().get().about["task_name"] == "renewals"


def test_list_for_a_missing_queue_is_not_stored(queue, sign_in):
    answer = upload(sign_in(), payload="1 2", queue="nosuch", task_name="Spring")

    assert answer.status_code == 422
    assert "There is no queue named nosuch" in answer.content.decode()
    assert 'value="Spring"' in answer.content.decode()
    assert not models.IdList.objects.exists()


def test_list_without_an_id_keeps_its_queue_without_javascript(queue, sign_in):
    models.Queue.objects.create(name="slow", rpm=5, created_at=store.now())

    page = upload(sign_in(), payload="<x>", queue="slow").content.decode()

    assert '<option value="slow" selected>' in page
    assert ">&lt;x&gt;</textarea>" in page


def test_choosing_another_queue_shows_its_own_rpm(queue, sign_in):
    """Whoever only chooses another queue asks no what-if: the slider still stood at the first one's rpm."""
    models.Queue.objects.create(name="slow", rpm=5, created_at=store.now())
    client = sign_in()
    address = upload(client, payload="1 2 3").url
    choices = {"queue": "slow", "rpm": "120", "rpm_of": "default"}

    whole = client.get(address, choices)
    part = client.get(address, {**choices, "part": "plan"}, headers={"HX-Request": "true"}).content.decode()

    assert whole.context["preview"].rpm == 5
    assert "Place 3 IDs in slow" in squeezed(whole)
    assert "Place 3 IDs in slow" in " ".join(part.split())
    assert 'id="what-if" hx-swap-oob="true"' in part
    assert 'max="60" value="5"' in part
    moved = client.get(address, {"queue": "slow", "rpm": "7", "rpm_of": "slow", "part": "plan"})
    assert moved.context["preview"].is_what_if


def test_changed_rpm_is_named_as_the_reason_for_a_worse_plan(queue, sign_in):
    client = sign_in()
    address = upload(client, payload=" ".join(map(str, range(1, 101)))).url
    page = client.get(address).content.decode().split("data-commit")[1]
    fields = dict(
        re.findall(r'name="(queue|start|not_before|peak|at_rpm|first|last|seen_at)" value="([^"]*)"', page)
    )
    models.Queue.objects.update(rpm=10)

    answer = client.post(address, fields)

    (sentence,) = [str(message) for message in answer.context["messages"]]
    assert sentence.startswith("The queue's rpm is now 10: the fullest minute would now have 10 requests")
    assert not models.Task.objects.exists()


@pytest.mark.parametrize("act", ["", "discard/", "leave-out/", "overlap/"])
def test_actions_on_a_placed_preview_lead_to_its_task_and_change_nothing(queue, sign_in, act):
    """By the back button, a second click, or another operator: never "discarded. Nothing was placed"."""
    client = sign_in()
    address = upload(client, payload="1 2").url
    commit(client, address)
    client.get("/dashboard/")

    method = client.get if act == "overlap/" else client.post
    answer = method(f"{address}{act}", follow=True)

    task = models.Task.objects.get()
    assert answer.redirect_chain == [(f"/dashboard/tasks/{task.pk}/", 302)]
    (sentence,) = [str(message) for message in answer.context["messages"]]
    assert sentence == "This preview has already been placed: here is its task."
    assert not drafts().exists()
    assert not models.Activity.objects.filter(verb="discarded").exists()


def test_list_past_the_horizon_cannot_be_placed(queue, sign_in):
    models.Queue.objects.update(rpm=1, overflow="carry_over")
    client = sign_in(time_zone="Asia/Kolkata")
    address = upload(client, payload=" ".join(map(str, range(1, 11_001)))).url

    page = client.get(address).content.decode()
    answer = commit(client, address, allow_peak="on")

    assert "lists may take at most 7 days" in page
    assert re.search(
        r'<button class="button main" id="place" data-with="ask" disabled title="[^"]+">Place\s+11,000 IDs',
        page,
    )
    assert 'name="allow_peak"' not in page
    (sentence,) = [str(message) for message in answer.context["messages"]]
    ends = answer.context["preview"].ends_at.astimezone(ZoneInfo("Asia/Kolkata"))
    assert f"{ends:%H:%M}; lists may take at most" in sentence
    assert not models.Task.objects.exists()


def test_preview_says_what_keeps_the_queue_from_starting(queue, sign_in):
    client = sign_in()
    address = upload(client, payload="1").url

    models.Queue.objects.update(brake_per_minute=3)
    assert "A brake limits the queue to 3 a minute" in client.get(address).content.decode()
    models.Queue.objects.update(paused_at=store.now())
    assert "The queue is paused: none of this list is sent" in client.get(address).content.decode()
    messages = str(next(iter(client.post(address, {"queue": "default"}, follow=True).context["messages"])))
    assert messages.startswith("Placed 1 ID: ")
    assert "The queue is paused" in messages


@pytest.mark.parametrize(
    ("typed", "start"),
    [
        ("2027-11-07T01:30", "2027-11-07T05:30Z"),
        ("2027-03-14T02:30", "2027-03-14T07:30Z"),
        ("2027-01-05T10:00:30", "2027-01-05T15:01Z"),
        ("2027-01-05T15:00Z", "2027-01-05T15:00Z"),
    ],
)
def test_not_before_in_a_repeated_or_skipped_hour_is_accepted(queue, sign_in, typed, start):
    client = sign_in(time_zone="America/New_York")
    address = upload(client, payload="1").url

    page = client.get(address, {"not_before": typed})

    assert page.status_code == 200
    assert f'name="not_before" value="{start}"' in page.content.decode()
    first = page.context["preview"].plan.first_at
    assert timedelta(0) <= first - page.context["preview"].not_before < timedelta(minutes=15)


@pytest.mark.parametrize("typed", ["9999-12-31T23:59", "2089-06-01T00:00", "soon"])
def test_invalid_not_before_is_explained_and_removes_the_button(queue, sign_in, typed):
    client = sign_in(time_zone="America/New_York")
    address = upload(client, payload="1").url

    whole = client.get(address, {"not_before": typed})
    part = client.get(address, {"not_before": typed, "part": "plan"}, headers={"HX-Request": "true"})

    assert whole.status_code == 400
    assert "not before: " in whole.content.decode()
    assert "There is no preview of this. not before: " in part.content.decode()
    assert "<button" not in part.content.decode()


def test_partly_typed_year_counts_as_the_past(queue, sign_in):
    client = sign_in(time_zone="Asia/Tokyo")
    address = upload(client, payload="1").url

    for typed in ("0001-01-01T00:00", "0202-12-31T23:59"):
        assert "Place 1 ID in default" in squeezed(client.get(address, {"not_before": typed}))


def test_closed_window_is_named_as_the_reason_for_a_worse_plan(queue, sign_in, monkeypatch):
    client = sign_in()
    address = upload(client, payload="1 2").url
    fields = _promised(client, address)
    later = store.now() + clock.QUARTER
    monkeypatch.setattr(store, "now", lambda: later)

    answer = client.post(address, fields)

    (sentence,) = [str(message) for message in answer.context["messages"]]
    assert sentence.startswith(
        "The quarter-hour in the preview has closed in the meantime: the fullest minute would now have 2"
    )
    assert not models.Task.objects.exists()


def test_task_name_loses_characters_that_databases_refuse(queue, sign_in):
    upload(sign_in(), file=csv("user_id\n1\n", "n\x00\x1b.csv"), task_name="\x07 ")

    assert (drafts().get().about["task_name"], drafts().get().about["file_name"]) == ("n", "n.csv")


def test_thousands_of_faults_are_downloaded_and_do_not_slow_the_preview_list(queue, sign_in):
    client = sign_in()
    address = upload(client, file=csv("user_id\n1\n" + "".join(f"x{n}\n" for n in range(5000)))).url

    lines = b"".join(client.get(f"{address}faults.csv").streaming_content).decode().splitlines()

    assert len(lines) == 5001
    assert lines[-1].startswith("5002,1,,,,x4999,")
    assert "The first 20 of 5,000." in client.get(address).content.decode()
    assert len(json.dumps(drafts().get().about)) < 100_000


def test_upload_page_says_that_hidden_rows_are_left_out(queue, sign_in):
    client = sign_in()

    assert "are left out of this list" in client.get("/dashboard/upload/?hidden=leave_out").content.decode()
    assert "are left out of this list" not in client.get("/dashboard/upload/").content.decode()


def test_recently_sent_ids_are_named_and_excluded_with_one_click(queue, sign_in):
    client = sign_in()
    first = upload(client, payload=" ".join(map(str, range(1, 101))), task_name="yesterday's file").url
    commit(client, first)
    allocation.write_segments(store.now)
    models.Assignment.objects.filter(user_id__lte=60).update(status=models.Status.SUCCEEDED)

    same = upload(client, payload=" ".join(map(str, range(1, 101)))).url
    page = squeezed(client.get(f"{same}overlap/"))
    assert "This is the same list as" in page
    assert "yesterday&#x27;s file" in page
    assert '<dt>sent by default in the last 24 hours</dt> <dd class="notice">60</dd>' in page
    assert '<dt>also waiting in other tasks</dt> <dd class="notice">40</dd>' in page

    smaller = client.post(f"{same}leave-out/?which=sent", {}, follow=True)
    assert [str(message) for message in smaller.context["messages"]] == [
        "60 IDs left out: they were sent in the last 24 hours."
    ]
    assert drafts().get().ids_count == 40


def test_preview_shows_first_and_last_ids_without_repeats(queue, sign_in):
    client = sign_in()
    for ids, shown in (
        (1, "1"),
        (4, "1, 2, 3, 4"),
        (5, "1, 2, 3, 4, 5"),
        (6, "1, 2, 3, 4, 5, 6"),
        (9, "1, 2, 3 … 7, 8, 9"),
    ):
        page = client.get(upload(client, payload=" ".join(map(str, range(1, ids + 1)))).url)
        assert f'<dd class="long">{shown}</dd>' in page.content.decode()


@pytest.mark.parametrize(
    ("payload", "number", "why"),
    [
        (" ".join(map(str, range(1, 3602))), "3601", "times the requests"),
        ("12\n" + "\n".join(f"word{n}x" for n in range(8)), "1", "more faults than IDs"),
    ],
    ids=["twice the limit", "mostly faults"],
)
def test_implausible_list_requires_typing_its_number(queue, sign_in, payload, number, why):
    """Placing is as guarded as cancelling."""
    client = sign_in()
    address = upload(client, payload=payload).url
    assert why in client.get(address).content.decode()

    assert commit(client, address).status_code == 200
    assert not models.Task.objects.exists()
    assert commit(client, address, count=number).status_code == 302
    assert models.Task.objects.get().ids_count == int(number)


# --- As soon as there is room ---


def test_start_first_free_is_kept_from_the_upload_to_the_task(queue, sign_in):
    client = sign_in()
    address = upload(client, payload="1 2 3", start="first_free").url
    promised = client.get(address).context["preview"].plan

    commit(client, address)

    task = models.Task.objects.get()
    assert task.first_minute_at == promised.first_at
    assert task.first_minute_at - store.now() <= timedelta(seconds=65)


def test_preview_names_the_first_minute_of_either_start_with_a_countdown(queue, sign_in):
    client = sign_in()
    address = upload(client, payload="1 2 3").url

    page = client.get(address)

    preview = page.context["preview"]
    assert preview.other.first_at < preview.plan.first_at
    text = re.sub(r"<[^>]+>", "", squeezed(page))
    assert f"As soon as there is room: first at {preview.other.first_at:%H:%M}" in text
    assert re.search(r"first at \d\d:\d\d \(in \d+:\d\d\)", text)
    (other,) = re.findall(r'href="(\?[^"]*start=first_free[^"]*)"', squeezed(page))
    assert client.get(address + other.replace("&amp;", "&")).context["preview"].is_first_free


def test_preview_of_free_places_may_be_placed_a_minute_later(queue, sign_in):
    client = sign_in()
    address = upload(client, payload="1 2 3", start="first_free").url
    minute = timedelta(minutes=1)
    shown_keys = clock.minute_start(store.now()) - 2 * minute
    earlier = {"first": shown_keys + minute, "last": shown_keys + minute, "seen_at": shown_keys}
    fields = {name: f"{at:%Y-%m-%dT%H:%MZ}" for name, at in earlier.items()}

    assert client.post(address, {**_promised(client, address), **fields}).status_code == 302
    # A list that others have pushed back by more than the time that passed is shown first.
    address = upload(client, payload="4 5 6", start="first_free").url
    fields["seen_at"] = f"{store.now():%Y-%m-%dT%H:%MZ}"
    assert client.post(address, {**_promised(client, address), **fields}).status_code == 200


def test_preview_draws_this_list_on_top_of_what_is_planned(queue, sign_in, place):
    place(range(1000, 1100))
    client = sign_in()

    page = client.get(upload(client, payload=" ".join(map(str, range(1, 101)))).url)

    bars = page.context["chart"].bars
    assert [(bar.counts.filled, bar.own_count) for bar in bars[:3]] == [(120, 20), (80, 80), (0, 0)]
    assert [kind for kind, *_ in bars[0].parts] == ["waiting", "mine"]
    assert "120 IDs, 120 waiting, 20 of this list" in squeezed(page)


def test_preview_draws_all_quarter_hours_of_a_long_list_and_names_the_limit_for_an_hour(queue, sign_in):
    models.Queue.objects.filter(pk=queue.pk).update(rpm=2, overflow=models.Overflow.CARRY_OVER)
    client = sign_in()

    page = client.get(upload(client, payload=" ".join(map(str, range(1, 601)))).url)

    bars = page.context["whole"].bars
    assert (len(bars), sum(bar.own_count for bar in bars)) == (20, 600)
    assert "At <a" in squeezed(page)
    assert page.context["preview"].rpm_for_an_hour == 10
    assert "the list takes all that the queue may send" in squeezed(page)


@pytest.mark.parametrize(
    "limit", [{"quotas": [{"limit": 200, "per": "day"}]}, {"max_share_percent": 50}], ids=["quota", "share"]
)
def test_preview_names_no_limit_for_an_hour_where_another_one_applies(queue, sign_in, limit):
    models.Queue.objects.filter(pk=queue.pk).update(rpm=2, overflow=models.Overflow.CARRY_OVER, **limit)
    client = sign_in()

    page = client.get(upload(client, payload=" ".join(map(str, range(1, 601)))).url)

    assert page.context["preview"].rpm_for_an_hour is None
    assert ("takes all that the queue may send" in squeezed(page)) == ("quotas" in limit)


def test_preview_of_free_places_warns_of_no_full_minutes(queue, sign_in, place):
    place(range(1, 120 * 15 * 3))
    client = sign_in()

    preview = client.get(upload(client, payload="1 2 3", start="first_free").url).context["preview"]

    assert (preview.over, preview.dangers) == (0, [])


def test_upload_shows_an_example_that_runs_at_once(queue, sign_in):
    page = squeezed(sign_in().get("/dashboard/upload/?example=show"))

    assert "1001, 1002, 1003</textarea>" in page
    assert re.search(r'value="first_free" checked', page)


@pytest.mark.parametrize("word", ["now", "FIRST_FREE"])
def test_start_that_does_not_exist_is_refused(queue, sign_in, word):
    assert upload(sign_in(), payload="1", start=word).status_code == 400
    assert not drafts().exists()
