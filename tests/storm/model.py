"""What must hold, by a model that knows nothing of the code: lists as sets, and the targets' own record."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .targets import Sent

# A sender starts nothing later than this after the last committed tick of its worker.
UNCOMMITTED_SECONDS = 0.5


@dataclass
class TaskModel:
    """One task: the IDs of its present list, and what has been asked for it."""

    queue: str
    ids: frozenset[int]
    accepted_at: float
    expires_at: Any = None
    cancelled_at: float | None = None
    # IDs that were in an earlier list.
    left_out: set[int] = field(default_factory=set)


@dataclass
class CanaryModel:
    """The canary of a list. members: IDs that may have been in it; needed: how many have to succeed before any other.

    released_at: when an operator let the list go on without it.
    """

    ids: int
    percent: float
    members: set[int]
    needed: int
    released_at: float = float("inf")

    @classmethod
    def of(cls, ids: int, percent: float, listed: Sequence[int]) -> "CanaryModel":
        return cls(ids, percent, set(listed[:ids]), -(-min(ids, len(listed)) * percent // 100))

    def replaced(self, listed: Sequence[int]) -> None:
        """Another list tops it up by its first IDs; those that were removed don't have to succeed any more."""
        self.members |= set(listed[: self.ids + len(self.members)])
        self.needed = 1


@dataclass
class Model:
    """The state that the world should have, as far as a stranger can tell."""

    tasks: dict[int, TaskModel] = field(default_factory=dict)
    # The highest rpm that a queue ever had, and whether it may hold more than that in a minute.
    rpm: dict[str, int] = field(default_factory=dict)
    lowest_rpm: dict[str, int] = field(default_factory=dict)
    # The highest budget that a target ever had, by scheme, host and port.
    budgets: dict[str, int] = field(default_factory=dict)
    may_exceed: set[str] = field(default_factory=set)
    # Lists of calls whose caller got no response: what became of them, only the tables can tell.
    unsure: dict[int, set[int]] = field(default_factory=dict)
    # Whether an operator asked for IDs to be sent again, changed how often they may be, or brought some back.
    asked_again: bool = False
    pauses: dict[str, list[list[float | None]]] = field(default_factory=lambda: defaultdict(list))

    holds: dict[int, list[list[float | None]]] = field(default_factory=lambda: defaultdict(list))

    canaries: dict[int, CanaryModel] = field(default_factory=dict)

    def accepted(self, task_id: int, submission: Any, ids: Sequence[int], t: float) -> None:
        if submission.canary is not None:
            canary = submission.canary
            self.canaries[task_id] = CanaryModel.of(canary.ids, canary.min_succeeded_percent, ids)
        self.tasks[task_id] = TaskModel(submission.queue_name, frozenset(ids), t, submission.expires_at)

    def ids_of(self, task_id: int, *, with_left_out: bool = False) -> list[int]:
        task = self.tasks.get(task_id)
        return sorted(task.ids | (task.left_out if with_left_out else set())) if task else []

    def replaced(self, task_id: int, ids: Sequence[int], t: float) -> None:
        if task_id in self.canaries:
            self.canaries[task_id].replaced(ids)
        task = self.tasks.setdefault(task_id, TaskModel("", frozenset(), t))
        now = frozenset(ids)
        task.left_out = (task.left_out | (task.ids - now)) - now
        task.ids = now

    def add_lost_answer(self, task_id: int, queue: str, ids: Iterable[int], t: float) -> None:
        """Take a list from the tables, where a call's response was lost. It also has what edits removed."""
        task = self.tasks.setdefault(task_id, TaskModel(queue, frozenset(), t))
        task.queue = queue
        task.left_out |= task.ids | self.unsure.get(task_id, set()) | set(ids)
        task.ids = frozenset()

    def cancelled(self, task_ids: Iterable[int], t: float) -> None:
        for task_id in task_ids:
            if task_id in self.tasks and self.tasks[task_id].cancelled_at is None:
                self.tasks[task_id].cancelled_at = t

    def is_cancelled(self, task_id: int) -> bool:
        return task_id in self.tasks and self.tasks[task_id].cancelled_at is not None

    def paused(self, queue: str, t: float) -> None:
        self.pauses[queue].append([t, None])

    def resumes(self, queue: str, t: float) -> None:
        if self.pauses[queue] and self.pauses[queue][-1][1] is None:
            self.pauses[queue][-1][1] = t

    def held(self, task_id: int, t: float) -> None:
        self.holds[task_id].append([t, None])

    def continues(self, task_id: int, t: float) -> None:
        if task_id in self.canaries:
            self.canaries[task_id].released_at = min(t, self.canaries[task_id].released_at)
        if self.holds[task_id] and self.holds[task_id][-1][1] is None:
            self.holds[task_id][-1][1] = t

    def rpm_may_be(self, queue: str, rpm: int) -> None:
        self.rpm[queue] = max(rpm, self.rpm.get(queue, 0))
        self.lowest_rpm[queue] = min(rpm, self.lowest_rpm.get(queue, rpm))

    def budget_may_be(self, origin: str, rpm: int) -> None:
        self.budgets[origin] = max(rpm, self.budgets.get(origin, 0))

    def overflow_changed(self, queue: str) -> None:
        self.may_exceed.add(queue)


