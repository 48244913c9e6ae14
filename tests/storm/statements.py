"""Every operation and job fails at its 1st, 2nd, 3rd, ... statement, until it gets through; and dies around commits.

Run by `python -m tests.storm.statements [NAME ...] [--every N]`, on the database of DATABASE_URL or on SQLite in
memory; --every N takes one statement of N, and every commit. Each time what was done is rolled back as a whole, the
same call made again succeeds, and the check of the plan is clean.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from tests.storm import database

if __name__ == "__main__":
    database.set_up()

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist
from django.db import OperationalError, connection, transaction
from django.test.utils import override_settings

from operators import tokens
from operators.actor import Actor
from operators.errors import AlreadyRevoked
from operators.models import Token
from scheduling import jobs, models, proof, store, users
from scheduling.alerts import channels, evaluation
from scheduling.core import clock, keys
from scheduling.core.errors import Refused
from scheduling.dispatch import (
    breakers,
    claims,
    messages,
    minute_worker,
    overdue,
    recovery,
    results,
)
from scheduling.dispatch.targets import Targets
from scheduling.handlers.base import Outcome, Request
from scheduling.intake import acceptance, allocation
from scheduling.intake.idempotency import IdempotencyKey
from scheduling.jobqueue import bulk_operations, minute_jobs, schedules
from scheduling.jobqueue.tables import Schedule
from scheduling.models import Status
from scheduling.placement.reservations import Start
from scheduling.proof import checks
from scheduling.queues import operations, rates, shared_hours, targets
from scheduling.tasks import bulk_cancel, cancellation, edits, erasure, failures, holds, resend
from scheduling.upkeep import quarter_hour, reconciliation, retention

from . import feed
from .operators import Ids
from .world import EPOCH, is_of_transaction

BY = Actor.command_line()
MINUTE = EPOCH + timedelta(minutes=15)
SECRET = "whsec_" + "a" * 32
DAYS = {"zone": "UTC", "open": ["mon-sun 00:00-12:17", "mon-sun 12:20-24:00"]}
NIGHTS = {"zone": "UTC", "open": ["mon-sun 00:00-12:16", "mon-sun 12:21-24:00"]}
_READING = ("SELECT", "PRAGMA")


class Died(BaseException):
    """The end of the process."""


@dataclass
class Stage:
    """The tables that an operation finds, and the time at which it is called."""

    at: Any = EPOCH + timedelta(minutes=5)
    context: dict[str, Any] = field(default_factory=dict)

    def now(self) -> Any:
        return self.at

    def queue(self, name: str = "a") -> models.Queue:
        return models.Queue.objects.get(name=name)

    def task(self, name: str = "list a") -> models.Task:
        return models.Task.objects.get(name=name)

    def bucket(self, name: str = "a") -> int:
        return keys.bucket_at(self.queue(name).pk, MINUTE)

    def submit(self, name: str, queue: str, ids: list[int], **more: Any) -> Any:
        submission = acceptance.Submission(task_name=name, queue_name=queue, **more)
        return acceptance.submit(submission, Ids(ids), by=BY, now=self.now, render=lambda case_: {})

    def submit_at_once(self, name: str, queue: str, ids: list[int]) -> Any:
        """Submit a list whose rows are written with its acceptance."""
        with override_settings(WRITE_AT_ONCE_IDS=len(ids)):
            return self.submit(name, queue, ids)

    def write(self) -> None:
        while models.Segment.objects.unwritten().exists():
            allocation.write_segments(self.now)

    def claim(self, name: str = "b", *, owner: int = 7, elapsed: float = 1.0) -> list[messages.Claim]:
        """Claim what is due in the first seconds of the minute 12:15."""
        request = messages.ClaimRequest(queue=self.queue(name), until=30.0, immediate=False)
        tick = claims.commit_tick(
            owner=owner, elapsed=lambda: elapsed, requests={self.bucket(name): request}, now=self.now
        )
        return tick.claims

    def run_minute(self, name: str, status: Status) -> None:
        """Let the IDs of the minute 12:15 end with a status."""
        self.at = MINUTE + timedelta(seconds=1)
        claimed = self.claim(name)
        attempts = [self.attempt(claim) if status == Status.FAILED else None for claim in claimed]
        recorded = [
            messages.Result(claim, status, 1000, attempt)
            for claim, attempt in zip(claimed, attempts, strict=True)
        ]
        batches = {claim.batch_id for claim in claimed}
        tick = {"owner": 7, "elapsed": lambda: 2.0, "requests": {}, "now": self.now}
        claims.commit_tick(**tick, results=recorded, open_batches=batches)
        claims.commit_tick(**tick, finished_batches=batches)

    def attempt(self, claim: messages.Claim) -> models.Attempt:
        return models.Attempt(
            task_id=claim.task_id, user_id=claim.user_id, number=claim.attempts + 1, bucket_id=claim.bucket_id,
            started_at=self.at, http_status=500, error="answered 500",
        )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One operation or job. in_parts: it is several transactions, each of which is whole or not at all.

    only_once: of a worker, which asks first what is recorded already when a commit wasn't acknowledged.
    by_worker: in a minute worker's connection, which puts statements off on PostgreSQL.
    """

    name: str
    arrange: Callable[[Stage], Any]
    action: Callable[[Stage], Any]
    in_parts: bool = False
    only_once: bool = False
    by_worker: bool = False

    def act(self, stage: Stage) -> None:
        if self.by_worker:
            store.keep_waits_short()
        try:
            self.action(stage)
        finally:
            store.end_short_waits()


