"""Each kind of alert by its real cause: reported once, again each hour while it lasts, and once when it is over."""

from datetime import UTC, datetime, timedelta

import pytest

from operators.actor import Actor
from scheduling import models
from scheduling.alerts import conditions
from scheduling.core import clock
from scheduling.core.retry import Verdict
from scheduling.dispatch import breakers, overdue
from scheduling.handlers.base import Outcome
from scheduling.models import AlertKind
from scheduling.proof import checks
from scheduling.tasks import callbacks, cancellation, holds
from scheduling.upkeep import quarter_hour
from tests.scheduling.alerts.watched import BASE_URL, BY, Installation
from tests.scheduling.placed import make_queue, place
from tests.scheduling.simulated import SimulatedHandler, SimulatedTime
from tests.scheduling.store.test_claims import BEFORE, MINUTE, SimulatedWorker
from tests.scheduling.target import Target, status

pytestmark = pytest.mark.django_db

FIRING, RESOLVED = "alert.firing", "alert.resolved"


def check_life(
    installation: Installation, kind: AlertKind, end, *, url: str, starts_after=timedelta()
) -> None:
    """Check the whole life of an alert whose cause is there: once, each hour, and once when `end` has been called."""
    if starts_after:
        installation.let_pass(seconds=starts_after.total_seconds() - 1)
        assert installation.messages == []
    installation.let_pass(minutes=2)
    assert installation.messages == [(FIRING, kind)]
    [first] = installation.bodies
    assert first["data"]["url"] == f"{BASE_URL}{url}"
    assert first["data"]["docs"] == f"docs/alerts.md#{kind}"
    assert first["data"]["runbook"] == models.WATCHES[kind].runbook
    for repeats in (1, 2):
        installation.let_pass(minutes=56)
        assert installation.messages == [(FIRING, kind)] * repeats
        installation.let_pass(minutes=5)
        assert installation.messages == [(FIRING, kind)] * (repeats + 1)
    assert [body["data"]["repeat"] for body in installation.bodies] == [0, 1, 2]
    end()
    installation.let_pass(minutes=5)
    assert installation.messages == [(FIRING, kind)] * 3 + [(RESOLVED, kind)]
    assert installation.bodies[-1]["data"]["subject"] == first["data"]["subject"]
    assert len({request.headers["webhook-id"] for request in installation.target.requests}) == 4
    installation.let_pass(minutes=65)
    assert len(installation.messages) == 4


def test_late_ids_are_reported_after_five_minutes_until_they_are_sent(installation):
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
    check_life(
        installation,
        AlertKind.IDS_LATE,
        lambda: cancellation.cancel(task, by=BY, now=lambda: installation.at),
        url="/dashboard/drill-down/?queue=q&kind=late",
        starts_after=timedelta(minutes=6),
    )


def test_late_ids_that_have_got_a_later_minute_are_still_late(installation):
    queue = make_queue(rpm=1)
    place(queue, {MINUTE: range(1, 11)}, at=BEFORE)
    installation.let_pass(minutes=2)
    overdue.run(lambda: installation.at)
    installation.let_pass(minutes=5)
    assert installation.messages == [(FIRING, AlertKind.IDS_LATE)]


@pytest.mark.parametrize("stop", ["pause", "hold"])
def test_ids_that_are_late_on_purpose_are_not_reported_as_late(installation, stop):
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
    if stop == "pause":
        models.Queue.objects.update(paused_at=BEFORE)
    else:
        holds.hold(task, by=BY, now=lambda: MINUTE)
    installation.let_pass(minutes=30)
    assert (FIRING, AlertKind.IDS_LATE) not in installation.messages


def test_blocked_target_is_reported_until_it_is_released(installation):
    refuses = SimulatedHandler(lambda request: _unavailable())
    queue = make_queue(rpm=60, handler="webhook", webhook_url="https://hook.test/", breaker_threshold=3)
    task = place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
    SimulatedTime(MINUTE - timedelta(seconds=4)).worker(MINUTE, make_handler=lambda queue: refuses).serve()
    cancellation.cancel(task, by=BY, now=lambda: MINUTE)
    target = models.Target.objects.get()
    assert target.opened_at is not None
    check_life(
        installation,
        AlertKind.TARGET_BLOCKED,
        lambda: breakers.release(target, by=BY, at=installation.at),
        url="/dashboard/",
        starts_after=timedelta(minutes=5),
    )


def _unavailable():
    return Outcome(Verdict.RETRY, status=500, error="answered 500")


