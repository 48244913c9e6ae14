"""Sending hours with a name: a change acts on all queues and targets that have them.

Their row is locked before those of targets and queues, so that none can begin to use them in between.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.db import IntegrityError
from django.db.models import QuerySet

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import capacity
from scheduling.core.errors import BadFields, HoursInUse, HoursTaken, StaleVersion
from scheduling.placement import reservations
from scheduling.queues import effects, operations, rates, targets, validation
from scheduling.queues.effects import Effect


def check(form: Mapping[str, Any]) -> dict[str, Any]:
    """Return a form of hours as it is stored. Raises BadFields."""
    if len(str(form)) > validation.FORM_CHARACTERS:
        raise BadFields(open=f"Hours have at most {validation.FORM_CHARACTERS:,} characters.")
    try:
        capacity.Hours.read(form)
    except ValueError as error:
        raise BadFields(open=str(error)) from None
    return {name: form[name] for name in ("zone", "open", "closed") if form.get(name)}


def create(*, name: str, form: Mapping[str, Any], by: Actor, at: datetime) -> models.Hours:
    """Create hours that queues and targets can share. Raises BadFields, HoursTaken."""
    validation.check_name(name)
    form = check(form)
    try:
        with store.write():
            hours = models.Hours.objects.create(name=name, form=form, created_at=at)
            activity.record(by, "created", hours, at=at, after=form)
    except IntegrityError:
        raise HoursTaken(name=name) from None
    return hours


def update(
    hours: models.Hours,
    form: Mapping[str, Any],
    *,
    by: Actor,
    now: Callable[[], datetime],
    if_version: int | None = None,
) -> models.Hours:
    """Change hours for all that have them; what no longer fits moves on. Raises BadFields, StaleVersion."""
    form = check(form)
    with store.write():
        hours = models.Hours.objects.select_for_update().get(pk=hours.pk)
        if if_version not in (None, hours.version):
            raise StaleVersion
        if form == hours.form:
            return hours
        of_queues = list(_queues(hours).values_list("pk", flat=True))
        limited = list(_targets(hours))
        sending = {queue.pk for target in limited for queue in targets.queues_that_send_to(target.origin)}
        # All of them, in one order.
        locked = reservations.lock_queues(
            {*of_queues, *sending}, target_ids=[target.pk for target in limited]
        )
        at, before = now(), hours.form
        hours.form, hours.version = dict(form), hours.version + 1
        hours.save(update_fields=["form", "version"])
        count = len(of_queues) + len(limited)
        activity.record(by, "changed", hours, at=at, count=count, before=before, after=form)
        for pk in of_queues:
            operations.apply(locked[pk], {"hours": hours.form}, by=by, at=at)
        for target in _targets(hours):
            targets.apply(target, {"hours": hours.form}, by=by, at=at)
        rates.check_open([*of_queues, *sending], at=at)
    return hours


def effects_of(
    hours: models.Hours, form: Mapping[str, Any], *, at: datetime
) -> list[tuple[models.Queue | models.Target, Effect]]:
    """Return what other hours would do to each target and queue that has them; nothing is stored. Raises BadFields.

    The effect on a target is that on all queues that send to it, which have none of their own beside it.
    """
    form = check(form)
    changed = {queue.pk: queue for queue in _queues(hours)}
    for queue in changed.values():
        validation.check_together(queue, {"hours": form})
    result: list[tuple[models.Queue | models.Target, Effect]] = []
    for target in _targets(hours):
        sending = targets.queues_that_send_to(target.origin)
        for queue in sending:
            if changed.pop(queue.pk, None):
                queue.hours = form
        result.append((target, effects.of_budget(target, {"hours": form}, sending, at=at)))
    result += [(queue, effects.of_changes(queue, {"hours": form}, at=at)) for queue in changed.values()]
    return result


def delete(hours: models.Hours, *, by: Actor, at: datetime) -> None:
    """Delete hours that nothing has. Raises HoursInUse, with the names of the queues and targets that do."""
    with store.write():
        hours = models.Hours.objects.select_for_update().get(pk=hours.pk)
        used_by = [str(user) for user in (*_queues(hours), *_targets(hours))]
        if used_by:
            raise HoursInUse(name=hours.name, users=", ".join(used_by))
        activity.record(by, "deleted", hours, at=at, before=hours.form)
        hours.delete()


def _queues(hours: models.Hours) -> QuerySet[models.Queue]:
    """Return the queues that have the hours, in the order of their locks."""
    return models.Queue.objects.filter(shared_hours=hours).order_by("pk")


def _targets(hours: models.Hours) -> QuerySet[models.Target]:
    """Return the targets that have the hours, in the order of their locks."""
    return models.Target.objects.filter(shared_hours=hours).order_by("pk")
