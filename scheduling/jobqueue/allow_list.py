"""Only our own jobs reach a cluster: a row of django-q2's names a callable, and any would be run.

What is refused is refused where it is asked for. The cluster's own scheduler is another thing: its pass is
one transaction, so one bad row that somebody wrote into the database would stop all schedules, every 30 s.
There a bad row is made harmless, and `schedules.ensure` deletes it.
"""

from typing import Any

import structlog
from django.db.models.signals import pre_save
from django_q.models import Schedule
from django_q.signals import pre_enqueue

from scheduling.core.errors import JobRefused

log = structlog.get_logger(__name__)

JOBS = "scheduling.jobs."


def is_ours(func: object) -> bool:
    """Whether it names a job of scheduling.jobs, in the one spelling that the clusters are given."""
    return isinstance(func, str) and func.startswith(JOBS) and func[len(JOBS) :].isidentifier()


def refused() -> None:
    """Run in place of a job that is not one of scheduling.jobs."""
    log.error("foreign_job_not_run")


REFUSED = f"{__name__}.{refused.__name__}"


def connect() -> None:
    """Check every schedule and every job that this process saves or queues."""
    pre_save.connect(check_schedule, sender=Schedule, dispatch_uid="scheduling.jobqueue.allow_list")
    pre_enqueue.connect(check_job, dispatch_uid="scheduling.jobqueue.allow_list")


def check_schedule(sender: object, instance: Schedule, **kwargs: object) -> None:
    """Raise JobRefused for a schedule of anything else, or with a hook, arguments or a time of its own."""
    if _is_sound(instance):
        return
    stored = Schedule.objects.filter(pk=instance.pk).first()
    if stored is None or _is_sound(stored):
        raise JobRefused(what=f"{instance.func} (hook: {instance.hook}, arguments: {instance.args})")
    # It lies in the database already, so this is the scheduler, which keeps the time of its next run.
    log.error("foreign_schedule_stopped", schedule=instance.name, callable=instance.func)
    instance.repeats = 0


def check_job(sender: object, task: dict[str, Any], **kwargs: object) -> None:
    """Raise JobRefused for a call of anything else, or one whose result would be called with something."""
    if is_ours(task["func"]) and not task.get("hook") and not task.get("chain"):
        return
    scheduled = isinstance(task["func"], str) and Schedule.objects.filter(func=task["func"]).exists()
    if not scheduled:
        raise JobRefused(what=str(task["func"]))
    log.error("foreign_job_stopped", callable=task["func"])
    task.update(func=REFUSED, args=(), kwargs={}, hook=None, chain=None, save=False)


def _is_sound(row: Schedule) -> bool:
    return is_ours(row.func) and not (row.hook or row.args or row.kwargs or row.intended_date_kwarg)
