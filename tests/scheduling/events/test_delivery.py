"""Events reach their channels at least once, with one identifier, whoever dies; what fails is tried for a day."""

import json
from datetime import timedelta

import pytest
from django.db import transaction
from django_q.models import OrmQ
from standardwebhooks import Webhook as Verifier

from scheduling import models
from scheduling.alerts import channels, evaluation
from scheduling.core import clock
from scheduling.core.errors import BadFields, ChannelTaken, DeliveryDue
from scheduling.events import delivery, messages, recording, sealing
from scheduling.models import Channel, Delivery, Event, EventType
from scheduling.upkeep import reconciliation, retention
from settings.email import read_email_url
from settings.env import BadSetting
from tests.scheduling.alerts.watched import ALERTS, BASE_URL, BY, SECRET, make_channel
from tests.scheduling.mail_server import MailServer
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE
from tests.scheduling.target import Target, status

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def record(event_type=EventType.TASK_DONE, *, at=MINUTE) -> models.Event:
    event = recording.record(event_type, "A list is done.", {"task_id": 7}, at=at, path="/dashboard/tasks/7/")
    assert event is not None
    return event


def deliver(at=MINUTE) -> int:
    return delivery.deliver(lambda: at)


def queued() -> int:
    jobs = [job.task["func"] for job in OrmQ.objects.filter(key="quarterdeck")]
    return jobs.count("scheduling.jobs.deliver")


def lose_all_jobs() -> None:
    OrmQ.objects.all().delete()


def test_event_is_delivered_once_and_verifies():
    with Target() as target:
        make_channel("webhook", target.url, types=["task.done"], secret=SECRET)
        event = record()
        assert queued() == 1
        assert deliver() == 1
        assert deliver() == 0
    [request] = target.requests
    assert request.headers["webhook-id"] == event.key
    body = Verifier(SECRET).verify(request.body, request.headers)
    assert (body["type"], body["timestamp"]) == ("task.done", "2031-03-05T12:15:00Z")
    assert body["data"] == {
        "task_id": 7,
        "summary": "A list is done.",
        "url": f"{BASE_URL}/dashboard/tasks/7/",
    }
    assert Delivery.objects.get().state == "delivered"


def test_event_that_no_channel_gets_leaves_no_row():
    make_channel("webhook", "https://hook.test/", types=["task.cancelled"])
    off = make_channel("webhook", "https://hook.test/", types=["task.done"], name="off")
    channels.change(off, {"is_on": False}, by=BY, at=MINUTE)
    assert recording.record(EventType.TASK_DONE, "x", {}, at=MINUTE) is None
    assert not models.Event.objects.exists()


def test_event_of_a_transaction_that_fails_was_never_recorded():
    make_channel("webhook", "https://hook.test/", types=["task.done"])
    with transaction.atomic():
        record()
        transaction.set_rollback(True)
    assert not Delivery.objects.exists()
    assert queued() == 0


def test_many_events_of_one_transaction_queue_one_job():
    make_channel("webhook", "https://hook.test/", types=["task.done"])
    for _ in range(5):
        record()
    assert queued() == 1


def test_failing_delivery_is_retried_for_a_day_then_abandoned_and_logged():
    with Target(lambda request: status(500)) as target:
        make_channel("webhook", target.url, types=["task.done"])
        event, at, waits = record(), MINUTE, []
        while (due_at := Delivery.objects.get().due_at) is not None:
            waits.append(round((due_at - at).total_seconds() / 60))
            at = due_at
            assert deliver(at) == 0
        row = Delivery.objects.get()
    assert waits[:9] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert timedelta(hours=22) < at - MINUTE < DAY
    assert {request.headers["webhook-id"] for request in target.requests} == {event.key}
    assert (row.state, row.status, row.error, row.attempts) == ("abandoned", 500, "answered 500", len(waits))
    line = models.Activity.objects.get(verb="abandoned_event")
    assert (line.after["attempts"], line.after["webhook_id"]) == (len(waits), event.key)