CASES: list[Case] = []


def case(
    name: str,
    *,
    arrange: Callable[[Stage], Any] = lambda stage: None,
    in_parts: bool = False,
    only_once: bool = False,
    by_worker: bool = False,
) -> Any:
    def add(action: Callable[[Stage], Any]) -> Callable[[Stage], Any]:
        CASES.append(Case(name, arrange, action, in_parts, only_once, by_worker))
        return action

    return add


def at_minute(stage: Stage) -> None:
    stage.at = MINUTE + timedelta(seconds=1)


def claimed(stage: Stage) -> None:
    at_minute(stage)
    stage.context["claims"] = stage.claim()


def dead(stage: Stage) -> None:
    claimed(stage)
    stage.at += timedelta(minutes=2)


def failed(stage: Stage) -> None:
    stage.run_minute("b", Status.FAILED)
    stage.at += timedelta(minutes=1)


def succeeded(stage: Stage) -> None:
    stage.run_minute("b", Status.SUCCEEDED)
    stage.at += timedelta(minutes=1)


def cancelled(stage: Stage) -> None:
    cancellation.cancel(stage.task(), by=BY, now=stage.now)


def ended(stage: Stage) -> None:
    stage.at = MINUTE + timedelta(minutes=40)


def failed_long_ago(stage: Stage) -> None:
    failed(stage)
    stage.at += timedelta(minutes=3)


def past_retention(stage: Stage) -> None:
    ended(stage)
    quarter_hour.run(stage.now)
    stage.at += timedelta(days=60)


def answered(stage: Stage, status: int) -> list[messages.RequestResult]:
    queue = stage.queue("b")
    verdict = {200: "succeeded", 500: "retry", 404: "failed"}[status]
    result = []
    for claim in stage.context["claims"]:
        request = Request(claim.user_id, claim.task_id, "list b", "b", MINUTE, claim.attempts + 1)
        outcome = Outcome(verdict, status=status, error="" if status == 200 else f"answered {status}")
        result.append(messages.RequestResult(messages.ScheduledRequest(claim, request, queue), outcome, 1.0))
    return result


# --- Lists ---

