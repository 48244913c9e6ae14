"""The pages of alerts: what is wrong, what is watched, channels whose secrets nobody reads back, and deliveries."""

import ipaddress
import re

import pytest

from scheduling import models, store
from scheduling.alerts import evaluation
from scheduling.events import delivery, recording
from scheduling.models import AlertKind, Channel, Delivery, EventType
from scheduling.tasks import holds
from tests.scheduling.alerts.watched import BY, make_channel
from tests.scheduling.target import Target, status

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/alerts/"
DELIVERIES = "/dashboard/alerts/deliveries/"


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]


def text(answer) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def fields(**changes) -> dict:
    return {"name": "Ops", "types": ["alert.firing", "alert.resolved"], "is_on": "on", **changes}


def rules(**changes) -> dict:
    result = {f"{kind}_on": "on" for kind in AlertKind}
    result |= {"ids_late_threshold": 5, "target_blocked_threshold": 5, "quota_threshold": 80}
    return {**result, **changes}


def test_page_shows_open_alerts_with_a_link_and_what_to_do(sign_in, place):
    task = place([1, 2, 3])
    holds.hold(task, "wrong prices", by=BY, now=store.now)
    evaluation.evaluate(at=store.now())
    shown = sign_in("viewer").get(PAGE)
    assert f'href="/dashboard/tasks/{task.pk}/"' in shown.content.decode()
    assert "wrong prices" in text(shown)
    assert 'id="list_on_hold"' in shown.content.decode()
    for kind in AlertKind:
        assert f'id="{kind}"' in shown.content.decode()
        assert models.WATCHES[kind].runbook in text(shown).replace("&#x27;", "'")


def test_page_of_a_healthy_installation_says_so(sign_in, queue):
    assert "Nothing needs attention" in text(sign_in("viewer").get(PAGE))


def test_webhook_is_added_with_a_secret_that_is_shown_once(sign_in, queue):
    client = sign_in("admin")
    with Target() as target:
        added = client.post(f"{PAGE}channels/new/webhook/", fields(address=target.url))
        channel = Channel.objects.get()
        secret = re.search(r"whsec_[A-Za-z0-9+/=]{20,}", added.content.decode())[0]
        answer = client.post(f"{PAGE}channels/{channel.pk}/test/", follow=True)
    assert "The test was delivered" in text(answer)
    assert len(target.requests) == 1
    for page in (PAGE, f"{PAGE}channels/{channel.pk}/", "/dashboard/activity/"):
        assert secret not in client.get(page).content.decode()
    assert channel.base_url == "http://testserver"


def test_failed_test_of_a_channel_says_why(sign_in, queue):
    client = sign_in("admin")
    with Target(lambda request: status(404)) as target:
        channel = make_channel("webhook", target.url)
        answer = client.post(f"{PAGE}channels/{channel.pk}/test/", follow=True)
    assert "could not be delivered" in text(answer)
    assert "404" in text(answer)


def test_address_of_slack_is_not_shown_again(sign_in, queue):
    client = sign_in("admin")
    client.post(
        f"{PAGE}channels/new/slack/", fields(address="https://hooks.slack.test/services/T0/B0/very-secret")
    )
    channel = Channel.objects.get()
    page = client.get(f"{PAGE}channels/{channel.pk}/").content.decode()
    assert "very-secret" not in page
    assert "hooks.slack.test" in page
    client.post(f"{PAGE}channels/{channel.pk}/", fields(name="Chat", address=""))
    channel.refresh_from_db()
    assert channel.name == "Chat"
    assert delivery.unseal(channel).endswith("very-secret")


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("email", {"address": "nobody"}, "nobody is not an e-mail address such as ann@example.com."),
        ("webhook", {"address": "ftp://x.test/"}, "http"),
        ("webhook", {"address": "https://x.test/", "types": []}, "It must be a list of one or more"),
        ("webhook", {"address": "https://x.test/", "name": "Taken"}, "A channel named Taken already exists."),
    ],
)
def test_wrong_fields_of_a_channel_are_shown_beside_them(sign_in, queue, kind, changes, reason):
    make_channel("email", "ann@deck.example", name="Taken")
    answer = sign_in("admin").post(f"{PAGE}channels/new/{kind}/", fields(**changes))
    assert answer.status_code == 422
    assert reason in text(answer)
    assert Channel.objects.count() == 1