def test_list_on_hold_is_reported_until_it_continues(installation):
    queue = make_queue(rpm=60)
    task = place(queue, {MINUTE + timedelta(days=1): [1, 2, 3]}, at=BEFORE)
    holds.hold(task, "wrong prices", by=BY, now=lambda: MINUTE)
    check_life(
        installation,
        AlertKind.LIST_ON_HOLD,
        lambda: holds.resume(task, by=BY, now=lambda: installation.at),
        url=f"/dashboard/tasks/{task.pk}/",
    )
    assert "wrong prices" in installation.bodies[0]["data"]["summary"]


def test_deadline_is_reported_when_it_is_at_risk_then_missed_until_the_list_ends(installation):
    queue = make_queue(rpm=60)
    last = MINUTE + timedelta(hours=3)
    task = place(queue, {last: [1, 2]}, at=BEFORE, deadline_at=last - timedelta(minutes=90))
    check_life(
        installation,
        AlertKind.DEADLINE,
        lambda: cancellation.cancel(task, by=BY, now=lambda: installation.at),
        url=f"/dashboard/tasks/{task.pk}/",
    )
    texts = [body["data"]["summary"] for body in installation.bodies]
    assert "will be done at" in texts[0]
    assert "has missed its deadline" in texts[2]


def test_quota_is_reported_at_80_percent_until_the_next_period(installation):
    quotas = [{"limit": 100, "per": "day", "zone": "UTC"}]
    queue = make_queue(rpm=120, quotas=quotas)
    place(queue, {MINUTE: range(1, 81)}, at=BEFORE)
    worker = SimulatedWorker(queue, immediate=True)
    for tick in range(399):
        if tick == 380:
            installation.look()
            assert installation.messages == []
        worker.tick(tick * 0.15)
    midnight = datetime(2031, 3, 6, tzinfo=UTC)
    check_life(
        installation,
        AlertKind.QUOTA,
        lambda: setattr(installation, "at", midnight),
        url="/dashboard/queues/q/",
    )


def test_quota_of_a_target_counts_the_requests_of_all_its_queues(installation):
    quotas = [{"limit": 100, "per": "day", "zone": "UTC"}]
    target = models.Target.objects.create(origin="https://hook.test:443", quotas=quotas)
    for name in ("one", "two"):
        queue = make_queue(name, rpm=60, target=target, handler="webhook", webhook_url="https://hook.test/")
        place(queue, {MINUTE: range(1, 41)}, at=BEFORE)
    time = SimulatedTime(MINUTE - timedelta(seconds=4))
    time.worker(MINUTE, make_handler=lambda queue: SimulatedHandler()).serve()
    installation.let_pass(minutes=2)
    [body] = installation.bodies
    assert body["data"]["kind"] == AlertKind.QUOTA
    assert "80 of this day's 100 requests" in body["data"]["summary"]
    assert body["data"]["url"] == f"{BASE_URL}/dashboard/targets/{target.pk}/"


def test_queue_without_readable_credentials_is_reported_as_blocked(installation, settings):
    queue = make_queue(
        rpm=60, handler="webhook", webhook_url="https://hook.test/", webhook_secret="whsec_hush"
    )
    task = place(queue, {MINUTE: range(1, 5)}, at=BEFORE)
    key, settings.SECRET_KEY = settings.SECRET_KEY, "the key of another installation"
    time = SimulatedTime(MINUTE - timedelta(seconds=3))
    time.tick_to_the_end(time.worker(MINUTE))
    settings.SECRET_KEY = key
    cancellation.cancel(task, by=BY, now=lambda: MINUTE)
    models.Queue.objects.update(blocked_until=MINUTE + timedelta(hours=1))
    installation.let_pass(minutes=7)
    assert installation.messages == [(FIRING, AlertKind.TARGET_BLOCKED)]
    assert installation.bodies[0]["data"]["url"] == f"{BASE_URL}/dashboard/queues/q/"


@pytest.mark.parametrize("cluster", ["minutes", "quarterdeck"])
def test_silent_cluster_is_reported_until_it_gives_a_sign(installation, cluster):
    installation.look()
    installation.is_alive[cluster] = False
    check_life(
        installation,
        AlertKind.CLUSTER_SILENT,
        lambda: installation.is_alive.update({cluster: True}),
        url="/dashboard/",
        starts_after=timedelta(minutes=2),
    )


