"""Queues that share a target's budget, compared with a reference that places one ID at a time."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core import allocator, clock, keys
from scheduling.core.errors import BadFields, TargetTaken
from scheduling.placement import budgets, reservations, rules, shapes
from scheduling.queues import operations, rates, targets
from scheduling.reports import coming_days
from scheduling.upkeep import reconciliation
from tests.scheduling import lists_of_ids
from tests.scheduling.lists_of_ids import check_counters, check_log, write_all
from tests.scheduling.placed import make_queue

pytestmark = pytest.mark.django_db
BY = Actor.command_line()
AT = datetime(2026, 11, 27, 16, 20, tzinfo=UTC)
ORIGIN = "https://api.vendor.example:443"
URL = "https://api.vendor.example/in"


def webhook_queue(name: str, **fields) -> models.Queue:
    return operations.create(
        name=name, fields={"handler": "webhook", "webhook_url": URL, **fields}, by=BY, at=AT
    )


@pytest.fixture
def submit(tmp_path):
    def submitted(ids, queue: str):
        return lists_of_ids.submit(ids, tmp_path, by=BY, at=AT, queue_name=queue)

    return submitted


def budget(**fields) -> models.Target:
    return targets.create(origin=ORIGIN, fields=fields, by=BY, now=lambda: AT)


def refitted(at: datetime = AT) -> None:
    while rates.refit(lambda: at):
        continue


def fill_of(*names: str) -> Counter[datetime]:
    """How many IDs have a place in each minute, over some queues; over all without names."""
    rows = models.Bucket.objects.filter(filled_count__gt=0)
    if names:
        rows = rows.filter(window__queue__name__in=names)
    result: Counter[datetime] = Counter()
    for bucket in rows:
        result[bucket.minute_at] += bucket.filled_count
    return result


def reference(queue: models.Queue, ids_count: int, room: int) -> Counter[datetime]:
    """Place IDs one by one by the two rules: no minute of the target ever holds more than `room`."""
    own, total = fill_of(queue.name), fill_of()
    added: Counter[datetime] = Counter()
    window = clock.runs_at(clock.first_window(AT, ids=ids_count, unwritten=(), rate=1_000_000))
    for _ in range(ids_count):
        while (minute := _place(queue, own, total, window, room)) is None:
            window += clock.QUARTER
        for count in (own, total, added):
            count[minute] += 1
    return added


def _place(
    queue: models.Queue, own: Counter[datetime], total: Counter[datetime], window: datetime, room: int
) -> datetime | None:
    minutes = [window + k * clock.MINUTE for k in range(15)]
    free = [minute for minute in minutes if total[minute] < room]
    below = [minute for minute in free if own[minute] < queue.rpm]
    if below:
        return below[0]
    return min(free, key=lambda m: (own[m], m), default=None) if queue.overflow == "disperse" else None


@pytest.mark.parametrize("seed", range(6))
def test_places_follow_the_rules_one_by_one_within_the_budget(seed, settings, submit):
    settings.WRITE_RATE = 1_000_000
    chance = random.Random(seed)
    room = chance.randint(5, 40)
    queues = [
        webhook_queue(
            name,
            rpm=chance.randint(1, 50),
            overflow=chance.choice(["disperse", "carry_over"]),
        )
        for name in "abc"
    ]
    budget(rpm=room)
    for number in range(8):
        queue = models.Queue.objects.get(pk=chance.choice(queues).pk)
        count = chance.randint(1, 700)
        before = fill_of(queue.name)
        expected = reference(queue, count, room)
        submit(range(number * 1_000 + 1, number * 1_000 + 1 + count), queue=queue.name)
        assert fill_of(queue.name) - before == expected
    assert max(fill_of().values()) <= room
    write_all(AT)
    check_log()
    check_counters()
    assert proof.check(lambda: AT) == []


@pytest.mark.parametrize("seed", range(300))
def test_both_forms_agree_at_any_limit(seed):
    chance = random.Random(seed)
    fill = [chance.choice([0, chance.randint(0, 9)]) for _ in range(15)]
    level = [chance.choice([0, chance.randint(0, 9)]) for _ in range(15)]
    limit = [chance.randint(0, 14) for _ in range(15)]
    level[chance.randrange(15)] = 4
    placed = list(allocator.places(fill, level, limit))
    by_hand, filled = [], list(fill)
    while True:
        free = [k for k in range(15) if level[k] and filled[k] < limit[k]]
        below = [k for k in free if filled[k] < level[k]]
        if not free:
            break
        by_hand.append(below[0] if below else min(free, key=lambda k: (filled[k], k)))
        filled[by_hand[-1]] += 1
    assert placed == by_hand
    for cut in {0, len(placed) // 2, len(placed)}:
        after = allocator.fill_after(fill, level, cut, limit)
        assert Counter(placed[:cut]) == Counter(
            {k: after[k] - fill[k] for k in range(15) if after[k] > fill[k]}
        )
        assert list(allocator.places(after, level, limit)) == placed[cut:]


def test_late_ids_stay_within_the_budget(submit):
    a, b = webhook_queue("a", rpm=30), webhook_queue("b", rpm=30)
    budget(rpm=40)
    a, b = models.Queue.objects.get(pk=a.pk), models.Queue.objects.get(pk=b.pk)
    submit(range(1, 91), queue="a")
    first = clock.runs_at(clock.open_window_start(AT))
    assert fill_of("a") == {first + k * clock.MINUTE: 30 for k in range(3)}
    free = list(reservations.free(b, 70, first))
    assert [count for _, count in free] == [10, 10, 10, 30, 10]


def test_budget_moves_what_no_longer_fits(submit):
    for name in "ab":
        webhook_queue(name, rpm=60)
        submit(range(1, 601), queue=name)
    write_all(AT)
    effect = targets.effect_of_new(ORIGIN, {"limit_per_60s": 101}, at=AT)
    assert (effect.before.peak, effect.after.peak) == (120, 100)
    target = budget(limit_per_60s=101)
    assert target.rpm == 100
    assert models.Queue.objects.filter(target=target).count() == 2
    refitted()
    assert max(fill_of().values()) == 100
    assert sum(fill_of().values()) == 1_200
    # The queue that was created last gave up its places.
    assert sum(fill_of("a").values()) == 600
    assert max(fill_of("a").values()) == 60
    assert models.Move.objects.count() == effect.moved_count
    assert max(fill_of()) + clock.MINUTE == effect.after.ends_at
    assert proof.check(lambda: AT) == []


def test_budget_with_a_quota_moves_what_is_past_it(submit):
    webhook_queue("a", rpm=60)
    submit(range(1, 351), queue="a")
    write_all(AT)
    quotas = [{"limit": 20, "per": "hour", "zone": "UTC"}]
    effect = targets.effect_of_new(ORIGIN, {"quotas": quotas}, at=AT)
    assert effect.moved_count == 330
    budget(quotas=quotas)
    refitted()
    assert models.Move.objects.count() == 330
    assert max(fill_of()) + clock.MINUTE == effect.after.ends_at
    assert effect.after.ends_at == datetime(2026, 11, 28, 9, 1, tzinfo=UTC)


def random_quotas(chance: random.Random) -> list[dict]:
    pairs = [("hour", chance.randint(20, 200)), ("day", chance.randint(300, 900))]
    return [
        {"limit": limit, "per": per, "zone": chance.choice(["UTC", "Asia/Kathmandu", "Australia/Lord_Howe"])}
        for per, limit in chance.sample(pairs, chance.randint(0, 2))
    ]


def random_budget(chance: random.Random) -> dict:
    hours = {"zone": "Europe/Berlin", "open": ["mon-sun 07:00-18:13"]}
    return {
        "rpm": chance.choice([None, chance.randint(3, 40)]),
        "hours": chance.choice([None, hours]),
        "quotas": random_quotas(chance) or [{"limit": 100, "per": "hour", "zone": "UTC"}],
    }


@pytest.mark.parametrize("seed", range(6))
def test_effect_of_a_budget_is_what_happens(seed, submit):
    chance = random.Random(seed)
    for number, name in enumerate("abc"):
        overflow = chance.choice(["disperse", "carry_over"])
        fields = {"rpm": chance.randint(2, 60), "overflow": overflow, "quotas": random_quotas(chance)}
        webhook_queue(name, **fields)
        submit(range(number * 1_000 + 1, number * 1_000 + chance.randint(2, 500)), queue=name)
    write_all(AT)
    for _ in range(2):
        fields, target = random_budget(chance), models.Target.objects.first()
        moved = models.Move.objects.count()
        if target is None:
            effect = targets.effect_of_new(ORIGIN, fields, at=AT)
            budget(**fields)
        else:
            effect = targets.effect_of(target, fields, at=AT)
            targets.update(target, fields, by=BY, now=lambda: AT)
        refitted()
        fill = fill_of()
        assert (max(fill.values()), max(fill) + clock.MINUTE) == (effect.after.peak, effect.after.ends_at)
        assert models.Move.objects.count() - moved == effect.moved_count
        check_counters()
        assert proof.check(lambda: AT) == []


@pytest.mark.parametrize("seed", range(6))
def test_effect_of_other_quotas_of_a_queue_is_what_happens(seed, submit):
    chance = random.Random(seed)
    fields = {
        "rpm": chance.randint(5, 60),
        "headroom": 2,
        "overflow": chance.choice(["disperse", "carry_over"]),
    }
    queue = webhook_queue("a", **fields, quotas=random_quotas(chance))
    webhook_queue("b", rpm=20, overflow="carry_over")
    if chance.random() < 0.5:
        budget(**random_budget(chance))
    submit(range(1, 400), queue="a")
    submit(range(1_001, 1_200), queue="b")
    write_all(AT)
    changes = {"rpm": chance.randint(4, 60), "quotas": random_quotas(chance)}
    moved, queue = models.Move.objects.count(), models.Queue.objects.get(pk=queue.pk)
    effect = operations.effect_of(queue, changes, at=AT)
    operations.update(queue, changes, by=BY, now=lambda: AT)
    refitted()
    fill = fill_of("a")
    assert (max(fill.values()), max(fill) + clock.MINUTE) == (effect.after.peak, effect.after.ends_at)
    assert models.Move.objects.count() - moved == effect.moved_count


def test_queue_that_comes_to_a_target_moves_what_does_not_fit(submit):
    webhook_queue("a", rpm=60, overflow="carry_over")
    budget(rpm=80)
    submit(range(1, 601), queue="a")
    b = webhook_queue("b", rpm=60, webhook_url="https://other.example/in")
    submit(range(1, 601), queue="b")
    write_all(AT)
    effect = operations.effect_of(b, {"webhook_url": URL}, at=AT)
    assert effect.moved_count
    assert effect.after.peak == 60
    b = operations.update(b, {"webhook_url": URL}, by=BY, now=lambda: AT)
    assert b.target is not None
    refitted()
    assert max(fill_of().values()) == 80
    assert sum(fill_of("b").values()) == 600
    assert models.Move.objects.count() == effect.moved_count
    b = operations.update(b, {"webhook_url": "https://other.example/in"}, by=BY, now=lambda: AT)
    assert b.target is None
    assert proof.check(lambda: AT) == []


def test_hours_and_quotas_of_a_target_apply_to_all_its_queues(submit):
    for name in "ab":
        webhook_queue(name, rpm=60)
    quotas = [{"limit": 1_000, "per": "day", "zone": "UTC"}]
    budget(hours={"zone": "UTC", "open": ["mon-sun 17:00-18:00"]}, quotas=quotas)
    submit(range(1, 601), queue="a")
    submit(range(1, 601), queue="b")
    minutes = fill_of()
    assert {minute.hour for minute in minutes} == {17}
    by_day = Counter()
    for minute, count in minutes.items():
        by_day[minute.date()] += count
    assert list(by_day.values()) == [1_000, 200]


def test_reason_names_what_takes_the_places(submit):
    a = webhook_queue("a", rpm=60)
    webhook_queue("b", rpm=20, overflow="carry_over")
    budget(rpm=60)
    submit(range(1, 21), queue="b")
    a = models.Queue.objects.get(pk=a.pk)
    minute = clock.runs_at(clock.open_window_start(AT))
    assert shapes.reason_at(a, minute) == "40: 20 of the target's 60 are taken by queue b"
    assert shapes.reason_at(a, minute + timedelta(hours=1)) == "60: rpm"
    targets.update(a.target, {"rpm": 50}, by=BY, now=lambda: AT)
    a = models.Queue.objects.get(pk=a.pk)
    assert shapes.reason_at(a, minute + timedelta(hours=1)) == "50: the target's budget, rpm"


@pytest.mark.django_db(transaction=True)
def test_lists_that_come_at_the_same_moment_share_the_budget(submit):
    """Each acceptance locks the target before its queue, so that none waits for another in a circle."""
    for name in "ab":
        webhook_queue(name, rpm=60, overflow="carry_over")
    budget(rpm=60)

    def accept(number: int) -> None:
        try:
            submit(range(number * 1_000 + 1, number * 1_000 + 51), queue="ab"[number % 2])
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(accept, range(16)))
    assert sum(fill_of().values()) == 16 * 50
    assert set(fill_of().values()) == {60, 800 % 60}


def test_coming_days_leave_out_what_other_queues_have(submit):
    a = webhook_queue("a", rpm=60)
    webhook_queue("b", rpm=20, overflow="carry_over")
    budget(rpm=60)
    submit(range(1, 301), queue="b")
    a = models.Queue.objects.get(pk=a.pk)
    begins_at = clock.quarter_start(AT)
    (day,) = coming_days.coming_days(a, [(begins_at, begins_at + timedelta(hours=1))], at=AT)
    # From 16:21 to 17:15; of the quarter-hour from 16:30 others have 300.
    assert (day.capacity, day.planned, day.free) == (54 * 60 - 300, 0, 54 * 60 - 300)


def test_story_of_an_id_says_what_the_budget_left(submit):
    webhook_queue("a", rpm=60)
    webhook_queue("b", rpm=20, overflow="carry_over")
    budget(rpm=60)
    submit(range(1, 21), queue="b")
    task = submit(range(101, 151), queue="a").task
    write_all(AT)
    first = keys.bucket_at(task.queue_id, clock.runs_at(clock.open_window_start(AT)))
    place = rules.of_places(101, {task.pk: first})[task.pk]
    assert place.sentence == (
        "the first minute filled below 40 (rule 1); the target's budget left 40 of it to the queue"
    )


def test_queue_without_a_budget_makes_no_more_queries():
    queue = make_queue("plain", rpm=60)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        reservations.plan(queue, 100, at=AT)
        list(reservations.free(queue, 10, clock.minute_start(AT)))
        budgets.Room(queue, keys.window_id(queue.pk, clock.open_window_start(AT)))
    assert len(captured) == 3


def test_budget_is_refused_without_anything_in_it():
    with pytest.raises(BadFields):
        budget()
    with pytest.raises(BadFields):
        budget(rpm=5, limit_per_60s=6)
    budget(rpm=5)
    with pytest.raises(TargetTaken):
        budget(rpm=6)


def test_budget_that_is_deleted_lets_queues_go():
    queue = webhook_queue("a", rpm=60)
    target = budget(rpm=5)
    targets.delete(target, by=BY, now=lambda: AT)
    queue.refresh_from_db()
    assert queue.target is None
    assert shapes.capacity_at(queue, AT) == 60


def test_clean_up_links_a_queue_that_nobody_has_linked():
    target = budget(rpm=5)
    queue = make_queue("old", handler="webhook", webhook_url=URL)
    reconciliation.clean_up(at=AT)
    queue.refresh_from_db()
    assert queue.target == target


@pytest.mark.parametrize("start", reservations.Start)
def test_headroom_stays_free_of_what_the_target_leaves(tmp_path, start):
    a = webhook_queue("a", rpm=50, overflow="carry_over", headroom=10)
    webhook_queue("b", rpm=20, overflow="carry_over")
    budget(rpm=60)
    a = models.Queue.objects.get(pk=a.pk)
    lists_of_ids.submit(range(1, 1_001), tmp_path, by=BY, at=AT, queue_name="b", start=start)

    plan = reservations.plan(a, 60, at=AT, start=start)

    # Of each minute's 60, b has 20, and 10 of the other 40 are for late IDs.
    assert [count for window in plan.windows for count in window.added if count] == [30, 30]
    bounds = [(AT.replace(minute=15), AT.replace(hour=17, minute=0))]
    assert coming_days.coming_days(a, bounds, at=AT)[0].free >= 30
    (late,) = {count for _, count in reservations.free(a, 80, plan.first_at)}
    assert late == 40
