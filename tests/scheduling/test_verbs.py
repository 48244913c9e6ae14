"""The operations in any order, compared with a dictionary: what each says, and what the tables hold after it."""

import random
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from operators.actor import Actor
from scheduling import models, proof
from scheduling.core.errors import AlreadyPaused, NotPaused, StillPlacing, TaskCancelled
from scheduling.intake.idempotency import IdempotencyKey
from scheduling.models import Status
from scheduling.queues import operations
from scheduling.tasks import cancellation, edits
from tests.scheduling.lists_of_ids import NOON, spool_of, submit, write_all

BY = Actor.command_line()
QUEUES = ("a", "b")
IDS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@dataclass
class Known:
    """What a task has to be."""

    queue: str
    # What its list has, and what earlier ones had.
    ids: set[int]
    left_out: set[int] = field(default_factory=set)
    is_written: bool = False
    is_cancelled: bool = False


class Verbs(RuleBasedStateMachine):
    """Two queues, whose lists are accepted, written, replaced and cancelled; nothing is sent."""

    tasks = Bundle("tasks")
    keyed = Bundle("keyed")

    def __init__(self, folder):
        super().__init__()
        self.folder, self.at = folder, NOON
        self.expected: dict[int, Known] = {}
        self.paused, self.brakes, self.rpm = set(), dict.fromkeys(QUEUES), {}
        self.lines = 0
        self.transaction = transaction.atomic()
        self.transaction.__enter__()

    def teardown(self):
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)

    def later(self) -> None:
        """Time moves between any two operations."""
        self.at += timedelta(milliseconds=250)

    @initialize(
        rpm=st.tuples(st.integers(1, 4), st.integers(1, 4)),
        overflow=st.sampled_from(["carry_over", "disperse"]),
    )
    def create_queues(self, rpm, overflow):
        for name, of_queue in zip(QUEUES, rpm, strict=True):
            operations.create(name=name, fields={"rpm": of_queue, "overflow": overflow}, by=BY, at=self.at)
            self.rpm[name] = of_queue
        self.lines = models.Activity.objects.count()

    # --- Lists ---

    def accept(self, ids, queue, key=None):
        return submit(ids, self.folder, by=BY, at=self.at, queue_name=queue, key=key)

    @rule(target=tasks, ids=IDS, queue=st.sampled_from(QUEUES))
    def submits(self, ids, queue):
        self.later()
        accepted = self.accept(ids, queue)
        self.expected[accepted.task.pk] = Known(queue, set(ids))
        self.lines += 1
        assert accepted.task.ids_count == len(set(ids))
        return accepted.task.pk

    @rule(target=keyed, ids=IDS, queue=st.sampled_from(QUEUES), number=st.integers(0, 10**6))
    def submits_with_a_key(self, ids, queue, number):
        self.later()
        key = IdempotencyKey("test", f"{len(self.expected)} {number}", str(sorted(ids)))
        accepted = self.accept(ids, queue, key)
        self.expected[accepted.task.pk] = Known(queue, set(ids))
        self.lines += 1
        return key, ids, queue, accepted.task.pk

    @rule(first=consumes(keyed), target=tasks)
    def submits_again_with_the_same_key(self, first):
        self.later()
        key, ids, queue, task_id = first
        repeated = self.accept(ids, queue, key)
        assert repeated.repeated
        assert repeated.answer == {"task_id": task_id}
        return task_id

    @precondition(lambda self: any(not task_state.is_written for task_state in self.expected.values()))
    @rule()
    def writes_what_is_accepted(self):
        self.later()
        write_all(self.at)
        for task_state in self.expected.values():
            task_state.is_written = True

    @rule(task_id=tasks, keep=st.sampled_from([0, 0.5, 1]), new=st.lists(st.integers(1, 60), max_size=6))
    def replaces(self, task_id, keep, new):
        self.later()
        task_state, task = self.expected[task_id], models.Task.objects.get(pk=task_id)
        old = sorted(task_state.ids | task_state.left_out)
        expected = [*random.Random(task_id).sample(old, round(len(old) * keep)), *new] or [1]
        with spool_of(expected, self.folder) as spool:
            if task_state.is_cancelled or not task_state.is_written:
                with pytest.raises(TaskCancelled if task_state.is_cancelled else StillPlacing):
                    edits.replace(task, spool, allow_peak=True, by=BY, now=lambda: self.at)
                return
            replaced = edits.replace(task, spool, allow_peak=True, by=BY, now=lambda: self.at)
        assert replaced.cancelled == len(task_state.ids - set(expected))
        task_state.left_out = (task_state.left_out | task_state.ids) - set(expected)
        task_state.is_written = not set(expected) - task_state.ids
        task_state.ids = set(expected)
        self.lines += 1

    @rule(task_id=tasks)
    def cancels(self, task_id):
        self.later()
        task_state = self.expected[task_id]
        results = [
            cancellation.cancel(models.Task.objects.get(pk=task_id), by=BY, now=lambda: self.at)
            for _ in range(2)
        ]
        assert results[0] == results[1]
        if not task_state.is_cancelled:
            assert results[0] == {"cancelled": len(task_state.ids), "already_sent": 0, "in_flight": 0}
            self.lines += 1
        task_state.is_cancelled = True

    @rule(task_id=tasks)
    def lets_the_rows_follow_a_cancel(self, task_id):
        cancellation.update_rows(task_id, lambda: self.at)

    # --- Queues ---

    @rule(name=st.sampled_from(QUEUES))
    def pauses(self, name):
        self.later()
        queue = models.Queue.objects.get(name=name)
        if name in self.paused:
            with pytest.raises(AlreadyPaused):
                operations.pause(queue, by=BY, at=self.at)
            return
        operations.pause(queue, by=BY, at=self.at)
        self.paused.add(name)
        self.lines += 1

    @rule(name=st.sampled_from(QUEUES))
    def resumes(self, name):
        self.later()
        queue = models.Queue.objects.get(name=name)
        if name not in self.paused:
            with pytest.raises(NotPaused):
                operations.resume(queue, by=BY, at=self.at)
            return
        operations.resume(queue, by=BY, at=self.at)
        self.paused.discard(name)
        self.lines += 1

    @rule(name=st.sampled_from(QUEUES), per_minute=st.sampled_from([None, 0, 1, 5]))
    def brakes(self, name, per_minute):
        self.later()
        operations.brake(models.Queue.objects.get(name=name), per_minute, by=BY, at=self.at)
        self.lines += self.brakes[name] != per_minute
        self.brakes[name] = per_minute

    @rule(name=st.sampled_from(QUEUES), rpm=st.integers(1, 6))
    def changes_rpm(self, name, rpm):
        self.later()
        operations.update(models.Queue.objects.get(name=name), {"rpm": rpm}, by=BY, now=lambda: self.at)
        self.lines += self.rpm[name] != rpm
        self.rpm[name] = rpm

    # --- What must hold after each of them ---

    @invariant()
    def tasks_have_the_rows_of_the_dictionary(self):
        rows: dict[int, dict[int, int]] = {}
        for task_id, user_id, status in models.Assignment.objects.values_list("task_id", "user_id", "status"):
            rows.setdefault(task_id, {})[user_id] = status
        assert set(models.Task.objects.values_list("pk", flat=True)) == set(self.expected)
        for task in models.Task.objects.all():
            task_state, of_task = self.expected[task.pk], rows.get(task.pk, {})
            assert (task.cancelled_at is not None) == task_state.is_cancelled
            if task_state.is_written:
                assert set(of_task) == task_state.ids | task_state.left_out
            if not task_state.is_cancelled:
                waiting = {user for user, status in of_task.items() if status == Status.WAITING}
                assert waiting <= task_state.ids
                assert not task_state.is_written or waiting == task_state.ids
                assert task.waiting_count == len(task_state.ids)

    @invariant()
    def queues_are_as_in_the_dictionary(self):
        for queue in models.Queue.objects.filter(name__in=self.rpm):
            assert queue.paused == (queue.name in self.paused)
            assert (queue.brake_per_minute, queue.rpm) == (self.brakes[queue.name], self.rpm[queue.name])

    @invariant()
    def each_change_has_its_line_in_the_log(self):
        lines = list(models.Activity.objects.order_by("pk").values_list("at", flat=True))
        assert len(lines) == self.lines
        assert all(first <= second for first, second in pairwise(lines))

    @invariant()
    def the_plan_holds(self):
        assert [str(task_state) for task_state in proof.check(lambda: self.at)] == []


@pytest.mark.django_db
def test_operations_in_any_order_agree_with_a_dictionary(tmp_path):
    examples = settings(
        max_examples=15, stateful_step_count=15, suppress_health_check=list(HealthCheck), deadline=None
    )
    run_state_machine_as_test(lambda: Verbs(tmp_path), settings=examples)