def most_in_60_seconds(times: Iterable[float]) -> int:
    """Return the largest number of times in any [t, t + 60)."""
    most = first = 0
    in_order = sorted(times)
    for last, t in enumerate(in_order):
        while in_order[first] <= t - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def rate_violations(model: Model, sent: Iterable[Sent], fullest: dict[str, int], slack: int) -> list[str]:
    """At most rpm + 1 requests start in any 60 seconds. fullest: the largest plan of a minute, by queue."""
    times: dict[str, list[float]] = defaultdict(list)
    for request in sent:
        times[request.queue].append(request.t)
    violations = []
    for queue, starts in sorted(times.items()):
        allowed = max(model.rpm[queue], fullest.get(queue, 0)) + 1 + slack
        most = most_in_60_seconds(starts)
        if most > allowed:
            violations.append(f"rate: {most} requests of {queue} in 60 s, {allowed} are allowed")
    return violations


def budget_violations(model: Model, sent: Iterable[Sent], slack: int) -> list[str]:
    """A target sees at most its budget + 1 in any 60 seconds, whichever queues they are of."""
    times: dict[str, list[float]] = defaultdict(list)
    for request in sent:
        times[request.origin].append(request.t)
    violations = []
    for origin, rpm in sorted(model.budgets.items()):
        most = most_in_60_seconds(times[origin])
        if most > rpm + 1 + slack:
            violations.append(f"budget: {most} requests to {origin} in 60 s, {rpm + 1 + slack} are allowed")
    return violations


def sent_after_end(model: Model, sent: Iterable[Sent]) -> list[str]:
    """Nothing starts once a cancel, a pause or a hold is committed, but what was claimed before.

    Claims reach 1 s ahead of their slots, and a request may start up to a slot late: a busy connection or a worker
    that stood still let it wait.
    """
    violations = []
    for request in sent:
        task = model.tasks.get(request.task_id)
        late = max(UNCOMMITTED_SECONDS, 60 / model.lowest_rpm[request.queue])
        if task and task.cancelled_at is not None and request.t > task.cancelled_at + 1.0 + late:
            violations.append(
                f"cancel: {request.task_id}/{request.user_id} at {request.t:.3f}, cancelled {task.cancelled_at:.3f}"
            )
        for begin, end in model.pauses[request.queue]:
            if begin is not None and begin + 1.5 < request.t < (end if end is not None else request.t + 1):
                violations.append(
                    f"pause: {request.task_id}/{request.user_id} at {request.t:.3f}, paused {begin:.3f} to {end}"
                )
        for begin, end in model.holds.get(request.task_id, ()):
            if begin is not None and begin + 1.5 < request.t < (end if end is not None else request.t + 1):
                violations.append(
                    f"hold: {request.task_id}/{request.user_id} at {request.t:.3f}, on hold {begin:.3f} to {end}"
                )
    return violations


