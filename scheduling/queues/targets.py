"""Budgets of targets: what a vendor allows, shared by all queues that send to it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import clock, keys
from scheduling.core.errors import BadFields, StaleVersion, TargetTaken
from scheduling.dispatch import targets
from scheduling.handlers import ssrf
from scheduling.jobqueue import cluster
from scheduling.placement import budgets, reservations
from scheduling.queues import effects, operations, rates, validation

FIELDS = ("rpm", "hours", "quotas")
NO_BUDGET: dict[str, Any] = {"rpm": None, "hours": None, "quotas": []}


def create(
    *, origin: str, fields: Mapping[str, Any], by: Actor, now: Callable[[], datetime]
) -> models.Target:
    """Give a target a budget. origin: scheme, host and port. Raises BadFields, TargetTaken."""
    origin = read_origin(origin)
    with store.write():
        fields = _validated(fields, lock=True)
        _check_is_budget(models.Target(), fields)
        target, _ = models.Target.objects.get_or_create(origin=origin)
        target = _locked(target.pk)
        if target.has_budget:
            raise TargetTaken(origin=origin)
        at = now()
        activity.record(by, "created", target, at=at, after=_shown(fields))
        _set(target, fields, at=at)
        _check_open(target, at=at)
    return target


def update(
    target: models.Target,
    changes: Mapping[str, Any],
    *,
    by: Actor,
    now: Callable[[], datetime],
    if_version: int | None = None,
) -> models.Target:
    """Change a budget; what no longer fits moves on, as after a change of rpm. Raises BadFields, StaleVersion."""
    with store.write():
        # Shared hours before all else.
        changes = _validated(changes, lock=True)
        target = _locked(target.pk)
        at = now()
        if if_version not in (None, target.version):
            raise StaleVersion
        apply(target, changes, by=by, at=at)
        _check_open(target, at=at)
    return target


def apply(target: models.Target, changes: Mapping[str, Any], *, by: Actor, at: datetime) -> None:
    """Change fields of a target whose row the caller has locked, and let its queues follow. Raises BadFields."""
    _check_is_budget(target, changes)
    if changed := {name: value for name, value in changes.items() if getattr(target, name) != value}:
        before = {name: getattr(target, name) for name in changed}
        activity.record(by, "changed", target, at=at, before=_shown(before), after=_shown(changed))
        _set(target, changed, at=at)


def delete(target: models.Target, *, by: Actor, now: Callable[[], datetime]) -> None:
    """Take a target's budget away: from then on only the queues' own rpm applies."""
    with store.write():
        target, at = _locked(target.pk), now()
        before = {name: getattr(target, name) for name in FIELDS}
        activity.record(by, "deleted", target, at=at, before=before)
        _set(target, NO_BUDGET | {"shared_hours": None}, at=at)


def effect_of(target: models.Target, changes: Mapping[str, Any], *, at: datetime) -> effects.Effect:
    """Return what these changes would do to the plan; nothing is stored. Raises BadFields."""
    changes = _validated(changes)
    _check_is_budget(target, changes)
    return effects.of_budget(target, changes, queues_that_send_to(target.origin), at=at)


def effect_of_new(origin: str, fields: Mapping[str, Any], *, at: datetime) -> effects.Effect:
    """Return what a new budget would do to the plan; nothing is stored. Raises BadFields."""
    return effect_of(models.Target(origin=read_origin(origin)), fields, at=at)


def read_origin(text: str) -> str:
    """Return an origin as it is stored: one target, whatever its spelling. Raises BadFields."""
    form = "It must be scheme, host and port, such as https://api.vendor.example:443"
    try:
        parts = urlsplit(text)
        path = parts.path if parts.path != "/" else ""
        if "@" in parts.netloc:
            # It may be a password.
            raise BadFields(origin=f"{form}, without a user name or password before the @.")
        for name, part in (("path", path), ("query", parts.query), ("fragment", parts.fragment)):
            if part:
                raise BadFields(origin=f"{form}, without the {name} {part[:100]}.")
        ssrf.check_form(text)
        origin = ssrf.origin_of(text)
        if "{{" in origin:
            raise ValueError(text)
        return origin
    except ValueError:
        raise BadFields(origin=f"{form}.") from None


def link(*, at: datetime) -> int:
    """Let every queue know the target whose budget it shares, where that has changed; return how many didn't.

    Operations do so themselves. This finds what two of them at the same moment, or an older release, have left.
    """
    origins = dict(budgets.budgeted().values_list("origin", "pk"))
    linked = models.Queue.objects.filter(target__isnull=False).exists()
    if not origins and not linked:
        return 0
    count = 0
    for queue in models.Queue.objects.order_by("pk"):
        target_id = origins.get(targets.origin_of_queue(queue) or "")
        if target_id != queue.target_id:
            with store.write():
                locked = reservations.lock_queue(queue.pk, target_id=target_id)
                if locked.version == queue.version:
                    _give(locked, target_id, at=at)
                    count += 1
    return count


def _validated(fields: Mapping[str, Any], *, lock: bool = False) -> dict[str, Any]:
    """Return the fields as they are stored: `limit_per_60s` becomes an rpm that is one less. Raises BadFields.

    lock: the row of the shared hours that they name, until the transaction ends.
    """
    fields = dict(fields)
    limit = fields.pop("limit_per_60s", None)
    if limit is not None:
        if "rpm" in fields:
            raise BadFields(limit_per_60s="Give either rpm or limit_per_60s, not both.")
        # In 60 seconds that begin at any moment there is one start more than in a minute.
        fields["rpm"] = limit - 1
    validation.check_budget(fields)
    return operations.with_shared_hours(fields, lock=lock)


def _check_open(target: models.Target, *, at: datetime) -> None:
    rates.check_open([queue.pk for queue in queues_that_send_to(target.origin)], at=at)


def _check_is_budget(target: models.Target, changes: Mapping[str, Any]) -> None:
    if all(changes.get(name, getattr(target, name)) == default for name, default in NO_BUDGET.items()):
        raise BadFields(rpm="A budget needs rpm, hours or quotas. To end it, delete it.")


def _shown(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the activity log records: shared hours by their name."""
    shown = dict(fields)
    if shared := shown.pop("shared_hours", None):
        shown["hours"] = shared.name
    return shown


