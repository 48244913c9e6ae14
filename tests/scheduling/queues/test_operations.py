"""Queues are made, changed, paused and braked; what is planned follows."""

from datetime import timedelta
from ipaddress import ip_network

import pytest
from django.core.management.color import no_style
from django.db import connection

from operators.actor import Actor
from scheduling import models
from scheduling.core import clock, keys
from scheduling.core.errors import (
    AlreadyPaused,
    BadFields,
    NotPaused,
    QueueTaken,
    StaleVersion,
    TooManyQueues,
)
from scheduling.queues import effects, operations, rates
from tests.scheduling.lists_of_ids import NOON, check_counters, check_log, submit, write_all

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def by():
    return Actor.command_line()


@pytest.fixture
def queue(by):
    return operations.create(name="default", by=by, at=NOON)


@pytest.fixture
def capped(by):
    """A queue whose rpm is a hard cap."""
    return operations.create(name="default", fields={"overflow": "carry_over", "rpm": 100}, by=by, at=NOON)


def change(queue, by, at=NOON, if_version=None, **changes):
    return operations.update(queue, changes, by=by, now=lambda: at, if_version=if_version)


def by_minute() -> dict[int, int]:
    """Minutes from 12:15 on to how many IDs have their row there."""
    start = NOON.replace(minute=15, second=0)
    result: dict[int, int] = {}
    for row in models.Assignment.objects.all():
        minute = (row.minute_at - start) // clock.MINUTE
        result[minute] = result.get(minute, 0) + 1
    return result


# --- made and changed ---


def test_queue_has_the_documented_defaults(queue):
    assert (queue.rpm, queue.overflow, queue.handler, queue.max_attempts) == (120, "disperse", "record", 6)
    assert (queue.breaker_threshold, queue.read_timeout_seconds, queue.max_peak) == (20, 10, None)
    assert not queue.paused


def test_taken_queue_name_is_refused(queue, by):
    with pytest.raises(QueueTaken, match="default"):
        operations.create(name="default", by=by, at=NOON)
    assert models.Activity.objects.filter(verb="created").count() == 1


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 51, "a/b", None])
def test_queue_name_has_only_letters_digits_and_dashes(by, name):
    with pytest.raises(BadFields):
        operations.create(name=name, by=by, at=NOON)


def test_queue_beyond_the_largest_key_is_refused(by):
    last = models.Queue.objects.create(pk=models.MAX_QUEUES, name="last", created_at=NOON)
    try:
        execute(connection.ops.sequence_reset_sql(no_style(), [models.Queue]))
        with pytest.raises(TooManyQueues):
            operations.create(name="one-more", by=by, at=NOON)
    finally:
        last.delete()
        execute(connection.ops.sequence_reset_by_name_sql(no_style(), NUMBERS))


NUMBERS = [{"table": models.Queue._meta.db_table, "column": "id"}]


def execute(statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rpm", 0),
        ("rpm", True),
        ("rpm", "120"),
        ("rpm", models.MAX_RPM + 1),
        ("overflow", "spill"),
        ("max_peak", 0),
        ("handler", "exec"),
        ("handler", "webhook"),
        ("handler", "python"),
        ("max_attempts", 0),
        ("late_policy", "never"),
        ("late_after_seconds", -1),
        ("headroom", 120),
        ("breaker_threshold", 0),
        ("webhook_url", "ftp://hook.test/"),
        ("webhook_url", "hook.test"),
        ("webhook_url", "https://user:pass@hook.test/"),
        ("webhook_url", "https://hook.test:99999/"),
        ("webhook_url", "http://127.0.0.1/"),
        ("webhook_url", "http://[::ffff:7f00:1]/"),
        ("webhook_url", "http://2130706433/"),
        ("callback_url", "http://10.0.0.1/"),
        ("webhook_url", "https://hook.test/\n"),
        ("webhook_method", "TRACE"),
        ("webhook_headers", {"Host": "other"}),
        ("webhook_headers", {"webhook-id": "1"}),
        ("webhook_headers", {"X-A": "a\r\nX-B: b"}),
        ("webhook_headers", {"bad name": "a"}),
        ("webhook_secret", "secret"),
        ("webhook_secret", "whsec_short"),
        ("connect_timeout_seconds", 0),
        ("read_timeout_seconds", 20.5),
        ("read_timeout_seconds", float("nan")),
        ("max_connections", 0),
        ("python_callable", "os.system"),
        ("callback_url", "hook.test"),
        ("nosuch", 1),
        ("id", 7),
    ],
)
def test_invalid_field_is_refused_by_name(queue, by, field, value):
    with pytest.raises(BadFields) as refused:
        change(queue, by, **{field: value})
    assert len(refused.value.reasons) == 1
    assert field in refused.value.reasons or field == "handler"
    assert models.Queue.objects.get().version == 1


@pytest.mark.parametrize("path", ["{user_id}/renew", "u/{{id}}/{plan}", "u?x={id", "u/id}"])
def test_webhook_url_with_single_braces_is_refused(queue, by, path):
    with pytest.raises(BadFields) as refused:
        change(queue, by, handler="webhook", webhook_url=f"https://hook.test/{path}")
    assert refused.value.reasons == {
        "webhook_url": "A placeholder is written with two braces, such as {{id}}."
    }