case("submit")(lambda s: s.submit("new", "a", list(range(500, 520))))
case("submit a list that is written at once")(lambda s: s.submit_at_once("new", "a", list(range(500, 520))))
case("submit with a key")(
    lambda s: acceptance.submit(
        acceptance.Submission("new"), Ids([1, 2]), by=BY, now=s.now, render=lambda accepted: {}, key=KEY
    )
)
case("submit to the first free places")(lambda s: s.submit("new", "a", [600, 601], start=Start.FIRST_FREE))
case("write a draft", in_parts=True)(lambda s: acceptance.write_draft(Ids([1, 2, 3]), at=s.at))
case(
    "accept a draft",
    arrange=lambda s: s.context.update(draft=acceptance.write_draft(Ids([1, 2, 3]), at=s.at)),
)(
    lambda s: acceptance.accept(
        acceptance.Submission("new", "a"), s.context["draft"], by=BY, now=s.now, render=lambda accepted: {}
    )
)
case(
    "discard a draft",
    arrange=lambda s: s.context.update(draft=acceptance.write_draft(Ids([1, 2, 3]), at=s.at)),
    in_parts=True,
)(lambda s: acceptance.discard_preview(s.context["draft"], by=BY, at=s.at))
case(
    "sweep drafts",
    arrange=lambda s: (
        acceptance.write_draft(Ids([1, 2]), at=s.at),
        setattr(s, "at", s.at + timedelta(days=9)),
    ),
    in_parts=True,
)(lambda s: acceptance.sweep_drafts(at=s.at))
case("allocate", arrange=lambda s: s.submit("new", "a", list(range(500, 530))), in_parts=True)(
    lambda s: allocation.write_segments(s.now)
)
case("replace a list", in_parts=True)(
    lambda s: edits.replace(s.task(), Ids([2, 3, 4, 900, 901]), allow_peak=True, by=BY, now=s.now)
)
case("replace a list in its minute", arrange=claimed, in_parts=True)(
    lambda s: edits.replace(s.task("list b"), Ids([101, 102, 900]), allow_peak=True, by=BY, now=s.now)
)
case("rename a task", arrange=lambda s: s.context.update(task=s.task()))(
    lambda s: edits.rename(s.context["task"], "new", by=BY, at=s.at)
)
case("cancel")(lambda s: cancellation.cancel(s.task(), by=BY, now=s.now))
case("cancel in its minute", arrange=claimed)(
    lambda s: cancellation.cancel(s.task("list b"), by=BY, now=s.now)
)
case("update the rows of a cancelled task", arrange=cancelled, in_parts=True)(
    lambda s: cancellation.update_rows(s.task().pk, s.now)
)
case("cancel all that match", in_parts=True)(
    lambda s: bulk_cancel.cancel(bulk_cancel.Matching(at=s.at, up_to_id=10**6), by=BY, now=s.now)
)

case("put on hold")(lambda s: holds.hold(s.task(), "a test", by=BY, now=s.now))
case("continue", arrange=lambda s: holds.hold(s.task(), by=BY, now=s.now))(
    lambda s: holds.resume(s.task(), by=BY, now=s.now)
)

# --- Queues ---

case("create a queue")(lambda s: operations.create(name="new", fields={"rpm": 5}, by=BY, at=s.at))
case("pause")(lambda s: operations.pause(s.queue(), by=BY, at=s.at))
case("resume", arrange=lambda s: operations.pause(s.queue(), by=BY, at=s.at))(
    lambda s: operations.resume(s.queue(), by=BY, at=s.at)
)
case("pause all", in_parts=True)(lambda s: operations.pause_all(by=BY, at=s.at))
case("resume all", arrange=lambda s: operations.pause_all(by=BY, at=s.at), in_parts=True)(
    lambda s: operations.resume_all(by=BY, at=s.at)
)
case("brake")(lambda s: operations.brake(s.queue(), 1, by=BY, at=s.at))
case("lower rpm")(lambda s: operations.update(s.queue(), {"rpm": 2}, by=BY, now=s.now))
case("another overflow")(
    lambda s: operations.update(s.queue("b"), {"overflow": "carry_over"}, by=BY, now=s.now)
)
case(
    "refit",
    arrange=lambda s: operations.update(s.queue(), {"rpm": 2}, by=BY, now=s.now),
    in_parts=True,
)(lambda s: rates.refit(s.now))
case(
    "release a target",
    arrange=lambda s: models.Target.objects.create(origin="http://b.test:80", opened_at=s.at),
)(lambda s: breakers.release(models.Target.objects.get(), by=BY, at=s.at))

case(
    "delete a queue",
    arrange=lambda s: s.context.update(queue=operations.create(name="new", fields={}, by=BY, at=s.at)),
)(lambda s: operations.delete(s.context["queue"], by=BY, at=s.at))
case("replace a secret")(
    lambda s: operations.rotate_secret(s.queue("b"), SECRET, overlap_seconds=60, by=BY, at=s.at)
)

# --- What queues share ---


def with_budget(stage: Stage) -> None:
    targets.create(origin="http://b.test/", fields={"rpm": 2}, by=BY, now=stage.now)


def with_shared_hours(stage: Stage) -> models.Hours:
    return shared_hours.create(name="days", form=DAYS, by=BY, at=stage.at)


