"""Conditions are looked at once a minute by one of several clusters, and each alert is recorded once, whoever dies."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling import models
from scheduling.alerts import conditions, evaluation
from scheduling.core.errors import BadFields
from scheduling.core.time_limit import TimeLimit
from scheduling.events import delivery
from scheduling.models import Alert, AlertKind, Event
from scheduling.tasks import holds
from tests.scheduling.alerts.watched import BY, make_channel
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE

DAY = timedelta(days=1)


@pytest.fixture
def list_on_hold(db):
    task = place(make_queue(rpm=60), {MINUTE + DAY: [1, 2, 3]}, at=BEFORE)
    holds.hold(task, "wrong prices", by=BY, now=lambda: MINUTE)
    return task


def events() -> list[str]:
    return list(Event.objects.order_by("pk").values_list("type", flat=True))


@pytest.mark.django_db
def test_conditions_are_looked_at_once_a_minute(list_on_hold):
    assert evaluation.evaluate(at=MINUTE)
    assert not evaluation.evaluate(at=MINUTE + timedelta(seconds=50))
    assert evaluation.evaluate(at=MINUTE + timedelta(seconds=60))


@pytest.mark.django_db
def test_wake_asks_the_database_only_now_and_then(list_on_hold, monkeypatch):
    monkeypatch.setattr(evaluation, "_next_poll", TimeLimit(-1))
    evaluation.wake(at=MINUTE)
    assert Alert.objects.count() > 0
    with CaptureQueriesContext(
        connection,
    ) as queries:
        evaluation.wake(at=MINUTE + timedelta(minutes=2))
    assert len(queries) == 0


@pytest.mark.django_db
def test_look_at_an_idle_installation_takes_few_queries(django_assert_max_num_queries):
    models.Installation.current()
    for number, name in enumerate(("quarterdeck", "minutes")):
        models.Heartbeat.objects.create(
            owner=number, cluster=name, host="h", pid=1, started_at=BEFORE, seen_at=MINUTE
        )
    models.QuarterRun.objects.create(quarter_at=MINUTE, ran_at=MINUTE)
    # Half a query a second, since one of all processes looks each minute.
    with django_assert_max_num_queries(30):
        assert evaluation.evaluate(at=MINUTE)


@pytest.mark.django_db(transaction=True)
def test_several_clusters_that_look_at_once_record_one_alert(list_on_hold):
    make_channel("webhook", "https://hook.test/")
    models.Installation.current()
    barrier, looked = threading.Barrier(4), []

    def look() -> None:
        barrier.wait()
        looked.append(evaluation.evaluate(at=MINUTE))
        connection.close()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(looked) == [False, False, False, True]
    assert Event.objects.filter(data__kind="list_on_hold").count() == 1


@pytest.mark.django_db
def test_cluster_that_is_overtaken_while_it_looks_changes_nothing(list_on_hold, monkeypatch):
    make_channel("webhook", "https://hook.test/")
    find = conditions.find

    def slowly(kind, threshold, *, at):
        result = find(kind, threshold, at=at)
        if kind == AlertKind.CALLBACK and at == MINUTE:
            assert evaluation.evaluate(at=MINUTE + timedelta(minutes=1))
        return result

    monkeypatch.setattr(conditions, "find", slowly)
    assert not evaluation.evaluate(at=MINUTE)
    assert Event.objects.filter(data__kind="list_on_hold").count() == 1


@pytest.mark.django_db
def test_process_that_dies_while_it_records_loses_nothing_and_doubles_nothing(list_on_hold, monkeypatch):
    make_channel("webhook", "https://hook.test/")

    def die(*_, **__) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(evaluation, "_report", die)
        with pytest.raises(SystemExit):
            evaluation.evaluate(at=MINUTE)
    assert not Alert.objects.exists()
    assert events() == []
    for minute in range(1, 10):
        evaluation.evaluate(at=MINUTE + timedelta(minutes=minute))
    assert Event.objects.filter(data__kind="list_on_hold").count() == 1


@pytest.mark.django_db
def test_condition_that_comes_and_goes_within_two_minutes_is_one_alert(list_on_hold):
    make_channel("webhook", "https://hook.test/")
    models.AlertRule.objects.bulk_create(
        models.AlertRule(kind=kind, is_on=False) for kind in AlertKind if kind != AlertKind.LIST_ON_HOLD
    )
    at = MINUTE
    for _ in range(4):
        at += timedelta(minutes=1)
        evaluation.evaluate(at=at)
        holds.resume(list_on_hold, by=BY, now=lambda at=at: at)
        at += timedelta(minutes=1)
        evaluation.evaluate(at=at)
        holds.hold(list_on_hold, by=BY, now=lambda at=at: at)
    assert events() == ["alert.firing"]


@pytest.mark.django_db
def test_condition_that_fails_hides_no_other_one(list_on_hold, monkeypatch):
    find = conditions.find

    def fail(kind, threshold, *, at):
        if kind == AlertKind.IDS_LATE:
            raise ZeroDivisionError
        return find(kind, threshold, at=at)

    monkeypatch.setattr(conditions, "find", fail)
    evaluation.evaluate(at=MINUTE)
    assert Alert.objects.filter(kind=AlertKind.LIST_ON_HOLD).exists()


@pytest.mark.django_db
def test_kind_that_is_turned_off_ends_and_is_reported_no_more(list_on_hold):
    make_channel("webhook", "https://hook.test/")
    evaluation.evaluate(at=MINUTE)
    evaluation.set_rule(AlertKind.LIST_ON_HOLD, is_on=False, threshold=None, by=BY, at=MINUTE)
    evaluation.evaluate(at=MINUTE + timedelta(minutes=1))
    evaluation.evaluate(at=MINUTE + timedelta(minutes=70))
    own_events = Event.objects.filter(data__kind="list_on_hold").order_by("pk")
    assert [item.type for item in own_events] == ["alert.firing", "alert.resolved"]


@pytest.mark.django_db
def test_threshold_of_a_rule_applies_and_is_logged(db):
    place(make_queue(rpm=60), {MINUTE: [1]}, at=BEFORE)
    evaluation.set_rule(AlertKind.IDS_LATE, is_on=True, threshold=30, by=BY, at=MINUTE)
    line = models.Activity.objects.get(verb="changed")
    assert (line.before["threshold"], line.after["threshold"]) == (5, 30)
    for minutes, is_late in ((29, False), (32, True)):
        result = conditions.find(AlertKind.IDS_LATE, 30, at=MINUTE + timedelta(minutes=minutes))
        assert bool(result) == is_late
    for wrong in (0, 10**6, None):
        with pytest.raises(BadFields):
            evaluation.set_rule(AlertKind.IDS_LATE, is_on=True, threshold=wrong, by=BY, at=MINUTE)


@pytest.mark.django_db
def test_alert_of_a_silent_cluster_is_delivered_by_the_other_one(db, monkeypatch):
    make_channel("webhook", "https://hook.test/")
    woken = []
    monkeypatch.setattr(delivery, "wake", lambda **how: woken.append(how["on"]))
    for minute in range(3):
        at = MINUTE + timedelta(minutes=minute)
        models.Heartbeat.objects.update_or_create(
            owner=1,
            defaults={"cluster": "minutes", "host": "h", "pid": 1, "started_at": BEFORE, "seen_at": at},
        )
        monkeypatch.setattr(evaluation, "_next_poll", TimeLimit(-1))
        evaluation.wake(at=at)
    assert Event.objects.filter(data__kind="cluster_silent", data__subject="quarterdeck").exists()
    assert woken == ["minutes"] * 3