def test_internal_webhook_url_is_accepted_in_an_allowed_network(queue, by, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    change(queue, by, webhook_url="http://127.0.0.1:8010/in", handler="webhook")
    assert models.Queue.objects.get().handler == "webhook"


def test_all_invalid_fields_are_reported_at_once(queue, by):
    with pytest.raises(BadFields) as refused:
        change(queue, by, rpm=0, max_attempts=99)
    assert set(refused.value.reasons) == {"rpm", "max_attempts"}


def test_secret_is_stored_and_never_logged(queue, by):
    changes = {"handler": "webhook", "webhook_url": "https://hook.example.com/in", "webhook_secret": SECRET}
    change(queue, by, webhook_headers={"Authorization": "Bearer abc"}, **changes)
    assert models.Queue.objects.get().webhook_secret == SECRET
    line = models.Activity.objects.get(verb="changed")
    assert SECRET not in str(line.after)
    assert "Bearer" not in str(line.after)
    assert line.after["webhook_secret"] is True
    assert line.after["webhook_headers"] == ["Authorization"]


def test_null_clears_a_secret(queue, by):
    change(queue, by, webhook_secret=SECRET)
    change(queue, by, webhook_secret=None)
    assert models.Queue.objects.get().webhook_secret == ""


def test_python_handler_accepts_allowed_callables_only(queue, by, settings):
    settings.PYTHON_HANDLERS = ["a.b.c"]
    change(queue, by, handler="python", python_callable="a.b.c")
    assert models.Queue.objects.get().handler == "python"


def test_queue_change_increments_the_version_and_is_logged(queue, by):
    change(queue, by, rpm=60, if_version=1)
    line = models.Activity.objects.get(verb="changed")
    assert (line.before, line.after) == ({"rpm": 120}, {"rpm": 60})
    with pytest.raises(StaleVersion):
        change(queue, by, rpm=90, if_version=1)
    assert models.Queue.objects.get().rpm == 60


def test_queue_change_without_effect_leaves_no_trace(queue, by):
    change(queue, by, rpm=120, paused=False)
    assert models.Queue.objects.get().version == 1
    assert models.Activity.objects.filter(verb="changed").count() == 0


# --- pause, brake ---


def test_pause_and_resume_are_logged(queue, by):
    operations.pause(queue, by=by, at=NOON)
    assert models.Queue.objects.get().paused_at == NOON
    operations.resume(queue, by=by, at=NOON + timedelta(hours=1))
    assert models.Queue.objects.get().paused_at is None
    assert list(models.Activity.objects.order_by("pk").values_list("verb", flat=True)) == [
        "created",
        "paused",
        "resumed",
    ]


def test_second_pause_is_refused(queue, by):
    operations.pause(queue, by=by, at=NOON)
    with pytest.raises(AlreadyPaused, match="default"):
        operations.pause(queue, by=by, at=NOON)
    operations.resume(queue, by=by, at=NOON)
    with pytest.raises(NotPaused):
        operations.resume(queue, by=by, at=NOON)


def test_all_queues_are_paused_and_resumed_at_once(queue, by):
    other = operations.create(name="other", paused=True, by=by, at=NOON)
    assert operations.pause_all(by=by, at=NOON) == 1
    assert operations.resume_all(by=by, at=NOON) == 2
    other.refresh_from_db()
    assert not other.paused


def test_paused_can_be_set_as_a_field(queue, by):
    change(queue, by, paused=True)
    assert models.Queue.objects.get().paused_at == NOON
    change(queue, by, paused=True, rpm=60)
    change(queue, by, paused=False)
    assert models.Queue.objects.get().paused_at is None


def test_resuming_looks_for_overdue_ids_at_once(queue, by, tmp_path):
    from django_q.models import OrmQ

    submit([1], tmp_path, by=by)
    write_all()
    operations.pause(queue, by=by, at=NOON)
    OrmQ.objects.all().delete()
    operations.resume(queue, by=by, at=NOON + timedelta(hours=1))
    assert [job.func() for job in OrmQ.objects.all()] == ["scheduling.jobs.place_late"]


def test_brake_is_set_and_released(queue, by):
    operations.brake(queue, 30, by=by, at=NOON)
    assert models.Queue.objects.get().brake_per_minute == 30
    operations.brake(queue, 30, by=by, at=NOON)
    operations.brake(queue, None, by=by, at=NOON)
    assert models.Queue.objects.get().brake_per_minute is None
    verbs = models.Activity.objects.order_by("pk").values_list("verb", flat=True)
    assert list(verbs) == ["created", "braked", "released"]
    with pytest.raises(BadFields):
        operations.brake(queue, -1, by=by, at=NOON)


# --- rpm ---


def test_rpm_change_affects_open_and_future_windows_only(queue, by, tmp_path):
    later = NOON + clock.QUARTER
    submit(range(1, 11), tmp_path, by=by)
    submit(range(1, 11), tmp_path, by=by, at=later)
    submit(range(1, 11), tmp_path, by=by, at=later, not_before=NOON + timedelta(hours=3))
    change(queue, by, at=later, rpm=60)
    windows = models.Window.objects.order_by("pk")
    capacities = [set(window.buckets.values_list("capacity", flat=True)) for window in windows]
    assert capacities == [{120}, {60}, {60}]


def test_rpm_change_under_disperse_moves_no_id(queue, by, tmp_path):
    submit(range(1, 1_001), tmp_path, by=by)
    write_all()
    before = by_minute()
    change(queue, by, rpm=60)
    rates.refit(lambda: NOON)
    assert by_minute() == before


def test_rpm_change_under_carry_over_moves_excess_ids_to_later_minutes(capped, by, tmp_path):
    submit(range(1, 351), tmp_path, by=by)
    write_all()
    assert by_minute() == {0: 100, 1: 100, 2: 100, 3: 50}
    promised = effects.of_rpm(capped, 60, at=NOON)
    change(capped, by, rpm=60)
    assert rates.refit(lambda: NOON) == 120
    assert by_minute() == {0: 60, 1: 60, 2: 60, 3: 60, 4: 60, 5: 50}
    assert promised.moved_count == 120
    assert (promised.before.peak, promised.after.peak) == (100, 60)
    assert promised.after.over_count == 0
    last = NOON.replace(minute=15, second=0) + 6 * clock.MINUTE
    assert promised.after.ends_at == last
    assert models.Task.objects.get().last_minute_at == last - clock.MINUTE
    assert set(models.Move.objects.values_list("reason", flat=True)) == {"rpm"}
    check_counters()
    check_log()


def test_rpm_change_never_moves_an_id_to_an_earlier_minute(capped, by, tmp_path):
    submit(range(1, 1_501), tmp_path, by=by)
    submit(range(2_001, 2_101), tmp_path, by=by, not_before=NOON + timedelta(hours=2))
    write_all()
    late_ones = models.Task.objects.order_by("pk").last()
    change(capped, by, rpm=40)
    rates.refit(lambda: NOON)
    assert max(by_minute().values()) == 40
    first = min(row.minute_at for row in models.Assignment.objects.filter(task=late_ones))
    assert first >= NOON + timedelta(hours=2)
    check_counters()
    check_log()


def test_ids_without_a_row_stay_until_it_is_written(capped, by, tmp_path):
    submit(range(1, 201), tmp_path, by=by)
    change(capped, by, rpm=60)
    assert rates.refit(lambda: NOON) == 0
    write_all()
    assert rates.wake(at=NOON)
    assert rates.refit(lambda: NOON) == 80
    assert by_minute() == {0: 60, 1: 60, 2: 60, 3: 20}
    assert not rates.wake(at=NOON)


def test_paused_queue_moves_no_ids(capped, by, tmp_path):
    submit(range(1, 201), tmp_path, by=by)
    write_all()
    change(capped, by, rpm=60, paused=True)
    assert rates.refit(lambda: NOON) == 0
    assert not rates.wake(at=NOON)
    change(capped, by, paused=False)
    assert rates.refit(lambda: NOON) == 80


def test_rpm_change_in_many_slices_gives_the_same_result(capped, by, tmp_path, monkeypatch):
    submit(range(1, 1_001), tmp_path, by=by)
    write_all()
    monkeypatch.setattr(rates, "SLICE_IDS", 37)
    monkeypatch.setattr(rates, "SLICE_BUCKETS", 2)
    change(capped, by, rpm=30)
    rates.refit(lambda: NOON)
    counts = by_minute()
    assert set(list(counts.values())[:-1]) <= {30, 10}
    assert sum(counts.values()) == 1_000
    assert max(counts) == 33
    check_counters()
    check_log()


def test_sealed_minute_keeps_its_ids(capped, by, tmp_path):
    submit(range(1, 201), tmp_path, by=by)
    write_all()
    first = keys.bucket_at(capped.pk, NOON.replace(minute=15, second=0))
    models.Bucket.objects.filter(pk=first).update(sealed_at=NOON)
    change(capped, by, rpm=60)
    rates.refit(lambda: NOON)
    assert by_minute() == {0: 100, 1: 60, 2: 40}


def test_change_to_carry_over_makes_rpm_a_hard_limit(queue, by, tmp_path):
    submit(range(1, 3_001), tmp_path, by=by)
    write_all()
    assert max(by_minute().values()) == 200
    change(queue, by, overflow="carry_over")
    rates.refit(lambda: NOON)
    assert set(by_minute().values()) == {120}
    check_counters()


def test_larger_rpm_moves_no_id_to_an_earlier_minute(capped, by, tmp_path):
    submit(range(1, 351), tmp_path, by=by)
    effect = effects.of_rpm(capped, 200, at=NOON)
    assert effect.before.ends_at == effect.after.ends_at
    assert (effect.moved_count, effect.after.over_count) == (0, 0)


def test_rpm_change_of_an_empty_queue_has_no_effect(queue):
    effect = effects.of_rpm(queue, 60, at=NOON)
    assert (effect.before.peak, effect.after.ends_at, effect.moved_count) == (0, None, 0)