def test_retry_after_of_a_receiver_is_kept_to():
    with Target(lambda request: status(503, Retry_After="900")) as target:
        make_channel("webhook", target.url, types=["task.done"])
        record()
        deliver()
    assert Delivery.objects.get().due_at == MINUTE + timedelta(seconds=900)


def test_worker_that_dies_before_it_stores_the_outcome_neither_loses_nor_hides_the_event(monkeypatch):
    with Target() as target:
        make_channel("webhook", target.url, types=["task.done"])
        event = record()

        def die(*_) -> None:
            raise SystemExit

        with monkeypatch.context() as dying:
            dying.setattr(delivery, "_record", die)
            with pytest.raises(SystemExit):
                deliver()
        lose_all_jobs()
        assert deliver(MINUTE + timedelta(seconds=60)) == 0, "somebody may still be at it"
        later = MINUTE + delivery.LEASE
        delivery.wake(at=later + delivery.GRACE)
        delivery.wake(at=later + delivery.GRACE)
        assert queued() == 1
        assert deliver(later) == 1
    assert [request.headers["webhook-id"] for request in target.requests] == [event.key, event.key]


def test_delivery_without_a_job_is_found_by_the_sweep():
    make_channel("webhook", "https://hook.test/", types=["task.done"])
    record()
    lose_all_jobs()
    reconciliation.requeue_lost_work(at=MINUTE + timedelta(seconds=5))
    assert queued() == 0, "its job may still come"
    reconciliation.requeue_lost_work(at=MINUTE + timedelta(seconds=15))
    assert queued() == 1


def test_channel_that_fails_keeps_no_other_one_waiting():
    with Target(lambda request: status(500)) as broken, Target() as well:
        make_channel("webhook", broken.url, types=["task.done"], name="a")
        make_channel("webhook", well.url, types=["task.done"], name="b")
        for _ in range(30):
            record()
        assert deliver() == 30
    assert len(well.requests) == 30
    assert len(broken.requests) == delivery.AT_ONCE_OF_A_CHANNEL


def test_address_inside_the_network_is_refused_as_for_webhooks(settings):
    with Target() as target:
        channel = make_channel("webhook", target.url)
        settings.WEBHOOK_ALLOWED_NETWORKS = []
        with pytest.raises(BadFields):
            make_channel("webhook", target.url, name="another")
        outcome = channels.test(channel, by=BY, at=MINUTE)
    assert outcome.error.startswith("address not allowed")
    assert target.requests == []


def test_send_again_delivers_with_the_same_identifier():
    with Target() as target:
        make_channel("webhook", target.url, types=["task.done"])
        event = record()
        with pytest.raises(DeliveryDue):
            delivery.send_again(Delivery.objects.get(), by=BY, at=MINUTE)
        deliver()
        delivery.send_again(Delivery.objects.get(), by=BY, at=MINUTE + 2 * DAY)
        assert deliver(MINUTE + 2 * DAY) == 1
    assert [request.headers["webhook-id"] for request in target.requests] == [event.key] * 2
    assert models.Activity.objects.filter(verb="sent_event_again").count() == 1


def test_events_past_the_retention_are_deleted(settings):
    settings.RETENTION_DAYS = 1
    make_channel("webhook", "https://hook.test/", types=["task.done"])
    record()
    record(at=MINUTE + 2 * DAY)
    assert retention.prune(lambda: MINUTE + 2 * DAY)
    assert models.Event.objects.get().at == MINUTE + 2 * DAY
    assert Delivery.objects.count() == 1


# --- E-mail ---


@pytest.fixture
def mail(settings):
    with MailServer() as server:
        settings.EMAIL_URL = f"smtp://127.0.0.1:{server.port}/?from=deck@deck.example&starttls=0"
        for name, value in read_email_url(settings.EMAIL_URL).items():
            setattr(settings, name, value)
        # pytest-django replaces it, so that no test sends mail by accident.
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        yield server