def with_hours_of_a_queue(stage: Stage) -> None:
    with_shared_hours(stage)
    operations.update(stage.queue(), {"hours": "days"}, by=BY, now=stage.now)


case("create a budget")(with_budget)
case("lower a budget", arrange=with_budget)(
    lambda s: targets.update(models.Target.objects.get(), {"rpm": 1}, by=BY, now=s.now)
)
case("delete a budget", arrange=with_budget)(
    lambda s: targets.delete(models.Target.objects.get(), by=BY, now=s.now)
)
case("create shared hours")(with_shared_hours)
case("change shared hours", arrange=with_hours_of_a_queue)(
    lambda s: shared_hours.update(models.Hours.objects.get(), NIGHTS, by=BY, now=s.now)
)
case("delete shared hours", arrange=lambda s: s.context.update(hours=with_shared_hours(s)))(
    lambda s: shared_hours.delete(s.context["hours"], by=BY, at=s.at)
)

# --- Alerts ---

case("set an alert")(
    lambda s: evaluation.set_rule(models.AlertKind.IDS_LATE, is_on=True, threshold=9, by=BY, at=s.at)
)
case("create a channel")(
    lambda s: channels.create(
        kind="webhook",
        fields={"name": "new", "address": "http://b.test/", "types": ["task.done"]},
        base_url="http://q.test",
        by=BY,
        at=s.at,
    )
)

# --- Users and tokens ---

case("create a user")(lambda s: users.create(user_id=77_000, name="new", by=BY, at=s.at))
case("rename a user")(lambda s: users.rename(models.User.objects.get(pk=1), "new", by=BY, at=s.at))
case("delete a user", arrange=lambda s: s.context.update(user=models.User.objects.get(pk=1)))(
    lambda s: users.delete(s.context["user"], by=BY, at=s.at)
)
case("erase a user", in_parts=True)(lambda s: erasure.erase(1, by=BY, now=s.now))
case("revoke a token", arrange=lambda s: tokens.issue(name="new", scope="read", by=BY, at=s.at))(
    lambda s: tokens.revoke(Token.objects.get(), by=BY, at=s.at)
)
case("issue a token")(lambda s: tokens.issue(name="new", scope="read", by=BY, at=s.at))

# --- A minute ---

case("claim", arrange=at_minute, by_worker=True)(lambda s: s.claim())
case("claim and record at once", arrange=at_minute, by_worker=True)(
    lambda s: claims.commit_tick(
        owner=7,
        elapsed=lambda: 1.0,
        requests={s.bucket(): messages.ClaimRequest(queue=s.queue(), until=40.0, immediate=True)},
        now=s.now,
    )
)


@case("record successes", arrange=claimed, only_once=True, by_worker=True)
def _(stage: Stage) -> None:
    recorded = [messages.Result(claim, Status.SUCCEEDED, 1000) for claim in stage.context["claims"]]
    batches = {claim.batch_id for claim in stage.context["claims"]}
    claims.commit_tick(
        owner=7, elapsed=lambda: 2.0, requests={}, results=recorded, open_batches=batches, now=stage.now
    )


@case("give back what wasn't sent", arrange=claimed, only_once=True, by_worker=True)
def _(stage: Stage) -> None:
    recorded = [messages.Result(claim, Status.WAITING) for claim in stage.context["claims"]]
    batches = {claim.batch_id for claim in stage.context["claims"]}
    claims.commit_tick(
        owner=7, elapsed=lambda: 2.0, requests={}, results=recorded, open_batches=batches, now=stage.now
    )


@case("place retries", arrange=claimed, only_once=True, by_worker=True)
def _(stage: Stage) -> None:
    queues = {stage.queue("b").pk: stage.queue("b")}
    classified = results.classify(answered(stage, 500), queues, minute=MINUTE, at=stage.at)
    results.place_retries(stage.queue("b").pk, classified.retries, 7, stage.now)


@case("count failures of a target", arrange=claimed, by_worker=True)
def _(stage: Stage) -> None:
    queue = stage.queue("b")
    Targets().record(answered(stage, 500), {queue.pk: queue}, minute=MINUTE, now=stage.now)