def test_quarter_hour_that_was_not_processed_is_reported_until_it_is(installation):
    installation.look()
    installation.processes_quarters = False
    installation.let_pass(minutes=15)
    assert installation.messages == []

    def process() -> None:
        installation.processes_quarters = True
        quarter_hour.run(lambda: installation.at)

    check_life(
        installation, AlertKind.QUARTER_HOUR, process, url="/dashboard/", starts_after=timedelta(minutes=2)
    )


def test_discrepancy_of_the_plan_is_reported_until_a_check_finds_none(installation):
    queue = make_queue(rpm=60)
    day = timedelta(days=1)
    task = place(queue, {MINUTE + day: range(1, 41)}, at=BEFORE)
    lost = models.Assignment.objects.get(task=task, user_id=7)
    row = models.Assignment.objects.filter(pk=lost.pk).values().get()
    lost.delete()

    def check() -> None:
        act = checks.begin(by=Actor.system(), at=installation.at)
        checks.resume(act.pk, lambda: installation.at)

    check()
    act = models.BulkAct.objects.get()
    assert act.found_count == 2

    def repair() -> None:
        models.Assignment.objects.create(**row)
        check()

    check_life(installation, AlertKind.PLAN_CHECK, repair, url=f"/dashboard/proof/?check={act.pk}")


def test_disk_that_is_nearly_full_is_reported_by_its_host_until_there_is_room(installation):
    installation.look()
    full, roomy = [["DATA_DIR", 10**6, 10**12]], [["DATA_DIR", 10**11, 10**12]]
    models.Heartbeat.objects.filter(cluster="minutes").update(disks=full)
    models.Heartbeat.objects.filter(cluster="quarterdeck").update(disks=roomy, host="other")
    check_life(
        installation,
        AlertKind.DISK_LOW,
        lambda: models.Heartbeat.objects.update(disks=roomy),
        url="/dashboard/",
    )


def test_abandoned_callback_is_reported_until_it_was_delivered_after_all(installation):
    answers = [status(410)]
    with Target(lambda request: answers[-1]) as receiver:
        queue = make_queue(rpm=60, callback_url=receiver.url)
        task = place(queue, {MINUTE: [1, 2, 3]}, at=BEFORE)
        worker = SimulatedWorker(queue, immediate=True)
        for second in (0, 20, 40):
            worker.tick(second)
        assert not callbacks.call_back(task.pk, lambda: installation.at + clock.MINUTE)

        def call_again() -> None:
            answers.append(status(200))
            callbacks.call_again(models.Task.objects.get(), by=BY, at=installation.at)
            assert callbacks.call_back(task.pk, lambda: installation.at)

        check_life(
            installation,
            AlertKind.CALLBACK,
            call_again,
            url="/dashboard/activity/?verb=gave_up_calling_back",
        )


def test_alerts_of_one_kind_are_one_message_that_counts_all_of_them(installation):
    queue = make_queue(rpm=600)
    day = MINUTE + timedelta(days=1)
    tasks = [place(queue, {day: [number]}, at=BEFORE) for number in range(1, 131)]
    for task in tasks:
        holds.hold(task, f"reason {task.pk}", by=BY, now=lambda: MINUTE)
    installation.let_pass(minutes=2)
    [body] = installation.bodies
    assert (body["data"]["count"], body["data"]["subject"]) == (130, "")
    assert body["data"]["summary"] == "List on hold: 130 alerts"
    assert [alert["subject"] for alert in body["data"]["alerts"]] == [f"{task.pk}" for task in tasks[:20]]
    assert body["data"]["alerts"][0]["url"] == f"{BASE_URL}/dashboard/tasks/{tasks[0].pk}/"
    assert models.Alert.objects.filter(ended_at=None, fired_at__isnull=False).count() == 130
    holds.resume(tasks[0], by=BY, now=lambda: installation.at)
    installation.let_pass(minutes=4)
    assert installation.messages[1:] == [(RESOLVED, AlertKind.LIST_ON_HOLD)]
    assert installation.bodies[1]["data"]["subject"] == f"{tasks[0].pk}"
    installation.let_pass(minutes=60)
    assert (installation.bodies[2]["data"]["count"], installation.bodies[2]["data"]["repeat"]) == (129, 1)
    for task in tasks[1:]:
        holds.resume(task, by=BY, now=lambda: installation.at)
    installation.let_pass(minutes=4)
    assert installation.bodies[3]["data"]["summary"] == "Resolved: List on hold: 129 alerts"
    assert len(installation.bodies) == 4
    assert not models.Alert.objects.filter(ended_at=None).exists()


def test_every_kind_has_a_condition_and_a_watch():
    assert set(conditions._CONDITIONS) == set(models.WATCHES) == set(AlertKind)