def test_email_about_several_alerts_names_the_first_and_counts_the_rest():
    data = {"runbook": "Read.", "docs": "docs/alerts.md", "test": False, "count": 3}
    data["alerts"] = [{"subject": "1", "summary": "One & two.", "path": "/dashboard/tasks/1/"}]
    event = Event(type=EventType.ALERT_FIRING, at=clock.EPOCH, title="List on hold: 3 alerts", data=data)
    channel = Channel(address="ann@example.com", base_url=BASE_URL, name="mail")
    lines = messages.email_of(event, channel).body.splitlines()
    assert lines[2:4] == ["- One & two.", "- and 2 more"]
    assert "- One &amp; two." in messages.slack_body(event, channel).decode()


def test_alert_is_sent_by_email_with_link_and_runbook(mail):
    make_channel("email", "ann@deck.example, bob@deck.example")
    evaluation.test(models.AlertKind.DISK_LOW, by=BY, at=MINUTE)
    assert deliver() == 1
    [message] = mail.messages
    assert message["To"] == "ann@deck.example, bob@deck.example"
    assert message["From"] == "deck@deck.example"
    assert message["Subject"] == "[Quarterdeck] Test: Disk nearly full: nothing is wrong."
    event = models.Event.objects.get()
    assert message["Message-ID"].startswith(f"<{event.key}.")
    text = message.get_content()
    assert f"{BASE_URL}/dashboard/alerts/#disk_low" in text
    assert models.WATCHES[models.AlertKind.DISK_LOW].runbook in text.replace("\n", " ")
    assert "docs/alerts.md#disk_low" in text


def test_email_that_is_refused_is_retried_with_one_message_id(mail):
    make_channel("email", "ann@deck.example")
    evaluation.test(models.AlertKind.DISK_LOW, by=BY, at=MINUTE)
    mail.refuses = "451 try later"
    assert deliver() == 0
    row = Delivery.objects.get()
    assert row.state == "due"
    assert "try later" in row.error
    mail.refuses = ""
    assert deliver(row.due_at) == 1
    assert len(mail.messages) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_title_with_a_line_break_adds_no_header_to_an_email(mail, end):
    make_channel("email", "ann@deck.example", types=["task.on_hold"])
    task = place(make_queue("a"), {MINUTE + DAY: [1]}, at=BEFORE, name="spring")
    recording.task_on_hold(task, f"asked{end}Reply-To: eve@deck.example", at=MINUTE)
    assert deliver() == 1
    [message] = mail.messages
    assert message["Reply-To"] is None
    assert message["Subject"].endswith("is on hold: asked Reply-To: eve@deck.example.")


def test_email_without_a_server_says_which_setting_is_missing():
    channel = make_channel("email", "ann@deck.example")
    outcome = channels.test(channel, by=BY, at=MINUTE)
    assert "EMAIL_URL" in outcome.error
    line = models.Activity.objects.get(verb="tested_channel")
    assert line.after["error"] == outcome.error


@pytest.mark.parametrize(
    "url",
    [
        "mail.example",
        "smtp://mail.example",
        "smtp://mail.example/?from=nobody",
        "smtp://mail.example/?from=a@b.example&ssl=1",
        "http://mail.example/?from=a@b.example",
        "smtp://u:secret@mail.example:x/?from=a@b.example",
    ],
)
def test_wrong_email_url_is_refused_without_its_password(url):
    with pytest.raises(BadSetting) as refused:
        read_email_url(url)
    assert "EMAIL_URL" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_email_url_is_read_completely():
    read = read_email_url("smtp://ann:p%40ss@mail.example/?from=deck@deck.example")
    assert read["EMAIL_HOST_PASSWORD"] == "p@ss"
    assert (read["EMAIL_HOST"], read["EMAIL_PORT"], read["EMAIL_USE_TLS"]) == ("mail.example", 587, True)
    assert read_email_url("smtps://mail.example/?from=a@b.example")["EMAIL_PORT"] == 465


# --- Slack ---