case("recover batches", arrange=dead, in_parts=True, by_worker=True)(lambda s: recovery.recover(s.now))
case("move what is late", arrange=dead, in_parts=True)(lambda s: overdue.run(s.now))
case("queue a worker again", arrange=at_minute)(lambda s: minute_worker.wake(at=s.at))
case("arm minutes", arrange=lambda s: models.Minute.objects.all().delete())(lambda s: _arm(s))


def _arm(stage: Stage) -> None:
    with store.write():
        minute_jobs.arm(clock.minutes(clock.quarter_start(EPOCH)), at=stage.at)


# --- Failures ---

case("retry failed IDs", arrange=failed, in_parts=True)(
    lambda s: resend.retry(failures.FailureSelection(at=s.at), number=2, run="run", by=BY, now=s.now)
)
case("send again", arrange=succeeded, in_parts=True)(
    lambda s: resend.resend(s.task("list b"), looked_at=s.at, number=2, run="run", by=BY, now=s.now)
)
case(
    "keep counts of failures",
    arrange=lambda s: (failed(s), setattr(s, "at", s.at + timedelta(minutes=3))),
    in_parts=True,
)(lambda s: failures.keep_counts(at=s.at))

# --- Regular work ---

case("process a quarter-hour", arrange=ended, in_parts=True)(lambda s: quarter_hour.run(s.now))
case("requeue lost work", arrange=dead, in_parts=True)(lambda s: reconciliation.requeue_lost_work(at=s.at))
case("clean up", arrange=dead, in_parts=True)(lambda s: reconciliation.clean_up(at=s.at))
case("sweep", arrange=dead, in_parts=True)(lambda s: jobs.sweep())
case("repair schedules", arrange=lambda s: Schedule.objects.all().delete())(
    lambda s: schedules.ensure(at=s.at)
)
case("start a check of the plan")(lambda s: checks.begin(by=BY, at=s.at))
case("check the plan", arrange=lambda s: s.context.update(check=checks.begin(by=BY, at=s.at)), in_parts=True)(
    lambda s: checks.resume(s.context["check"].pk, s.now)
)
case(
    "prune",
    arrange=lambda s: (ended(s), quarter_hour.run(s.now), setattr(s, "at", s.at + timedelta(days=60))),
    in_parts=True,
)(lambda s: retention.prune(s.now))
case(
    "stop a bulk operation",
    arrange=lambda s: s.context.update(
        act=bulk_operations.begin(
            models.BulkActKind.RETRY_FAILED, request={}, number=1, name="run", by=BY, at=s.at
        )
    ),
)(lambda s: bulk_operations.stop(s.context["act"], by=BY, at=s.at))

KEY = IdempotencyKey("scope", "key", "fingerprint")


def arrange(stage: Stage) -> None:
    """Two queues with a list each, written, in the window that runs from 12:15 on."""
    operations.create(name="a", fields={"rpm": 4, "overflow": "carry_over"}, by=BY, at=stage.at)
    queue = operations.create(name="b", fields={"rpm": 3}, by=BY, at=stage.at)
    models.Queue.objects.filter(pk=queue.pk).update(
        handler="webhook", webhook_url="http://b.test/", max_attempts=3
    )
    operations.create(name="default", fields={"rpm": 3}, by=BY, at=stage.at)
    schedules.ensure(at=stage.at)
    stage.submit("list a", "a", list(range(1, 13)))
    stage.submit("list b", "b", list(range(101, 106)))
    stage.write()


# --- Faults ---


@contextmanager
def failing_at(k: int) -> Iterator[list[int]]:
    """Let the k-th statement fail. Yields a list whose number is how many came."""
    count = [0]

    def wrap(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not is_of_transaction(sql):
            count[0] += 1
            if count[0] == k:
                raise OperationalError("injected")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrap):
        yield count