def test_channel_is_deleted_with_its_deliveries(sign_in, queue):
    channel = make_channel("webhook", "https://hook.test/", types=["task.done"])
    recording.record(EventType.TASK_DONE, "done", {}, at=store.now())
    sign_in("admin").post(f"{PAGE}channels/{channel.pk}/delete/")
    assert not Channel.objects.exists()
    assert not Delivery.objects.exists()


def test_rules_are_saved_and_wrong_ones_refused(sign_in, queue):
    client = sign_in("admin")
    changed = rules(ids_late_threshold=30)
    del changed["disk_low_on"]
    assert client.post(f"{PAGE}rules/", changed).status_code == 302
    saved = evaluation.rules_by_kind()
    assert (saved[AlertKind.IDS_LATE].threshold, saved[AlertKind.DISK_LOW].is_on) == (30, False)
    assert models.Activity.objects.filter(verb="changed", object_kind="alertrule").count() == 2
    assert client.post(f"{PAGE}rules/", rules(quota_threshold=101)).status_code == 422
    assert 'value="30"' in client.get(PAGE).content.decode()


def test_test_alert_is_delivered_and_listed(sign_in, queue):
    client = sign_in("admin")
    assert "No channel receives alerts" in text(client.post(f"{PAGE}test/", {"kind": "quota"}, follow=True))
    with Target() as target:
        make_channel("webhook", target.url)
        shown = client.post(f"{PAGE}test/", {"kind": "quota"}, follow=True)
        assert "Test: Quota nearly used" in text(shown)
        delivery.deliver(store.now)
        assert "delivered after 1 attempt" in text(client.get(DELIVERIES))
    assert len(target.requests) == 1


def test_deliveries_are_filtered_and_sent_again(sign_in, queue):
    client = sign_in("operator")
    with Target() as target:
        channel = make_channel("webhook", target.url, types=["task.done"])
        recording.record(
            EventType.TASK_DONE, "The list is done.", {}, at=store.now(), path="/dashboard/tasks/1/"
        )
        delivery.deliver(store.now)
        row = Delivery.objects.get()
        assert "Send again" in text(
            client.get(f"{DELIVERIES}?channel={channel.pk}&state=delivered&type=task.done")
        )
        assert "No delivery matches" in text(client.get(f"{DELIVERIES}?state=abandoned"))
        assert client.get(f"{DELIVERIES}?state=lost").status_code == 400
        answer = client.post(f"{DELIVERIES}{row.pk}/send-again/", follow=True)
        assert "with the same webhook-id" in text(answer)
        answer = client.post(f"{DELIVERIES}{row.pk}/send-again/", follow=True)
        assert "The event is already due" in text(answer)
        delivery.deliver(store.now)
    assert len(target.requests) == 2


def test_board_and_page_say_which_channel_fails_until_it_is_delivered(sign_in, queue):
    client = sign_in("viewer")
    answers = [status(500)]
    with Target(lambda request: answers[-1]) as target:
        channel = make_channel("webhook", target.url, name="Ops")
        evaluation.test(AlertKind.QUOTA, by=BY, at=store.now())
        delivery.deliver(store.now)
        for page in ("/dashboard/", PAGE):
            shown = client.get(page)
            assert "answered 500" in text(shown), page
            assert f'href="{DELIVERIES}?channel={channel.pk}"' in shown.content.decode(), page
        answers.append(status(200))
        Delivery.objects.update(due_at=store.now())
        delivery.deliver(store.now)
    for page in ("/dashboard/", PAGE):
        assert "answered 500" not in text(client.get(page)), page


def test_operator_reads_the_page_but_may_not_change_channels(sign_in, queue):
    make_channel("webhook", "https://hook.test/")
    client = sign_in("operator")
    page = client.get(PAGE).content.decode()
    assert "Only admins can do this." in page
    assert f"{PAGE}channels/" not in page
