"""What is done in the admin is done by the verbs: rules hold, and each act leaves its line."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ

from operators.actor import Actor, Interface
from operators.models import Operator
from scheduling import jobs, models, store, users
from scheduling.tasks import bulk_cancel
from tests.scheduling.lists_of_ids import submit, write_all

pytestmark = pytest.mark.django_db
TASKS = "/admin/scheduling/task/"
CANCEL = "/admin/scheduling/task/cancel/"


def lines(verb: str = "") -> list[models.Activity]:
    rows = models.Activity.objects.filter(face=Interface.ADMIN, actor_name="operator").order_by("pk")
    return list(rows.filter(verb=verb) if verb else rows)


def refresh(row):
    row.refresh_from_db()
    return row


def snapshot(client, **query) -> str:
    """What the page says it saw, as its form sends it back."""
    return client.get(CANCEL, query).context["seen"]


def run_action(client, address: str, act: str, key: int):
    """Tick one row and press Go."""
    return client.post(address, {"action": act, "_selected_action": [key], "index": 0}, follow=True)


def more_tasks(deck, tmp_path, count: int) -> list[models.Task]:
    by, at = Actor.command_line(), timezone.now()
    return [
        submit([number], tmp_path, by=by, at=at, task_name=f"autumn {number}", queue_name="letters").task
        for number in range(1, count + 1)
    ]


# --- One row ---


def test_task_is_renamed_in_the_admin(signed_in, deck):
    answer = signed_in().post(f"{TASKS}{deck.task.pk}/change/", {"name": "summer letters"})
    assert answer.status_code == 302
    assert refresh(deck.task).name == "summer letters"
    (line,) = lines()
    assert (line.verb, line.before, line.after) == (
        "renamed",
        {"task_name": "spring letters"},
        {"task_name": "summer letters"},
    )


def test_list_is_replaced_in_the_admin_and_common_ids_keep_their_places(signed_in, deck):
    before = {row.user_id: row.pk for row in models.Assignment.objects.all()}
    form = {"payload": "1029, 5\n6", "version": deck.task.version}
    answer = signed_in().post(f"{TASKS}{deck.task.pk}/replace/", form, follow=True)
    assert "1 kept, 2 new, 2 cancelled" in answer.content.decode()
    write_all(timezone.now())
    task = refresh(deck.task)
    assert (task.waiting_count, task.cancelled_count) == (3, 2)
    assert models.Assignment.objects.get(user_id=1029).pk == before[1029]
    assert [line.verb for line in lines()] == ["replaced"]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"payload": "1029, x7"}, "Line 1: &#x27;x7&#x27;"),
        ({"payload": " "}, "no ID"),
        ({"payload": "5", "version": 0}, "changed in the meantime"),
    ],
)
def test_invalid_replacement_is_refused_with_a_sentence_and_changes_nothing(signed_in, deck, form, text):
    answer = signed_in().post(
        f"{TASKS}{deck.task.pk}/replace/", {"version": deck.task.version, **form}, follow=True
    )
    assert text in answer.content.decode()
    assert refresh(deck.task).version == 1
    assert lines() == []


def test_user_is_created_renamed_and_deleted_in_the_admin(signed_in, deck):
    client = signed_in()
    client.post("/admin/scheduling/user/add/", {"id": "9223372036854775807", "name": "Ann"})
    user = models.User.objects.get(pk=9223372036854775807)
    client.post(f"/admin/scheduling/user/{user.pk}/change/", {"name": "Anna"})
    assert refresh(user).name == "Anna"
    client.post(f"/admin/scheduling/user/{user.pk}/delete/", {"post": "yes"})
    assert not models.User.objects.filter(pk=user.pk).exists()
    assert [line.verb for line in lines()] == ["created", "renamed", "deleted"]


@pytest.mark.parametrize("number", ["0", "-1", "1e5", "1_000", "\uff19", "9223372036854775808", "1029", "x"])
def test_user_with_an_invalid_id_is_refused(signed_in, deck, number):
    before = models.User.objects.count()
    answer = signed_in().post("/admin/scheduling/user/add/", {"id": number, "name": ""})
    assert answer.status_code == 200
    assert models.User.objects.count() == before


def test_user_without_an_id_gets_a_free_one(signed_in, deck):
    signed_in().post("/admin/scheduling/user/add/", {"id": "", "name": "Bo"})
    assert models.User.objects.get(name="Bo").pk == 1031


def test_user_whose_id_is_text_is_created_in_the_admin(signed_in, deck):
    client, address = signed_in(), "/admin/scheduling/user/add/"
    client.post(address, {"id": "", "external_id": " ann@example.com ", "name": "Ann"})
    user = models.User.objects.get(name="Ann")
    assert user.pk < 0
    assert models.ExternalId.objects.get(pk=user.pk).external_id == "ann@example.com"
    before = models.User.objects.count()
    for taken in ({"id": "", "external_id": "ann@example.com"}, {"id": "7", "external_id": "bo"}):
        answer = client.post(address, {**taken, "name": "x"})
        assert answer.status_code == 200
    assert "either an ID or an external ID" in answer.content.decode()
    assert models.User.objects.count() == before


ERASE = "/admin/scheduling/user/1029/erase/"


def test_person_is_erased_once_the_id_is_typed(signed_in, deck):
    client = signed_in()
    client.post("/admin/scheduling/user/1029/change/", {"name": "Zaphod"})
    assert LogEntry.objects.filter(object_repr__contains="Zaphod").exists()
    assert f'href="{ERASE}"' in client.get("/admin/scheduling/user/1029/change/").content.decode()
    assert "1 task" in client.get(ERASE).content.decode()
    answer = client.post(ERASE, {"typed": "1030"})
    assert "To confirm, type 1029." in answer.content.decode()
    assert models.User.objects.filter(pk=1029).exists()
    answer = client.post(ERASE, {"typed": " 1029 "}, follow=True)
    assert "The person is erased. Waiting requests cancelled: 1." in answer.content.decode()
    assert not models.User.objects.filter(pk=1029).exists()
    assert (refresh(deck.task).waiting_count, deck.task.cancelled_count) == (2, 1)
    assert [(line.verb, line.count) for line in lines("erased")] == [("erased", 1)]
    assert not LogEntry.objects.filter(object_repr__contains="Zaphod").exists()
    assert client.get(ERASE).status_code == 404


def test_person_with_a_text_id_is_erased_by_that_text(signed_in, db):
    user = users.create(external_id="ann@example.com", by=Actor.command_line(), at=store.now())
    client, address = signed_in(), "/admin/scheduling/user/-1/erase/"
    assert "To confirm, type ann@example.com:" in client.get(address).content.decode()
    assert client.post(address, {"typed": "-1"}).status_code == 200
    assert client.post(address, {"typed": "ann@example.com"}).status_code == 302
    assert not models.User.objects.filter(pk=user.pk).exists()
    assert not models.ExternalId.objects.exists()


def test_person_whose_request_is_being_made_is_not_erased(signed_in, deck):
    models.Assignment.objects.filter(user_id=1029).update(status=models.Status.IN_FLIGHT)
    answer = signed_in().post(ERASE, {"typed": "1029"})
    assert "Try again in a moment" in answer.content.decode()
    assert models.User.objects.filter(pk=1029).exists()


def test_viewer_erases_nobody(signed_in, deck):
    client = signed_in("viewer")
    assert client.get(ERASE).status_code == client.post(ERASE, {"typed": "1029"}).status_code == 403
    assert "Erase this person" not in client.get("/admin/scheduling/user/1029/change/").content.decode()
    assert models.User.objects.filter(pk=1029).exists()


# --- Queues ---


def queue_form(client, queue, **changes) -> dict:
    form = client.get(f"/admin/scheduling/queue/{queue.pk}/change/").context["adminform"].form
    # As the page shows them: some columns are shown as text that isn't their value.
    values = {name: form[name].value() for name in form.fields} | {"webhook_headers": "{}"} | changes
    return {name: value for name, value in values.items() if value is not None and value is not False}


def test_queue_is_created_and_changed_in_the_admin(signed_in, deck):
    client = signed_in()
    form = queue_form(client, deck.queue, name="bills", rpm=600)
    form.pop("seen_version", None)
    client.post("/admin/scheduling/queue/add/", form)
    queue = models.Queue.objects.get(name="bills")
    assert queue.rpm == 600
    # A change of rpm shows its effect first: on the dashboard.
    form_fields = queue_form(client, queue, rpm=60, max_attempts=3)
    client.post(f"/admin/scheduling/queue/{queue.pk}/change/", form_fields)
    assert (refresh(queue).rpm, refresh(queue).max_attempts) == (600, 3)
    created, changed = lines()
    assert (created.verb, changed.verb) == ("created", "changed")
    assert (changed.before, changed.after) == ({"max_attempts": 6}, {"max_attempts": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": "0"},
        {"headroom": "5"},
        {"handler": "webhook"},
        {"handler": "python"},
        {"webhook_url": "ftp://example.com/"},
        {"webhook_secret": "secret"},
        {"read_timeout_seconds": "60"},
        {"webhook_headers": '{"Host": "x"}'},
    ],
)
def test_admin_enforces_the_rules_of_queues(signed_in, deck, wrong):
    client = signed_in()
    address = f"/admin/scheduling/queue/{deck.queue.pk}/change/"
    answer = client.post(address, queue_form(client, deck.queue, **wrong))
    assert answer.status_code == 200
    assert answer.context["errors"]
    assert refresh(deck.queue).version == 1
    assert lines() == []


def test_address_on_another_server_asks_for_the_headers_again(signed_in, deck):
    models.Queue.objects.update(webhook_url="https://1.1.1.1/", webhook_headers={"X-Key": "hush"})
    client, address = signed_in(), f"/admin/scheduling/queue/{deck.queue.pk}/change/"
    shown = '{"X-Key": null}'
    moved = queue_form(client, deck.queue) | {
        "webhook_url": "https://2.2.2.2/",
        "webhook_headers": shown,
        "initial-webhook_headers": shown,
    }
    page = client.post(address, moved).content.decode()
    assert "Enter the value of X-Key again, because webhook_url names another server.<" in page
    client.post(address, moved | {"webhook_headers": '{"X-Key": "hush"}'})
    assert refresh(deck.queue).webhook_url == "https://2.2.2.2/"


def test_stale_change_in_the_admin_is_refused(signed_in, deck):
    client = signed_in()
    form = queue_form(client, deck.queue, max_attempts=3)
    models.Queue.objects.filter(pk=deck.queue.pk).update(version=2, max_attempts=5)
    answer = client.post(f"/admin/scheduling/queue/{deck.queue.pk}/change/", form, follow=True)
    assert "changed in the meantime" in answer.content.decode()
    assert refresh(deck.queue).max_attempts == 5


def test_secret_is_kept_until_cleared_and_never_shown(signed_in, deck):
    client = signed_in()
    secret = "whsec_" + "A" * 40
    address = f"/admin/scheduling/queue/{deck.queue.pk}/change/"
    client.post(address, queue_form(client, deck.queue, webhook_secret=secret))
    assert refresh(deck.queue).webhook_secret == secret
    assert secret not in client.get(address).content.decode()
    client.post(address, queue_form(client, deck.queue, max_attempts=3))
    assert refresh(deck.queue).webhook_secret == secret
    client.post(address, queue_form(client, deck.queue, forget_secret="on"))
    assert refresh(deck.queue).webhook_secret == ""
    assert secret not in str(list(models.Activity.objects.values()))


def test_viewer_sees_no_webhook_headers(signed_in, deck):
    models.Queue.objects.update(webhook_headers={"Authorization": "Bearer hush"}, webhook_secret="whsec_hush")
    page = signed_in("viewer").get(f"/admin/scheduling/queue/{deck.queue.pk}/change/").content.decode()
    assert "letters" in page
    assert "hush" not in page


def test_values_of_headers_are_shown_to_nobody_and_kept_where_null_is_sent_back(signed_in, deck):
    models.Queue.objects.update(webhook_headers={"Authorization": "Bearer hush", "X-Api-Key": "hush"})
    client = signed_in()
    address = f"/admin/scheduling/queue/{deck.queue.pk}/change/"
    page = client.get(address).content.decode()
    assert "Authorization" in page
    assert "hush" not in page
    shown = '{"Authorization": null, "X-Api-Key": null}'
    unchanged = {"webhook_headers": shown, "initial-webhook_headers": shown}
    client.post(address, queue_form(client, deck.queue, max_attempts=3) | unchanged)
    assert refresh(deck.queue).max_attempts == 3
    assert refresh(deck.queue).webhook_headers == {"Authorization": "Bearer hush", "X-Api-Key": "hush"}
    edited = {"webhook_headers": '{"Authorization": null, "X-New": "1"}', "initial-webhook_headers": shown}
    client.post(address, queue_form(client, deck.queue) | edited)
    assert refresh(deck.queue).webhook_headers == {"Authorization": "Bearer hush", "X-New": "1"}
    unknown = {"webhook_headers": '{"X-Other": null}', "initial-webhook_headers": shown}
    answer = client.post(address, queue_form(client, deck.queue) | unknown)
    assert "no value is stored for it" in answer.content.decode()
    assert "hush" not in str(list(models.Activity.objects.values()))


def test_queues_are_paused_and_resumed(signed_in, deck):
    client = signed_in()
    for act in ("pause", "pause", "resume"):
        client.post(
            "/admin/scheduling/queue/", {"action": act, "_selected_action": [deck.queue.pk], "index": 0}
        )
    assert not refresh(deck.queue).paused
    assert [line.verb for line in lines()] == ["paused", "resumed"]


# --- All that match ---


def test_selected_tasks_are_cancelled_after_confirmation(signed_in, deck):
    client = signed_in()
    page = run_action(client, TASKS, "cancel_ticked", deck.task.pk)
    address, _ = page.redirect_chain[-1]
    assert address.startswith(CANCEL)
    assert "1 task" in page.content.decode()
    assert refresh(deck.task).cancelled_at is None
    client.post(address, {"seen": page.context["seen"]})
    assert refresh(deck.task).cancelled_at is not None
    assert [(line.verb, line.count) for line in lines()] == [("cancelled_matching", 1), ("cancelled", 3)]


def test_bulk_cancel_in_the_admin_covers_exactly_the_matching_tasks(signed_in, deck, tmp_path):
    tasks = more_tasks(deck, tmp_path, 12)
    client = signed_in()
    page = client.get(CANCEL, {"q": "autumn"})
    assert page.context["counts"] == bulk_cancel.Count(tasks=12, ids=12)
    late = more_tasks(deck, tmp_path, 1)[0]
    form = {"seen": page.context["seen"], "number": "12"}
    answer = client.post(f"{CANCEL}?q=autumn", form, follow=True)
    assert "12 tasks are cancelled" in answer.content.decode()
    assert all(refresh(task).cancelled_at for task in tasks)
    assert refresh(deck.task).cancelled_at is None
    # It came in after the question.
    assert refresh(late).cancelled_at is None
    assert len(lines("cancelled")) == 12


@pytest.mark.parametrize("number", ["", "11", "13", "all", "1 2"])
def test_bulk_cancel_in_the_admin_requires_typing_the_number(signed_in, deck, tmp_path, number):
    more_tasks(deck, tmp_path, 12)
    client = signed_in()
    answer = client.post(f"{CANCEL}?q=autumn", {"seen": snapshot(client, q="autumn"), "number": number})
    assert answer.status_code == 200
    assert not models.Task.objects.filter(cancelled_at__isnull=False).exists()


def test_bulk_cancel_is_finished_by_a_job(signed_in, deck, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk_cancel, "CLICK_SECONDS", -1)
    tasks = more_tasks(deck, tmp_path, 5)
    client = signed_in()
    form = {"seen": snapshot(client, q="autumn"), "number": "5"}
    answer = client.post(f"{CANCEL}?q=autumn", form, follow=True)
    assert "5 more are cancelled by a job" in answer.content.decode()
    assert not any(refresh(task).cancelled_at for task in tasks)
    texts = queued("scheduling.jobs.cancel_matching")
    assert len(texts) == 1
    # A job may run twice.
    jobs.cancel_matching(*texts[0])
    jobs.cancel_matching(*texts[0])
    assert all(refresh(task).cancelled_at for task in tasks)
    assert refresh(deck.task).cancelled_at is None
    assert [line.actor_name for line in lines("cancelled")] == ["operator"] * 5


def queued(path: str) -> list[tuple]:
    return [row.task["args"] for row in OrmQ.objects.all() if row.task["func"] == path]


@pytest.mark.parametrize(
    ("state", "count"), [("placing", 0), ("placed", 1), ("running", 0), ("done", 0), ("cancelled", 0)]
)
def test_bulk_cancel_filters_by_the_state_at_the_time_of_asking(deck, state, count):
    at = store.now()
    matching = bulk_cancel.Matching(at=at, up_to_id=deck.task.pk, state=state)
    assert bulk_cancel.count(matching).tasks == count
    # An hour on it runs; what was asked for stays the same.
    models.Task.objects.update(first_minute_at=at - timedelta(hours=1), placed_at=at - timedelta(hours=2))
    assert bulk_cancel.count(matching).tasks == (1 if state == "running" else 0)


@pytest.mark.parametrize(
    "query", ["state=lost", "queue=x", "ids=1,x", "ids=-1", "name=x", "queue=99999999999999999999"]
)
def test_bulk_cancel_refuses_unknown_filters(signed_in, deck, query):
    client = signed_in()
    assert client.get(f"{CANCEL}?{query}").status_code == 404
    assert client.post(f"{CANCEL}?{query}", {"seen": snapshot(client)}).status_code == 404
    assert refresh(deck.task).cancelled_at is None


# --- Operators and tokens: each act of the admin leaves its line, too ---


def test_admin_operations_on_operators_and_tokens_are_logged(signed_in, deck):
    client = signed_in("admin")
    new = {
        "username": "new",
        "role": "viewer",
        "password1": "a long passphrase",
        "password2": "a long passphrase",
    }
    client.post("/admin/operators/operator/add/", {**new, "usable_password": "true"})
    key = Operator.objects.get(username="new").pk
    client.post(
        f"/admin/operators/operator/{key}/change/",
        {"username": "new", "role": "operator", "is_active": "on", "time_zone": "UTC"},
    )
    client.post(
        "/admin/operators/operator/", {"action": "sign_out_everywhere", "_selected_action": [key], "index": 0}
    )
    client.post(reverse("admin:operators_operator_delete", args=[key]), {"post": "yes"})
    client.post("/admin/operators/token/add/", {"name": "billing", "scope": "read"})
    token = models.Activity.objects.get(verb="issued", object_name="billing").object_id
    run_action(client, "/admin/operators/token/", "revoke", token)
    rows = models.Activity.objects.filter(face=Interface.ADMIN, actor_name="admin").order_by("pk")
    assert list(rows.values_list("verb", flat=True)) == [
        "created", "changed", "signed_out_everywhere", "deleted", "issued", "revoked",
    ]  # fmt: skip
