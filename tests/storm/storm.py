"""One storm: a scenario is played in a world, then the faults stop, and everything must come to an end."""

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

from django.db import DatabaseError, connection
from django.db.models import F, Q
from django.test.utils import override_settings
from django_q.signing import SignedPackage

from scheduling import jobs, models, proof, store
from scheduling.core import clock, keys, pacing
from scheduling.core.errors import Refused
from scheduling.handlers.ssrf import origin_of
from scheduling.jobqueue import schedules
from scheduling.lists import stored_lists
from scheduling.models import CanaryState, MoveReason, Status
from scheduling.placement import quotas
from scheduling.queues import operations, targets, validation
from scheduling.tasks import holds
from scheduling.upkeep import reconciliation

from . import database, feed, model, shapes
from .operators import BY, Operators
from .scenario import STAYS_DOWN, Action, Scenario
from .seams import simulated
from .sometimes import reached
from .targets import Targets
from .world import Host, InjectedError, Process, World

# Every storm is over within this many simulated hours after its faults.
PATIENCE_HOURS = 30
# A job that was taken and whose process died comes back after this, as the broker lets it.
RETRY_SECONDS = 600.0
# What may be wrong for a while, as long as there are faults.
_BY_AGE = ("nothing is left behind", "no claim is older than two leases")
LOG_EVENTS = {
    "breaker_opened": "a circuit breaker opened",
    "tick_failed": "a tick failed at a statement",
    "minute_not_taken_since_clock_is_off": "a host's clock was too far off to send",
    "breaker_closed": "a probe closed a circuit breaker",
    "target_blocked": "a target was blocked by Retry-After",
    "lease_lost": "a worker lost a lease and woke up",
    "minute_worker_queued_again": "a minute without a worker was found",
}
# What is logged where the code meets what can't be: no fault of a storm leads there.
NEVER_LOGGED = frozenset({
    "tick_failed_for_all", "bad_rows_looked_for", "bucket_excluded", "not_sent", "retries_not_placed",
    "target_not_updated", "batches_not_recovered", "slice_not_moved", "unclaimed_recovered", "handler_failed",
    "handler_not_made", "sender_failed",
})  # fmt: skip

_WAITING = "SELECT 1 FROM scheduling_bucket WHERE waiting_count > 0 AND id >= {} AND id < {}"
_WAITING_IN = "SELECT 1 FROM scheduling_bucket WHERE waiting_count > 0 AND id = {}"
_UNFINISHED = (
    "SELECT 1 FROM scheduling_bucket WHERE in_flight_count > 0",
    "SELECT 1 FROM scheduling_batch",
    "SELECT 1 FROM scheduling_bulkact WHERE ended_at IS NULL",
    "SELECT 1 FROM scheduling_task WHERE placed_at IS NULL",
    "SELECT 1 FROM scheduling_task WHERE cancelled_at IS NOT NULL AND cancel_position < ids_count",
)
_SEALED = (
    "SELECT id, sealed_count, planned_cursor, leftover_count, claimed_to_id, repeats_count FROM scheduling_bucket"
    " WHERE id IN ({}) AND sealed_count IS NOT NULL AND waiting_count > 0 ORDER BY id"
)
_WAITING_KEYS = (
    "SELECT a.id, a.task_id FROM scheduling_assignment a JOIN scheduling_task t ON t.id = a.task_id"
    " WHERE a.id BETWEEN %s AND %s AND a.status = %s AND t.cancelled_at IS NULL AND t.held_at IS NULL"
)
_BUCKETS = (
    "SELECT sealed_count, slot_count, planned_cursor, cursor, leftover_count, waiting_count"
    " FROM scheduling_bucket WHERE id IN ({}) AND waiting_count > 0 ORDER BY id"
)


class Violation(AssertionError):
    """Something that must hold doesn't."""


