"""What operators and integrations do, each as one call of the real operation."""

import random
from array import array
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from operators.actor import Actor
from scheduling import models, store
from scheduling.core import clock, stopping
from scheduling.core.errors import Refused, StillPlacing
from scheduling.intake import acceptance
from scheduling.models import Status
from scheduling.placement import budgets
from scheduling.placement.reservations import Start
from scheduling.proof import checks
from scheduling.queues import operations, targets
from scheduling.tasks import bulk_cancel, cancellation, edits, failures, holds, resend

from . import shapes
from .scenario import Action
from .sometimes import reached

if TYPE_CHECKING:
    from .storm import Storm

BY = Actor.command_line()


class Ids:
    """A list in memory, in the form that intake accepts."""

    repeats_count = 0

    def __init__(self, ids: list[int]) -> None:
        self.ids = array("q", ids)
        self.ids_count = len(ids)
        self.same_as_digest = f"{random.Random(str(sorted(ids))).getrandbits(256):064x}"

    def unique_blocks(self, size: int) -> Iterator[array]:
        for start in range(0, self.ids_count, size):
            yield self.ids[start : start + size]


class Operators:
    """The operators of a storm. Each action is drawn from its own dice, whatever else happens."""

    def __init__(self, storm: "Storm") -> None:
        self.storm = storm
        self.world = storm.world
        # The task that a plot took IDs out of.
        self._shortened: int | None = None

    def act(self, action: Action, task_id: int | None = None) -> None:
        """Do it, in a process of its own. task_id: to this task, where it is done to one."""
        dice = random.Random(f"{self.storm.scenario.seed}:{action.dice}")
        call: Callable[[random.Random], Any] = getattr(self, f"_{action.name}")
        run = self.storm.guarded(lambda: call(dice))
        process = self.storm.start(f"{action.name} {action.number}", "operator", run, dice=dice)
        process.about.update(task=task_id, hint=action.hint)
        if action.hint:
            process.fails_in = process.dies_in = process.unacknowledged_in = None

    # --- What they act on ---

    @property
    def _hint(self) -> str:
        """What a plot wants of the present action."""
        assert self.world.current is not None
        return str(self.world.current.about["hint"])

    def _queue_of(self, dice: random.Random) -> models.Queue:
        return models.Queue.objects.order_by("pk")[dice.randrange(len(self.storm.scenario.queues))]

    def _task_of(self, dice: random.Random) -> models.Task | None:
        assert self.world.current is not None
        chosen = self.world.current.about.get("task")
        if self._hint == "back":
            chosen = self._shortened
        if chosen:
            return models.Task.objects.get(pk=chosen)
        tasks = list(models.Task.objects.order_by("pk"))
        open_ones = [task for task in tasks if task.finished_at is None and task.cancelled_at is None]
        return dice.choice(open_ones or tasks) if tasks else None

    def _ids(self, dice: random.Random, queue: models.Queue) -> list[int]:
        # An ID more is a minute more to play: lists are short, but where a plot wants them longer.
        least, most = {
            "long": (8, 12),
            # Two in most minutes of a window.
            "dense": (24, 28),
            "too long": (15 * queue.rpm + 1, 15 * queue.rpm + 4),
            # More than a window takes at this rpm.
            "longest": (15 * queue.rpm + 1, 15 * queue.rpm + 4),
        }.get(self._hint, (1, 20) if dice.random() < 0.05 else (1, 6))
        return dice.sample(range(1, 60), dice.randint(min(least, 50), min(most, 52)))

    def _is_running(self, queue: models.Queue) -> bool:
        """Whether a minute of the queue is under way in which something waits."""
        minute = clock.minute_start(store.now())
        return models.Bucket.objects.filter(
            pk=self.storm.bucket_at(queue.pk, minute), waiting_count__gt=0, sealed_at__isnull=False
        ).exists()

    # --- What they do ---

    def _submit(self, dice: random.Random) -> None:
        queue = self._queue_of(dice)
        ids = self._ids(dice, queue)
        key = None
        if dice.random() < 0.3 or self._hint == "keyed":
            key = acceptance.IdempotencyKey("storm", f"key {dice.random()}", "same")
        first_free = dice.random() < 0.3 and self._hint != "too long"
        submission = acceptance.Submission(
            task_name="a list",
            start=Start.FIRST_FREE if first_free else Start.NEXT_WINDOW,
            queue_name=queue.name,
            allow_peak=self._hint != "too long" and (dice.random() < 0.6 or self._hint == "longest"),
            not_before=store.now() + timedelta(minutes=20)
            if dice.random() < 0.05 and not first_free
            else None,
            expires_at=store.now() + timedelta(minutes=dice.choice([18, 25, 40]))
            if dice.random() < 0.12
            else None,
            canary=self._canary(ids),
        )
        self.storm.last_submission = submission, ids, key
        self._place(submission, ids, key)

    def _canary(self, ids: list[int]) -> stopping.Canary | None:
        """The canary of a list, if it has one: by dice of its own, and not where a plot counts on its minutes."""
        scenario = self.storm.scenario
        dice = scenario.dice(f"canary {ids}")
        if scenario.plot is not None or dice.random() < 0.6:
            return None
        return stopping.Canary(dice.randint(1, len(ids)), dice.choice([50.0, 100.0]))

    def _place(self, submission: Any, ids: list[int], key: Any) -> None:
        accepted = acceptance.submit(
            submission, Ids(ids), by=BY, now=store.now, render=lambda item: {"task": item.task.pk}, key=key
        )
        if accepted.repeated:
            reached("a repeated submission got the same answer")
            return
        assert accepted.task is not None
        assert accepted.plan is not None
        self.storm.model.accepted(accepted.task.pk, submission, ids, self.world.t)
        self.storm.moment_came("accepted", 0.002, accepted.task.pk)
        if len(accepted.plan.windows) > 1:
            reached("a list was carried over to another window")

    def _again(self, dice: random.Random) -> None:
        """The same submission with the same key, as a client sends it that got no response."""
        if self.storm.last_submission:
            submission, ids, key = self.storm.last_submission
            if key is not None:
                self._place(submission, ids, key)

    def _replace(self, dice: random.Random) -> None:
        self.storm.model.asked_again = True
        task = self._task_of(dice)
        if task is None:
            return
        hint = self._hint
        old = self.storm.model.ids_of(task.pk, with_left_out=dice.random() < 0.4 or hint == "back")
        share = {"shorter": 0.4, "longer": 1, "back": 1}.get(hint) or dice.choice([0, 0.5, 0.8, 1])
        new = [] if hint in ("shorter", "back") else self._ids(dice, task.queue)[: dice.randint(0, 4)]
        ids = list(dict.fromkeys([*dice.sample(old, round(len(old) * share)), *new])) or [1]
        task.refresh_from_db()
        before = {
            "in flight": task.in_flight_count > 0,
            "sealed": self._is_running(task.queue) and task.waiting_count > 0,
            "windows": len({bucket >> 4 for bucket in self.storm.buckets_of(task.pk)}) > 1,
        }
        # Until it is known to be done or refused, only the tables can tell.
        unsure = self.storm.model.unsure
        was_unsure = task.pk in unsure
        unsure.setdefault(task.pk, set()).update(ids)
        try:
            edits.replace(task, Ids(ids), allow_peak=True, by=BY, now=store.now)
        except Refused as refusal:
            if isinstance(refusal, StillPlacing):
                reached("an edit met a list that was being written")
            if not was_unsure:
                del unsure[task.pk]
            raise
        if not was_unsure:
            del unsure[task.pk]
        if hint == "shorter":
            self._shortened = task.pk
        self.storm.model.replaced(task.pk, ids, self.world.t)
        for name, state in (
            ("in flight", "an edit met requests in flight"),
            ("sealed", "an edit met a sealed minute"),
            ("windows", "an edit met a list in two windows"),
        ):
            if before[name]:
                reached(state)

    def _cancel(self, dice: random.Random) -> None:
        task = self._task_of(dice)
        if task is None:
            return
        task.refresh_from_db()
        in_flight, writing = task.in_flight_count > 0, task.placed_at is None and task.cancelled_at is None
        was_done = task.finished_at is not None
        cancellation.cancel(task, by=BY, now=store.now)
        task.refresh_from_db()
        if task.cancelled_at is not None:
            self.storm.model.cancelled([task.pk], self.world.t)
        elif not was_done and task.finished_at is None:
            raise AssertionError(f"task {task.pk} was cancelled, and isn't")
        if in_flight:
            reached("a cancel met requests in flight")
        if writing:
            reached("a cancel met a list that was being written")

    def _cancel_all(self, dice: random.Random) -> None:
        newest = models.Task.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        matching = bulk_cancel.Matching(
            at=store.now(), up_to_id=newest, queue_id=self._queue_of(dice).pk, state="", name="", ids=None
        )
        bulk_cancel.cancel(matching, by=BY, now=store.now)

    def cancel_everything(self) -> None:
        """Cancel every task that still waits, as the world's own act."""
        matching = bulk_cancel.Matching(
            at=store.now(), up_to_id=2**40, queue_id=None, state="", name="", ids=None
        )
        bulk_cancel.cancel(matching, by=BY, now=store.now)

    def _pause(self, dice: random.Random) -> None:
        queue = self._queue_of(dice)
        running = self._is_running(queue)
        operations.pause(queue, by=BY, at=store.now())
        self.storm.model.paused(queue.name, self.world.t)
        if running:
            reached("a pause met a running minute")

    def _resume(self, dice: random.Random) -> None:
        queue = self._queue_of(dice)
        self.storm.model.resumes(queue.name, self.world.t)
        operations.resume(queue, by=BY, at=store.now())

    def _hold(self, dice: random.Random) -> None:
        task = self._task_of(dice)
        if task is not None:
            holds.hold(task, "a storm", by=BY, now=store.now)
            self.storm.model.held(task.pk, self.world.t)
            if task.in_flight_count:
                reached("a hold met requests in flight")

    def _continue(self, dice: random.Random) -> None:
        waiting = models.Task.objects.on_hold() | models.Task.objects.with_canary()
        task = waiting.order_by("pk").first()
        if task is not None:
            self.storm.model.continues(task.pk, self.world.t)
            holds.resume(task, by=BY, now=store.now)

    def _brake(self, dice: random.Random) -> None:
        queue = self._queue_of(dice)
        most = dice.choice([0, 1]) if self._hint == "lowest" else dice.choice([None, None, 0, 1, 2])
        operations.brake(queue, most, by=BY, at=store.now())

    def _rpm(self, dice: random.Random) -> None:
        queue = self._queue_of(dice)
        rpm = 1 if self._hint == "lowest" else dice.choice([2, 3, 4, 6, 9])
        self.storm.model.rpm_may_be(queue.name, rpm)
        operations.update(queue, {"rpm": rpm}, by=BY, now=store.now)

    def _shape(self, dice: random.Random) -> None:
        queue = self._queue_of(dice)
        operations.update(queue, shapes.changed(dice, queue), by=BY, now=store.now)
        reached("hours, a ramp or a quota were changed")

    def _budget(self, dice: random.Random) -> None:
        """Another budget for a target, or a queue that goes to another target."""
        target = dice.choice(list(budgets.budgeted().order_by("pk")) or [None])
        if target is not None and dice.random() < 0.7:
            rpm = dice.choice(shapes.BUDGETS)
            self.storm.model.budget_may_be(target.origin, rpm)
            targets.update(target, {"rpm": rpm}, by=BY, now=store.now)
            reached("a target's budget was changed")
            return
        queue = self._queue_of(dice)
        if queue.handler == models.HandlerKind.WEBHOOK:
            self.storm.move_queue(queue, f"http://target-{dice.choice('ab')}.test/")
            reached("a queue went to another target")

    def _policy(self, dice: random.Random) -> None:
        self.storm.model.asked_again = True
        queue = self._queue_of(dice)
        changes = dice.choice(
            [{"overflow": "disperse"}, {"overflow": "carry_over"}, {"max_attempts": dice.randint(1, 3)}]
        )
        if "overflow" in changes:
            self.storm.model.overflow_changed(queue.name)
        operations.update(queue, changes, by=BY, now=store.now)

    def _retry(self, dice: random.Random) -> None:
        self.storm.model.asked_again = True
        number = models.Assignment.objects.filter(status=Status.FAILED).count()
        retried = resend.retry(
            failures.FailureSelection(at=store.now()),
            number=number,
            run=f"retry {dice.getrandbits(40):x}",
            by=BY,
            now=store.now,
        )
        if retried.count:
            reached("failed IDs were retried by an operator")

    def _resend(self, dice: random.Random) -> None:
        self.storm.model.asked_again = True
        task = self._task_of(dice)
        if task is None:
            return
        sent = resend.resend(
            task, looked_at=store.now(), number=1, run=f"again {dice.getrandbits(40):x}", by=BY, now=store.now
        )
        if sent.count:
            reached("succeeded IDs were sent again by an operator")

    def _rename(self, dice: random.Random) -> None:
        task = self._task_of(dice)
        if task is not None:
            edits.rename(task, "another name", by=BY, at=store.now())

    def _check(self, dice: random.Random) -> None:
        checks.begin(by=BY, at=store.now())