@contextmanager
def dying_at_commit(k: int, *, before: bool) -> Iterator[list[int]]:
    """Let the process end right before or right after its k-th commit: it does nothing more.

    A statement outside of a transaction that writes is a commit too.
    """
    count, commit, process = [0], connection.commit, {"is_dead": False, "is_committing": False}

    def die() -> None:
        process["is_dead"] = True
        raise Died

    def meet(act: Callable[[], Any]) -> Any:
        count[0] += 1
        if count[0] == k and before:
            if connection.vendor == "sqlite" or not connection.get_autocommit():
                connection.rollback()
            die()
        result = act()
        if count[0] == k:
            die()
        return result

    def wrapped() -> None:
        process["is_committing"] = True
        try:
            meet(commit)
        finally:
            process["is_committing"] = False

    def wrap(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if process["is_dead"] and not is_of_transaction(sql):
            raise Died
        is_inside = connection.in_atomic_block or process["is_committing"] or is_of_transaction(sql)
        if is_inside or sql.startswith(_READING):
            return execute(sql, params, many, context)
        return meet(lambda: execute(sql, params, many, context))

    connection.commit = wrapped
    try:
        with connection.execute_wrapper(wrap):
            yield count
    finally:
        del connection.commit


def contents() -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    return {
        model._meta.db_table: list(model._base_manager.order_by("pk").values_list())
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label in ("scheduling", "operators", "django_q")
    }


def run(case_: Case, every: int) -> tuple[int, int]:
    """Let it fail at each statement and die at each commit; return how many of each there are."""
    stage = Stage()
    with patch.object(store, "now", stage.now):
        database.reset()
        arrange(stage)
        case_.arrange(stage)
        at, result = stage.at, dict(stage.context)
        snapshot, before = database.snapshot(), contents()

        def again() -> None:
            database.restore(snapshot)
            stage.at, stage.context = at, dict(result)

        statements = _statements(case_, stage, again, before, every)
        commits = _commits(case_, stage, again, before)
    return statements, commits


def _statements(case_: Case, stage: Stage, again: Callable[[], None], before: Any, every: int) -> int:
    # Another one of `every` for each operation.
    k = sum(map(ord, case_.name)) % every + 1 - every
    while True:
        k += every
        again()
        with failing_at(k) as count:
            try:
                case_.act(stage)
            except OperationalError as error:
                if str(error) != "injected":
                    raise
        if count[0] < k:
            return k - 1
        assert not connection.in_atomic_block
        if not case_.in_parts:
            assert contents() == before, (
                f"{case_.name}: something is left of a call that failed at statement {k}"
            )
        _repeat(case_, stage, f"a failure at statement {k}")


def _commits(case_: Case, stage: Stage, again: Callable[[], None], before: Any) -> int:
    k = 0
    while True:
        k += 1
        for is_before in (True, False):
            again()
            with dying_at_commit(k, before=is_before) as count:
                try:
                    case_.act(stage)
                except Died:
                    connection.close() if connection.vendor != "sqlite" else None
            if count[0] < k:
                return k - 1
            end = f"an end {'before' if is_before else 'after'} commit {k}"
            if is_before and not case_.in_parts:
                assert contents() == before, f"{case_.name}: something is left after {end}"
            if is_before or not case_.only_once:
                _repeat(case_, stage, end)
            else:
                _check(case_, stage, end)


def _repeat(case_: Case, stage: Stage, after: str) -> None:
    try:
        case_.act(stage)
    except (Refused, AlreadyRevoked, ObjectDoesNotExist):
        # It had taken effect, and says so.
        pass
    except Exception as error:
        error.add_note(f"{case_.name}: again after {after}")
        raise
    _check(case_, stage, after)


def _check(case_: Case, stage: Stage, after: str) -> None:
    differences = [
        str(case_)
        for case_ in proof.check(stage.now)
        if not str(case_).startswith(("nothing is left", "no claim is"))
    ]
    reader = feed.Reader()
    reader.read()
    differences += feed.not_listed(reader)
    assert not differences, f"{case_.name}: after {after}: {differences[:4]}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm.statements")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args(arguments)
    chosen = [case_ for case_ in CASES if not options.names or case_.name in options.names]
    wrong = 0
    for case_ in chosen:
        began = time.process_time()
        random.seed(1)
        try:
            statements, commits = run(case_, options.every)
        except Exception as error:
            wrong += 1
            notes = " ".join(getattr(error, "__notes__", []))
            print(f"FAILED {case_.name}: {type(error).__name__}: {str(error)[:600]} {notes}", flush=True)
            if connection.in_atomic_block:
                transaction.set_rollback(True)
            continue
        seconds = time.process_time() - began
        print(
            f"{case_.name}: fails at {statements} statements or less, {commits} commits, {seconds:.1f} s",
            flush=True,
        )
    print(f"{len(chosen)} operations and jobs, {wrong} failed.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