def test_slack_gets_its_own_format_and_its_address_is_not_stored_readable():
    with Target() as target:
        channel = make_channel("slack", f"{target.url}?token=very-secret")
        queue = make_queue("a")
        task = place(queue, {MINUTE + DAY: [1]}, at=BEFORE, name="<5 & 6>")
        text = f"The list “{task.name}” is on hold."
        recording.record(EventType.ALERT_RESOLVED, text, {"kind": "list_on_hold"}, at=MINUTE, path="/x/")
        assert deliver() == 1
    [request] = target.requests
    assert request.path.endswith("token=very-secret")
    assert json.loads(request.body) == {
        "text": "\N{LARGE GREEN CIRCLE} The list “&lt;5 &amp; 6&gt;” is on hold.\n"
        f"<{BASE_URL}/x/|Open in Quarterdeck>"
    }
    assert "very-secret" not in str(models.Channel.objects.filter(pk=channel.pk).values().get())
    assert "very-secret" not in str(list(models.Activity.objects.values()))


def test_redirect_of_slack_does_not_show_its_address():
    # Such as the one from http to https, which repeats the path.
    moved = status(308, b"very-secret", Location="https://chat.example/very-secret")
    with Target(answer=lambda request: moved) as target:
        channel = make_channel("slack", f"{target.url}very-secret", types=["task.on_hold"])
        assert channels.test(channel, by=BY, at=MINUTE).error == "answered 308"
        task = place(make_queue("a"), {MINUTE + DAY: [1]}, at=BEFORE, name="spring")
        recording.task_on_hold(task, "", at=MINUTE)
        assert deliver() == 0
    assert Delivery.objects.get().error == "answered 308"
    assert "very-secret" not in str(list(models.Activity.objects.values()))


# --- Channels ---


def test_webhook_gets_a_secret_that_is_returned_once():
    fields = {"name": "x", "address": "https://hook.test/", "types": ALERTS}
    channel, secret = channels.create(kind="webhook", fields=fields, base_url="", by=BY, at=MINUTE)
    assert secret.startswith("whsec_")
    assert secret not in str(models.Channel.objects.values().get())
    changed = channels.change(channel, {"secret": "", "name": "y"}, by=BY, at=MINUTE)
    assert (changed.name, changed.sealed, changed.version) == ("y", channel.sealed, 2)
    assert secret not in str(list(models.Activity.objects.values()))
    with pytest.raises(ChannelTaken):
        channels.create(kind="webhook", fields={**fields, "name": "y"}, base_url="", by=BY, at=MINUTE)


@pytest.mark.parametrize(
    ("kind", "fields", "wrong"),
    [
        ("email", {"address": "nobody"}, "address"),
        ("email", {"address": ""}, "address"),
        ("email", {"secret": SECRET}, "secret"),
        ("webhook", {"address": "ftp://hook.test/"}, "address"),
        ("webhook", {"secret": "short"}, "secret"),
        ("webhook", {"types": ["task.doen"]}, "types"),
        ("webhook", {"types": []}, "types"),
        ("webhook", {"name": " "}, "name"),
        ("slack", {"address": ""}, "address"),
        ("pager", {}, "kind"),
    ],
)
def test_wrong_fields_of_a_channel_are_named(kind, fields, wrong):
    address = "ann@deck.example" if kind == "email" else "https://hook.test/"
    with pytest.raises(BadFields) as refused:
        channels.create(
            kind=kind,
            fields={"name": "x", "address": address, "types": ALERTS, **fields},
            base_url="",
            by=BY,
            at=MINUTE,
        )
    assert list(refused.value.reasons) == [wrong]


def test_reencrypt_moves_secrets_of_channels_to_the_current_key(settings):
    channel = make_channel("webhook", "https://hook.test/", secret=SECRET)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another-key-for-the-tests-and-for-nothing-else"
    sealing.reencrypt()
    settings.SECRET_KEY_FALLBACKS = []
    channel.refresh_from_db()
    assert sealing.unseal(channel) == SECRET


def test_secret_of_another_secret_key_fails_with_what_to_do(settings):
    channel = make_channel("webhook", "https://hook.test/")
    settings.SECRET_KEY = "another-key-for-the-tests-and-for-nothing-else"
    assert "enter it again" in channels.test(channel, by=BY, at=MINUTE).error