class Storm:
    """The world of one scenario, and all that happens in it."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World(scenario.dice("world"), begins_at=scenario.begins_at, faults=scenario.faults)
        self.dice = scenario.dice("storm")
        self.targets = Targets(self.world, scenario.dice("targets"))
        self.model = model.Model()
        self.last_submission: Any = None
        self.is_calm = False
        self.errors: list[BaseException] = []
        self._operators = Operators(self)
        self._feed = feed.Reader()
        self._jobs_seen: set[int] = set()
        self._next_job_at = float("inf")
        self._checked_at = 0.0
        self._queue_ids: list[int] = []
        self._waiting: list[Action] = []
        self.targets.are_down = scenario.plot == STAYS_DOWN
        self.targets.when_sent = self._request_is_on_the_wire
        self.targets.is_cancelled = self.model.is_cancelled

    # --- The whole of it ---

    def run(self) -> None:
        """Play it. Raises Violation."""
        database.reset()
        world = self.world
        with ExitStack() as stack:
            stack.enter_context(simulated(world, self.targets, self._logged))
            stack.enter_context(world.connected())
            stack.enter_context(
                override_settings(
                    SEATS=self.scenario.workers,
                    PYTHON_HANDLERS=frozenset({"storm.callable"}),
                    WRITE_AT_ONCE_IDS=self.scenario.dice("at once").choice([0, 0, 3, 100]),
                )
            )
            stack.callback(world.end)
            self._prepare()
            world.after_commit = self._look_for_jobs
            end = world.t + self.scenario.lasts
            for action in self.scenario.actions:
                world.call_at(self.scenario.begins_at + action.at, partial(self._await_moment, action))
            self._schedule_faults(end)
            self._each_minute()
            self._run_until(end)
            self._calm_down()
            self._until_everything_has_ended()
            self._check_at_the_end()

    def _prepare(self) -> None:
        for fields in self.scenario.queues:
            values = {name: value for name, value in fields.items() if name not in ("name", "handler")}
            # What a webhook's URL names is looked up when it is set, which has no place here.
            url = values.pop("webhook_url", "")
            path = values.pop("python_callable", "")
            queue = operations.create(name=fields["name"], fields=values, by=BY, at=store.now())
            models.Queue.objects.filter(pk=queue.pk).update(
                handler=fields["handler"], webhook_url=url, python_callable=path
            )
            self.model.rpm_may_be(queue.name, queue.rpm)
        for url, rpm in self.scenario.budgets.items():
            target = targets.create(origin=origin_of(url), fields={"rpm": rpm}, by=BY, now=store.now)
            self.model.budget_may_be(target.origin, rpm)
        self._queue_ids = list(models.Queue.objects.order_by("pk").values_list("pk", flat=True))
        schedules.ensure(at=store.now())
        if "slow" in self.scenario.faults:
            self.world.latency = self.dice.choice([0.0005, 0.002, 0.01])

    def move_queue(self, queue: models.Queue, url: str) -> None:
        """Give a queue another address. What it names would be looked up, which has no place here."""
        with patch.dict(validation._CHECKS, {"webhook_url": lambda value: None}):
            operations.update(queue, {"webhook_url": url}, by=BY, now=store.now)

    def _run_until(self, end: float) -> None:
        self.world.run_until(end)
        if self.errors:
            raise self.errors[0]

    # --- Operators ---

    def _await_moment(self, action: Action) -> None:
        if action.moment == "now":
            self._operators.act(action)
        elif action.moment == "sealed":
            delay = 60 - self.world.t % 60 - 1.0
            self.world.call_in(delay if delay > 0 else delay + 60, lambda: self._operators.act(action))
        else:
            self._waiting.append(action)

    def moment_came(self, moment: str, delay: float, task_id: int) -> None:
        """Let those act that waited for it, on the task that it came for."""
        for action in [entry for entry in self._waiting if entry.moment == moment]:
            self._waiting.remove(action)
            self.world.call_in(delay, lambda entry=action: self._operators.act(entry, task_id))

    def _request_is_on_the_wire(self, process: Process, task_id: int) -> None:
        self.moment_came("request", 0.005, task_id)
        if seconds := process.about.pop("freezes_at_request", None):
            minute = process.about["begins_at"]
            self.world.call_in(0.004, lambda: self._freeze(process, minute, seconds))
        if process.about.pop("dies_at_request", False):
            self.world.call_in(0.004, lambda: self._kill_between_ticks(process))

    # --- Processes ---

    def start(
        self, name: str, kind: str, run: Callable[[], Any], *, dice: random.Random, delay: float = 0.0
    ) -> Process:
        """Start a process on one of the hosts, with the faults that will meet it."""
        world = self.world
        process = world.start(name, kind, run, host=dice.choice(world.hosts), delay=delay)
        if self.is_calm:
            return process
        faults, r = self.scenario.faults, dice.random
        if "statements" in faults and r() < 0.3:
            process.fails_in = dice.randint(1, 60 if kind == "worker" else 25)
        if "acknowledgements" in faults and r() < 0.12:
            process.unacknowledged_in = dice.randint(1, 8)
        if "deaths" in faults and kind != "operator":
            x = r()
            if x < 0.12:
                process.dies_in = dice.randint(1, 150 if kind == "worker" else 30)
            elif x < 0.24:
                process.dies_after_commits = dice.randint(1, 12 if kind == "worker" else 4)
        if "deaths" in faults and kind == "operator" and r() < 0.1:
            process.dies_in = dice.randint(1, 30)
        return process

    def guarded(self, call: Callable[[], Any]) -> Callable[[], None]:
        """A call whose expected ends are refusals and injected errors. Anything else is a violation."""

        def run() -> None:
            process = self.world.current
            assert process is not None
            try:
                call()
            except InjectedError:
                kind = {"operator": "an operator's call", "job": "a job"}.get(process.kind)
                if kind:
                    reached(f"{kind} failed at a statement")
                self.world.note(f"{process.name} fails")
            except Refused as refusal:
                if process.name.startswith("submit"):
                    reached("a list was refused")
                self.world.note(f"{process.name}: {type(refusal).__name__}")
            except Exception as error:
                error.add_note(f"in {process.name} at {self.world.t:.3f}")
                self.errors.append(error)
            else:
                self.world.note(f"{process.name} is done")

        return run

    def _logged(self, event: Any, fields: dict[str, Any]) -> None:
        self.world.note(f"log: {event}")
        if event in LOG_EVENTS:
            reached(LOG_EVENTS[event])
        if event == "lease_lost" and (process := self.world.current) and not process.had_faults:
            self.errors.append(
                Violation(f"lease: {process.name} lost one, and had neither stood still nor failed")
            )
        error = sys.exc_info()[1]
        if event in NEVER_LOGGED and not isinstance(error, InjectedError):
            self.errors.append(Violation(f"logged: {event}: {type(error).__name__}: {error}"))

    # --- Jobs, as two clusters run them ---

    def _look_for_jobs(self) -> None:
        """Hand jobs that were committed to a cluster, which takes them when they are due."""
        world = self.world
        if not world.has_new_jobs:
            return
        world.has_new_jobs = False
        with connection.cursor() as cursor:
            cursor.execute("SELECT MIN(lock) FROM django_q_ormq")
            (first,) = cursor.fetchone()
        if first is None:
            return
        at = (store.as_time(first) - self._epoch()).total_seconds()
        if at < self._next_job_at - 1e-6:
            self._next_job_at = at
            world.call_at(at, lambda: self._take_jobs(at))

    @staticmethod
    def _epoch() -> datetime:
        from .world import EPOCH

        return EPOCH

    def _take_jobs(self, expected: float) -> None:
        if expected == self._next_job_at:
            self._next_job_at = float("inf")
        world = self.world
        for key, payload in self._due_jobs():
            task = SignedPackage.loads(payload)
            path, arguments = str(task["func"]).rsplit(".", 1)[-1], tuple(task.get("args", ()))
            if key in self._jobs_seen:
                reached("a job died and came back")
            self._jobs_seen.add(key)
            fate = self.dice.random() if "jobs" in self.scenario.faults and not self.is_calm else 1.0
            if fate < 0.06:
                reached("a job was lost")
                world.note(f"job {path} is lost")
                self._forget_job(key)
                continue
            if path == "seat" and self._is_idle_minute(*arguments):
                self._forget_job(key)
                continue
            self._lock_job(key, RETRY_SECONDS)
            delay = self.dice.choice([0.01, 0.1, 0.3])
            if fate < 0.16:
                reached("a job ran late")
                delay = self.dice.choice([3.0, 9.0, 40.0, 100.0])
            self._run_job(path, arguments, key, delay)
            if fate > 0.94 and not self.is_calm and "jobs" in self.scenario.faults:
                reached("a job ran twice")
                self._run_job(path, arguments, key, delay + self.dice.choice([0.0, 0.2, 30.0]))
        world.has_new_jobs = True
        self._look_for_jobs()

    # By plain statements, since thousands of jobs are taken and most of what they find is nothing to do.

    def _due_jobs(self) -> list[tuple[int, str]]:
        now = connection.ops.adapt_datetimefield_value(self.world.at())
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT id, payload FROM django_q_ormq WHERE lock <= %s ORDER BY lock, id LIMIT 50", [now]
            )
            return cursor.fetchall()

    def _lock_job(self, key: int, seconds: float) -> None:
        until = connection.ops.adapt_datetimefield_value(self.world.at() + timedelta(seconds=seconds))
        with connection.cursor() as cursor:
            cursor.execute("UPDATE django_q_ormq SET lock = %s WHERE id = %s", [until, key])

    @staticmethod
    def _forget_job(key: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM django_q_ormq WHERE id = %s", [key])

    def _is_idle_minute(self, number: int, seat: int) -> bool:
        """Whether nothing waits in the minute: then most of its workers would only look, and are left out."""
        buckets = [keys.bucket_at(pk, clock.minute_of(number)) for pk in self._queue_ids]
        return (
            not self._exists(*(_WAITING_IN.format(bucket) for bucket in buckets))
            and self.dice.random() < 0.98
        )

    def _run_job(self, path: str, arguments: tuple[Any, ...], key: int, delay: float) -> None:
        if path == "seat":
            self._run_worker(*arguments, key=key, delay=delay)
            return

        def call() -> None:
            getattr(jobs, path)(*arguments)
            self._forget_job(key)

        name = f"job {path}{arguments or ''}"
        self.start(name, "job", self.guarded(call), dice=self.dice, delay=delay)

    # --- Minute workers ---

    def _run_worker(self, number: int, seat: int, *, key: int, delay: float) -> None:
        minute = (clock.minute_of(number) - self._epoch()).total_seconds()

        def call() -> None:
            if self.world.t > minute:
                reached("a worker came late to its minute")
            others = [entry for entry in self.world.processes if entry.about.get("minute") == number]
            if len(others) > 1:
                reached("a minute had two workers")
            jobs.seat(number, seat)
            self._forget_job(key)

        process = self.start(
            f"worker {number % 1440}.{seat}.{key}", "worker", self.guarded(call), dice=self.dice, delay=delay
        )
        process.about.update(
            minute=number,
            begins_at=minute,
            sleep=lambda seconds: self._worker_sleeps(process, minute, seconds),
        )
        self._faults_of_worker(process, minute)

    def _faults_of_worker(self, process: Process, minute: float) -> None:
        if self.is_calm:
            return
        world, dice, faults = self.world, self.dice, self.scenario.faults
        if "deaths" in faults and dice.random() < 0.1:
            process.about["dies_at_request"] = True
        if "deaths" in faults and dice.random() < 0.1:
            world.call_at(minute + dice.uniform(-3, 70), lambda: self._kill_between_ticks(process))
        if "freezes" in faults and dice.random() < 0.25:
            seconds = dice.choice([0.4, 2.0, 16.0, 20.0, 75.0])
            if dice.random() < 0.5:
                process.about["freezes_at_request"] = seconds
                return
            world.call_at(minute + dice.uniform(-3, 60), lambda: self._freeze(process, minute, seconds))
        if "stops" in faults and dice.random() < 0.12:
            world.call_at(minute + dice.uniform(-1, 55), lambda: self._stop(process))

    def _kill_between_ticks(self, process: Process) -> None:
        if not process.is_finished:
            reached("a worker died between ticks")
            self.world.note(f"{process.name}: dies")
            self.world.kill(process)

    def _freeze(self, process: Process, minute: float, seconds: float) -> None:
        if process.is_finished:
            return
        reached("a worker froze")
        if self.world.t < minute + 60 < self.world.t + seconds:
            reached("a minute ended while its worker slept")
        self.world.note(f"{process.name}: freezes for {seconds} s")
        self.world.freeze(process, seconds)

    def _stop(self, process: Process) -> None:
        if not process.is_finished:
            reached("a worker was stopped in its minute")
            # What doesn't answer in time is left to others, as a possible repeat.
            process.is_stopping = self.world.had_faults = True

    def _worker_sleeps(self, process: Process, minute: float, seconds: float) -> float:
        """How long a worker really sleeps: what would only find nothing to do is skipped.

        This is no rule that is tested: it may be wrong, and then some IDs are late.
        """
        self._check_cursors(minute)
        t = self.world.t
        if self.dice.random() < 0.02 or t < minute - 2.5:
            return max(0.0, min(seconds, 0.5))
        if any(sender.has_results for sender in process.senders):
            return self.dice.choice([0.1, 0.1, 1.5])
        if any(sender.has_unstarted and not sender.blocked_queues for sender in process.senders):
            # Without a tick nothing starts.
            return min(0.4, 5 * seconds)
        state = self._rows_of_minute(minute)
        if state == process.about.get("state"):
            # The last tick found nothing to do: what is paused or blocked is looked at less and less often.
            idle = process.about["idle"] = min(8.0, 3 * process.about.get("idle", 0.3))
        else:
            idle = process.about["idle"] = 0.15
        process.about["state"] = state
        # What is open keeps its lease meanwhile; what nobody claimed waits for its slot.
        open_count = sum(sender.pending_count for sender in process.senders)
        wakes = [t + (8.0 if open_count else 30.0), *self._next_slots(minute, state)]
        if t < minute + 60.2:
            wakes.append(minute + 60.1 if state or t > minute + 1.2 else minute + 1.3)
        return max(idle, min(wakes) - t)

    def _rows_of_minute(self, minute: float) -> list[tuple[Any, ...]]:
        """What waits in a minute, as its buckets say."""
        with connection.cursor() as cursor:
            cursor.execute(_BUCKETS.format(self._buckets_of_minute(minute)))
            return cursor.fetchall()

    def _buckets_of_minute(self, minute: float) -> str:
        at = self._epoch() + timedelta(seconds=minute)
        return ", ".join(str(keys.bucket_at(pk, at)) for pk in self._queue_ids)

    def _next_slots(self, minute: float, rows: list[tuple[Any, ...]]) -> Iterator[float]:
        """When to wake for the next slots of the minute in which something could be sent."""
        t = self.world.t
        for sealed_count, slot_count, planned, cursor, leftover, _ in rows:
            if slot_count is None:
                yield max(minute - 1.9, t + 0.3)
                continue
            plan = pacing.MinutePlan(capacity=slot_count, n=min(sealed_count, slot_count))
            if planned < plan.n:
                yield max(
                    t,
                    minute + plan.offset_of(plan.slot_of(planned)) - self.dice.choice([0.05, 0.2, 0.4, 0.95]),
                )
            elif leftover:
                free = plan.free_between(max(0.0, t - minute), 60.0, cursor)
                if free:
                    yield max(t, minute + plan.offset_of(free[0]) - 0.2)

    # --- What comes by itself ---

    def _each_minute(self) -> None:
        """The sweep of each minute, the look-around of the clusters, the quarter-hour, and our own checks."""
        world, dice = self.world, self.dice
        second = world.t % 60
        world.call_in(60 - second + 1e-3, self._each_minute)
        if world.t % 900 < 60:
            chance = dice.random()
            if self.is_calm or chance < 0.8:
                delay = dice.uniform(0, 30)
                if chance > 0.72 and not self.is_calm:
                    reached("a quarter-hour was processed late")
                    delay = dice.uniform(60, 400)
                self._start_job("process_quarter", delay)
        if world.t % 900 > 60 and world.t - self._checked_at > 840:
            self._checked_at = world.t
            if dice.random() < (0.1 if self.is_calm else 0.4):
                self._check_plan()
        self._feed.read()
        if self._has_work():
            if dice.random() < 0.6:
                self._start_job("sweep", dice.uniform(0, 50))
            if dice.random() < 0.25:
                self._start_job("look_around", dice.uniform(0, 50))
        if dice.random() < 0.3:
            self.targets.change()
        if self.targets.modes and not self.is_calm:
            probed = models.Target.objects.filter(
                probe_at__gt=F("opened_at"), probe_at__lt=world.at() - timedelta(seconds=30)
            )
            if probed.exists():
                reached("a probe failed")
        if dice.random() < (0.03 if self.is_calm else 0.2):
            world.call_in(dice.uniform(0, 60), self._check_counters)

    def _start_job(self, path: str, delay: float) -> None:
        run = self.guarded(lambda: getattr(jobs, path)())
        self.start(f"job {path}", "job", run, dice=self.dice, delay=delay)

    def _has_work(self) -> bool:
        """Whether anything is to be looked after. Most minutes of a day are empty."""
        soon = clock.minute_start(self.world.at()) + timedelta(minutes=2)
        ends = [keys.bucket_at(pk, soon) for pk in self._queue_ids]
        return self._exists(*_UNFINISHED, *(_WAITING.format(end >> 26 << 26, end) for end in ends))

    @staticmethod
    def _exists(*conditions: str) -> bool:
        """Whether any of these queries has a row: one statement, since this is asked each minute."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT " + " OR ".join(f"EXISTS ({sql})" for sql in conditions))
            return bool(cursor.fetchone()[0])

    def _schedule_faults(self, end: float) -> None:
        world, dice = self.world, self.dice
        if "clocks" in self.scenario.faults:
            for host in world.hosts:
                host.offset = dice.choice([0.0, 0.0, 0.1, -0.2, 0.5])
            for _ in range(dice.randint(1, 4)):
                host = dice.choice(world.hosts)
                offset, at = dice.choice([0.0, 0.3, -0.4, 3.0, -3.0]), dice.uniform(world.t, end)
                world.call_at(at, lambda h=host, o=offset: self._step_clock(h, o))
                # Somebody sees to it: a host that is far off only gets minutes to leave them to another.
                if abs(offset) > 1 and at + 60 < end:
                    world.call_at(at + dice.uniform(5, 60), lambda h=host: self._step_clock(h, 0.1))

    def _step_clock(self, host: Host, offset: float) -> None:
        if any(process.host is host and process.kind == "worker" for process in self.world.processes):
            reached("a host's clock was stepped during a minute")
        self.world.note(f"the clock of host {host.name} is off by {offset}")
        host.offset = offset

    # --- The end ---

    def _calm_down(self) -> None:
        """No more faults. Whoever was braked or paused goes on."""
        world = self.world
        self.is_calm = True
        self._waiting.clear()
        world.faults = frozenset()
        world.latency = 0.0
        self.targets.are_well = True
        for host in world.hosts:
            host.offset = 0.0
        for process in world.processes:
            process.fails_in = process.dies_in = process.dies_after_commits = process.unacknowledged_in = None
        self._continue_work()
        if self.dice.random() < 0.8:
            # Most storms end sooner, since their operators give up what still waits.
            self._operators.cancel_everything()
        world.note("calm")

    def _continue_work(self) -> None:
        """Operators continue whatever is paused, braked or on hold.

        What an operator began before the faults stopped may take effect afterwards: they look again and again.
        """
        slowed = Q(paused_at__isnull=False) | Q(brake_per_minute__isnull=False)
        for queue in models.Queue.objects.filter(slowed).order_by("pk"):
            if queue.paused:
                self.model.resumes(queue.name, self.world.t)
                operations.resume(queue, by=BY, at=store.now())
            operations.brake(queue, None, by=BY, at=store.now())
        for task in models.Task.objects.on_hold().order_by("pk"):
            self.model.continues(task.pk, self.world.t)
            holds.resume(task, by=BY, now=store.now)

    def _is_over(self) -> bool:
        return not (
            [process for process in self.world.processes if process.kind != "worker"]
            or self._exists(
                *_UNFINISHED,
                "SELECT 1 FROM scheduling_task WHERE finished_at IS NULL AND cancelled_at IS NULL",
                "SELECT 1 FROM scheduling_bucket WHERE waiting_count > 0",
            )
        )

    def _until_everything_has_ended(self) -> None:
        """Let time pass, and skip what is empty, until nothing is left to do."""
        end = self.world.t + PATIENCE_HOURS * 3600
        while not self._is_over():
            if self.world.t > end:
                raise Violation(f"liveness: not over after {PATIENCE_HOURS} h: {self._what_is_left()}")
            self._run_until(self.world.t + 60)
            self._continue_work()
            if not self._has_work():
                self._skip_to_the_next_minute_with_work()
        if self.dice.random() < 0.5:
            self._until_every_window_is_totalled()

    def _until_every_window_is_totalled(self) -> None:
        """The next quarter-hours total each window that has ended."""
        for _ in range(5):
            self._run_until(self.world.t + 900)
            self._continue_work()
            if not models.Window.objects.filter(totalled_at=None).exists():
                return
        ends_at = self.world.at() - timedelta(minutes=75)
        remaining = models.Window.objects.filter(totalled_at=None, starts_at__lt=ends_at).values_list(
            "pk", flat=True
        )
        if remaining:
            raise Violation(f"liveness: windows {list(remaining)} were never totalled")

    def _skip_to_the_next_minute_with_work(self) -> None:
        first = models.Bucket.objects.filter(waiting_count__gt=0).order_by("window__starts_at", "pk").first()
        if first is None:
            return
        at = (first.minute_at - self._epoch()).total_seconds() - 120
        if at > self.world.t + 600:
            # Jobs that come in between are only those of empty minutes.
            self._run_until(at)

    def _what_is_left(self) -> dict[str, Any]:
        return {
            "tasks": list(
                models.Task.objects.filter(finished_at=None, cancelled_at=None).values(
                    "pk", "waiting_count", "in_flight_count", "placed_at"
                )
            ),
            "batches": models.Batch.objects.count(),
            "operations": list(models.BulkAct.objects.filter(ended_at=None).values("kind", "owner")),
            "cancels": list(reconciliation.unfinished_cancels().values_list("pk", flat=True)),
            "buckets": list(
                models.Bucket.objects.filter(waiting_count__gt=0).values_list("pk", flat=True)[:5]
            ),
            "processes": [process.name for process in self.world.processes],
        }

    # --- What must hold ---

    def _check_plan(self, *, at_the_end: bool = False) -> None:
        differences = [
            str(difference)
            for difference in proof.check(store.now)
            if at_the_end or not str(difference).startswith(_BY_AGE)
        ]
        if differences:
            raise Violation(f"plan: {differences[:5]}")

    def _check_counters(self) -> None:
        """Counters of tasks whose rows are all written are those rows, at any moment."""
        words = {status.value: status.word for status in Status}
        counted: Counter[tuple[int, str]] = Counter()
        for task_id, status in models.Assignment.objects.order_by().values_list("task_id", "status"):
            counted[task_id, words[status]] += 1
        for task in models.Task.objects.exclude(placed_at=None):
            text = {word: getattr(task, f"{word}_count") for word in words.values()}
            violations = {word: counted[task.pk, word] for word in words.values()}
            if task.cancelled_at is not None:
                for numbers in (text, violations):
                    numbers["cancelled"] += numbers.pop("waiting")
            if text != violations:
                raise Violation(f"counters of task {task.pk}: {text} by the table, {violations} rows")

    def _check_cursors(self, minute: float) -> None:
        """No ID that waits in a sealed minute is passed over by its cursor, or has neither a slot nor a free one.

        Called between two ticks of a worker: what is found is kept, since a worker goes on after any error.
        """
        world = self.world
        process, world.current = world.current, None
        try:
            self.errors += [Violation(text) for text in self._wrong_cursors(minute)]
        finally:
            world.current = process

    def _wrong_cursors(self, minute: float) -> Iterator[str]:
        with connection.cursor() as cursor:
            cursor.execute(_SEALED.format(self._buckets_of_minute(minute)))
            minutes = cursor.fetchall()
            cursor.execute("SELECT id FROM scheduling_task WHERE canary_state <> ''")
            with_canary = [task_id for (task_id,) in cursor.fetchall()]
            for bucket, sealed, planned, leftover, claimed_to, repeats in minutes:
                # What may have been sent there needs a minute whose period has room: it has no slot in its own.
                if repeats and quotas.has_any(models.Queue.objects.get(pk=keys.queue_of_bucket(bucket))):
                    continue
                # Those whose rows aren't written yet will move to another minute.
                cursor.execute(_WAITING_KEYS, [*keys.range_of_bucket(bucket), Status.WAITING])
                # What is on hold when its slot comes, or waits for a canary, is passed over, and late: also once its
                # task has continued.
                has_waited = {*self.model.holds, *with_canary}
                waiting = [key for key, task_id in cursor.fetchall() if task_id not in has_waited]
                if len(waiting) > sealed - planned + leftover:
                    yield (
                        f"slots: {len(waiting)} wait in bucket {bucket}: {sealed - planned} of its plan are ahead,"
                        f" and {leftover} are left over"
                    )
                if passed := [key for key in waiting if claimed_to is not None and key <= claimed_to]:
                    yield f"cursor: {passed} wait in bucket {bucket}, and its cursor is past them"

    def _check_at_the_end(self) -> None:
        self._check_plan(at_the_end=True)
        self._check_counters()
        words = {status.value: status.word for status in Status}
        rows = {
            (task_id, user_id): words[status]
            for task_id, user_id, status in models.Assignment.objects.values_list(
                "task_id", "user_id", "status"
            )
        }
        self._learn_what_nobody_was_told()
        for key, status in rows.items():
            # A row of a cancelled task follows, whatever it says.
            task = self.model.tasks.get(key[0])
            if status == "waiting" and task and task.cancelled_at is not None:
                rows[key] = "cancelled"
        violations = model.sent_after_end(self.model, self.targets.received)
        slack = 1 if "clocks" in self.scenario.faults else 0
        violations += model.rate_violations(self.model, self._in_record(), self._fullest(), slack)
        violations += model.budget_violations(self.model, self._in_record(), slack)
        recorded, named = self._recorded()
        handlers = {fields["name"]: fields["handler"] for fields in self.scenario.queues}
        violations += model.per_id_violations(
            self.model, self.targets.received, rows, recorded, named, handlers
        )
        if named and not self.world.had_faults:
            violations.append(f"repeats: {sorted(named)} were named, and no process died or froze")
        violations += self._wrong_attempts(recorded, handlers)
        self._note_repeats(named)
        violations += model.sent_before_the_canary(self.model, self.targets.received, self.targets.succeeded)
        violations += model.started_without_a_commit(self.targets.received)
        violations += model.cancelled_although_sent(self.model, self.targets.answered, rows, named)
        most = max(fields["max_attempts"] for fields in self.scenario.queues)
        violations += model.too_many_attempts(self.model, self.targets.received, named, most)
        violations += self._accounts_of_minutes()
        violations += self._wrong_shapes(named)
        self._feed.read()
        violations += feed.violations(self._feed)
        if violations:
            raise Violation("; ".join(violations[:6]))
        self._note_what_was_reached()

    def _learn_what_nobody_was_told(self) -> None:
        """A call that died or whose commit wasn't acknowledged may have taken effect: then it counts."""
        for task in models.Task.objects.select_related("queue").order_by("pk"):
            if task.pk not in self.model.tasks or task.pk in self.model.unsure:
                ids = stored_lists.ids_of(task.list_id, 0, task.ids_count)
                self.model.add_lost_answer(
                    task.pk, task.queue.name, ids, (task.created_at - self._epoch()).total_seconds()
                )
            if task.cancelled_at is not None:
                self.model.cancelled([task.pk], (task.cancelled_at - self._epoch()).total_seconds())

    def _in_record(self) -> Iterator[Any]:
        """Requests as their targets saw them."""
        yield from self.targets.received

    def _fullest(self) -> dict[str, int]:
        """The largest number of slots that a minute had, where that may be more than rpm."""
        names = dict(models.Queue.objects.values_list("pk", "name"))
        fullest: dict[str, int] = {}
        for pk, slots in models.Bucket.objects.exclude(slot_count=None).values_list("pk", "slot_count"):
            name = names[keys.queue_of_bucket(pk)]
            fullest[name] = max(fullest.get(name, 0), slots)
        for name in list(fullest):
            fields = next(queue for queue in self.scenario.queues if queue["name"] == name)
            if fields["overflow"] == "carry_over" and name not in self.model.may_exceed:
                # rpm is a hard cap there.
                del fullest[name]
        return fullest

    def _recorded(self) -> tuple[Counter[tuple[int, int]], Counter[tuple[int, int]]]:
        """Requests with a recorded result, and possible repeats, by (task, ID)."""
        recorded: Counter[tuple[int, int]] = Counter()
        named: Counter[tuple[int, int]] = Counter()
        numbers: dict[tuple[int, int], set[int]] = {}
        for task_id, user_id, unknown, number in models.Attempt.objects.values_list(
            "task_id", "user_id", "unknown", "number"
        ):
            if unknown:
                named[task_id, user_id] += 1
            else:
                recorded[task_id, user_id] += 1
                numbers.setdefault((task_id, user_id), set()).add(number)
        rows = models.Assignment.objects.filter(started_after_ms__isnull=False)
        for task_id, user_id, attempts, status in rows.values_list(
            "task_id", "user_id", "attempts", "status"
        ):
            # A success has no attempt of its own.
            if status == Status.SUCCEEDED and attempts not in numbers.get((task_id, user_id), ()):
                recorded[task_id, user_id] += 1
        sent_again = models.Move.objects.filter(reason=MoveReason.OPERATOR).values_list("task_id", "user_id")
        back = models.Move.objects.filter(reason=MoveReason.EDIT).values_list("task_id", "user_id")
        for key in [*sent_again, *back]:
            # The success before it left no trace but its bucket's counter.
            if recorded[key] < self._sent_count(key):
                recorded[key] += 1
        return recorded, named

    def _wrong_attempts(self, recorded: Counter[tuple[int, int]], handlers: dict[str, str]) -> Iterator[str]:
        """Yield where an ID's attempts aren't its requests whose results are known."""
        if self.model.asked_again:
            return
        queues = dict(models.Task.objects.values_list("pk", "queue__name"))
        for task_id, user_id, attempts in models.Assignment.objects.values_list(
            "task_id", "user_id", "attempts"
        ):
            if handlers[queues[task_id]] != "record" and attempts != recorded[task_id, user_id]:
                yield f"attempts: {task_id}/{user_id} has {attempts}, {recorded[task_id, user_id]} are recorded"

    def _sent_count(self, key: tuple[int, int]) -> int:
        return sum((request.task_id, request.user_id) == key for request in self.targets.received)

    def _note_repeats(self, named: Counter[tuple[int, int]]) -> None:
        if named:
            reached("a possible repeat was named")
            reached("a lease was taken over")
        counts = Counter((request.task_id, request.user_id) for request in self.targets.received)
        recorded, _ = self._recorded()
        if any(counts[key] > recorded[key] for key in named):
            reached("a named repeat was a real one")

    def _accounts_of_minutes(self) -> list[str]:
        """What a minute counts as started is what reached its targets, but for repeats, which are named."""
        names = {fields["name"]: fields["handler"] for fields in self.scenario.queues}
        ids = dict(models.Queue.objects.values_list("name", "pk"))
        sent: Counter[int] = Counter()
        for request in self.targets.received:
            sent[keys.bucket_at(ids[request.queue], request.minute)] += 1
        violations = []
        by_id = {pk: name for name, pk in ids.items()}
        for bucket in models.Bucket.objects.order_by("pk"):
            if names[by_id[keys.queue_of_bucket(bucket.pk)]] == "record":
                continue
            if not bucket.started_count <= sent[bucket.pk] <= bucket.started_count + bucket.repeats_count:
                violations.append(
                    f"bucket {bucket.pk}: {sent[bucket.pk]} requests reached their target, "
                    f"{bucket.started_count} are counted and {bucket.repeats_count} named"
                )
        return violations

    def _wrong_shapes(self, named: Counter[tuple[int, int]]) -> Iterator[str]:
        """Yield where a queue's hours, ramp or quotas were not kept to."""
        for queue in models.Queue.objects.order_by("pk"):
            created = next(entry for entry in self.scenario.queues if entry["name"] == queue.name)
            log = models.Activity.objects.filter(object_kind="queue", object_id=queue.pk, verb="changed")
            settings = shapes.history(created, log.order_by("pk"))
            if not any(entry.hours or entry.ramp or entry.quotas for entry in settings):
                continue
            buckets = models.Bucket.objects.filter(window__queue=queue)
            started = {entry.minute_at: entry.started_count for entry in buckets if entry.started_count}
            for entry in self.targets.received:
                if entry.queue == queue.name:
                    started[entry.minute] = max(1, started.get(entry.minute, 0))
            yield from shapes.closed_minutes(queue.name, settings, started)
            is_capped = created["overflow"] == "carry_over" and queue.name not in self.model.may_exceed
            yield from shapes.overfull_minutes(queue.name, settings, self._placed(queue), is_capped=is_capped)
            yield from shapes.used_up(queue.name, settings, started, sum(named.values()))
            for name in shapes.reached_by(settings, started):
                reached(name)

    @staticmethod
    def _placed(queue: models.Queue) -> Iterator[shapes.Placed]:
        for line in models.Reservation.objects.filter(window__queue=queue).order_by("pk"):
            minutes = map(keys.minute_of_bucket, keys.buckets_of_window(line.window_id))
            is_move = line.kind == models.ReservationKind.MOVE_IN
            places = list(zip(minutes, line.fill_before, line.deltas, strict=True))
            yield shapes.Placed(line.made_at, is_move, places)

    # --- For the table of what was reached ---

    def _note_what_was_reached(self) -> None:
        by_reason = {
            MoveReason.LATE: "an ID was late and got another minute",
            MoveReason.WRITTEN_LATE: "an ID was written late",
            MoveReason.RPM: "a lower rpm moved planned IDs",
            MoveReason.BRAKE: "a brake held back a running minute",
            MoveReason.RETRY: "a request failed and was retried",
            MoveReason.EDIT: "an edit brought an ID back",
        }
        moves = list(models.Move.objects.values_list("reason", "from_bucket_id", "to_bucket_id"))
        for reason, _, _ in moves:
            if MoveReason._value2member_map_[reason] in by_reason:
                reached(by_reason[MoveReason._value2member_map_[reason]])
        if any(reason == MoveReason.RETRY and to - came_from > 3 for reason, came_from, to in moves):
            reached("a retry found its next minute full")
        canaries = set(models.Task.objects.values_list("canary_state", flat=True))
        for state, name in ((CanaryState.PASSED, "a canary passed"), (CanaryState.FAILED, "a canary failed")):
            if state in canaries or (state == CanaryState.FAILED and self._was_put_on_hold()):
                reached(name)
        statuses = set(models.Assignment.objects.order_by().values_list("status", flat=True))
        for status, name in (
            (Status.SUCCEEDED, "a request succeeded"),
            (Status.FAILED, "a request failed for good"),
            (Status.EXPIRED, "an ID expired"),
            (Status.CANCELLED, "an ID was cancelled"),
        ):
            if status.value in statuses:
                reached(name)
        windows = models.Window.objects.filter(totalled_at__isnull=False)
        for receipt in windows.values_list("receipt", flat=True):
            reached("a window was totalled")
            if receipt and receipt["late"]:
                reached("a window was totalled after late IDs had left it")
        for filled, capacity in models.Bucket.objects.values_list("filled_count", "capacity"):
            if filled > capacity:
                reached("a list was placed above rpm")
        kinds = models.BulkAct.objects.filter(ended_at__isnull=False)
        if kinds.filter(kind=models.BulkActKind.CHECK_PLAN).exists():
            reached("the plan was checked by jobs")
        if kinds.exclude(kind=models.BulkActKind.CHECK_PLAN).filter(done_count__gt=0).exists():
            reached("a bulk operation was continued by a job")

    @staticmethod
    def _was_put_on_hold() -> bool:
        """Whether a canary put its task on hold."""
        by_canary = models.Activity.objects.filter(verb="put_on_hold", after__reason__startswith="the canary")
        return by_canary.exists()

    # --- Look-ups for operators ---

    @staticmethod
    def bucket_at(queue_id: int, minute: datetime) -> int:
        return keys.bucket_at(queue_id, minute)

    @staticmethod
    def buckets_of(task_id: int) -> list[int]:
        return list(models.TaskBucket.objects.filter(task_id=task_id).values_list("bucket_id", flat=True))


def play(scenario: Scenario) -> tuple[Storm, BaseException | None]:
    """Run a scenario; return the storm and what went wrong."""
    storm = Storm(scenario)
    try:
        storm.run()
    except Exception as error:
        with suppress(DatabaseError):
            connection.rollback() if connection.in_atomic_block else None
        return storm, error
    return storm, None