def _locked(target_id: int) -> models.Target:
    return models.Target.objects.select_for_update().get(pk=target_id)


def _set(target: models.Target, fields: Mapping[str, Any], *, at: datetime) -> None:
    """Store a budget, and let the plan of every queue that sends to the target follow."""
    for name, value in fields.items():
        setattr(target, name, value)
    target.version += 1
    target.save(update_fields=[*fields, "version"])
    target_id = target.pk if target.has_budget else None
    queue_ids = [queue.pk for queue in queues_that_send_to(target.origin)]
    for queue in reservations.lock_queues(queue_ids, target_ids=[target.pk]).values():
        if targets.origin_of_queue(queue) == target.origin:
            _give(queue, target_id, at=at)


def _give(queue: models.Queue, target_id: int | None, *, at: datetime) -> None:
    """Let a locked queue share a target's budget, or none; minutes that are sealed go on as they were planned."""
    if target_id is not None and queue.target_id is None:
        minute = clock.minute_start(at)
        running = [keys.bucket_at(queue.pk, minute + number * clock.MINUTE) for number in (0, 1)]
        sealed = models.Bucket.objects.filter(pk__in=running, sealed_at__isnull=False, target_id=None)
        sealed.update(target_id=target_id)
    if queue.target_id != target_id:
        queue.target_id = target_id
        queue.version += 1
        queue.save(update_fields=["target", "version"])
    rates.follow(queue, ["target_id", "quotas"], at=at)


def queues_that_send_to(origin: str) -> list[models.Queue]:
    webhooks = models.Queue.objects.filter(handler=models.HandlerKind.WEBHOOK).order_by("pk")
    return [queue for queue in webhooks if targets.origin_of_queue(queue) == origin]


def wake(*, at: datetime) -> None:
    """Link queues, and queue a job where that moves IDs."""
    if link(at=at):
        cluster.enqueue("scheduling.jobs.refit")