def sent_before_the_canary(
    model: Model, sent: Iterable[Sent], succeeded: Iterable[tuple[float, int, int]]
) -> list[str]:
    """Only IDs of a canary start before enough of them have succeeded, or an operator has let the list go on."""
    answered: dict[int, dict[int, float]] = defaultdict(dict)
    for t, task_id, user_id in sorted(succeeded):
        answered[task_id].setdefault(user_id, t)
    violations = []
    for request in sent:
        canary = model.canaries.get(request.task_id)
        if canary is None or request.user_id in canary.members or request.t >= canary.released_at:
            continue
        good = sum(t <= request.t and user in canary.members for user, t in answered[request.task_id].items())
        if good < canary.needed:
            violations.append(
                f"canary: {request.task_id}/{request.user_id} at {request.t:.3f},"
                f" when {good} of {canary.needed} had succeeded"
            )
    return violations


def started_without_a_commit(sent: Iterable[Sent]) -> list[str]:
    """A sender starts nothing later than 0.5 s after the last commit of its worker."""
    return [
        f"uncommitted: {request.task_id}/{request.user_id} at {request.t:.3f},"
        f" {request.since_commit:.3f} s after the last commit"
        for request in sent
        if request.since_commit > UNCOMMITTED_SECONDS + 0.001
    ]


def cancelled_although_sent(
    model: Model,
    answered: Mapping[tuple[int, int], float],
    rows: Mapping[tuple[int, int], str],
    named: Counter[tuple[int, int]],
) -> list[str]:
    """An ID whose request was answered after the cancel of its list was sent: it is not counted as cancelled.

    Unless nobody could record the response, which is named then. answered: when its last one was.
    """
    violations = []
    for key, t in sorted(answered.items()):
        task = model.tasks.get(key[0])
        after = task is not None and task.cancelled_at is not None and t > task.cancelled_at
        if after and not named[key] and rows.get(key) == "cancelled":
            violations.append(f"{key} is cancelled, and was answered at {t:.3f} after its cancel")
    return violations


def too_many_attempts(
    model: Model, sent: Iterable[Sent], named: Counter[tuple[int, int]], most: int
) -> list[str]:
    """No ID is sent more often than its queue allows, where no operator asked for it and no process died."""
    counts = Counter((request.task_id, request.user_id) for request in sent)
    return [
        f"attempts: {key} was sent {count} times, {most} are allowed"
        for key, count in sorted(counts.items())
        if not model.asked_again and count > most + named[key]
    ]


def per_id_violations(
    model: Model,
    sent: Iterable[Sent],
    rows: dict[tuple[int, int], str],
    recorded: Counter[tuple[int, int]],
    named: Counter[tuple[int, int]],
    handlers: dict[str, str],
) -> list[str]:
    """Each success was sent; each request is recorded, or named as a possible repeat; each ID has its end.

    recorded: requests with a recorded result, by (task, ID). named: possible repeats.
    """
    counts = Counter((request.task_id, request.user_id) for request in sent)
    violations = []
    for key, status in sorted(rows.items()):
        task = model.tasks.get(key[0])
        by_wire = task is None or handlers[task.queue] != "record"
        if status == "succeeded" and by_wire and not counts[key]:
            violations.append(f"{key} succeeded and was never sent")
        if status in ("waiting", "in_flight"):
            violations.append(f"{key} ended as {status}")
        if by_wire and counts[key] > recorded[key] + named[key]:
            violations.append(
                f"{key} was sent {counts[key]} times: {recorded[key]} recorded, {named[key]} named"
            )
        if by_wire and recorded[key] > counts[key]:
            violations.append(f"{key} was sent {counts[key]} times, and {recorded[key]} results are recorded")
    for task_id, task in sorted(model.tasks.items()):
        written_ids = {user for task_of, user in rows if task_of == task_id}
        if task.cancelled_at is None and not task.ids <= written_ids:
            violations.append(f"task {task_id} has no row for {sorted(task.ids - written_ids)}")
        if written_ids - task.ids - task.left_out:
            violations.append(
                f"task {task_id} has rows that no list had: {sorted(written_ids - task.ids - task.left_out)}"
            )
        if task.cancelled_at is None:
            lost = [user for user in sorted(task.ids & written_ids) if rows[task_id, user] == "cancelled"]
            if lost:
                violations.append(f"task {task_id} isn't cancelled, but {lost} are")
    return violations
