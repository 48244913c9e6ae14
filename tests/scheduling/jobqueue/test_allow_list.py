"""django-q2's tables name callables: only ours are taken in, and a bad row stops nobody else's."""

from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from django_q.scheduler import scheduler
from django_q.tasks import async_task

from scheduling.core.errors import JobRefused
from scheduling.jobqueue import allow_list, schedules

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "func",
    [
        "os.system",
        "scheduling.jobs",
        "scheduling.jobs.os.system",
        "scheduling.jobs.__import__('os')",
        "scheduling.store.now",
        "",
    ],
)
def test_schedule_of_an_unknown_function_is_refused(func):
    with pytest.raises(JobRefused):
        Schedule.objects.create(name="mine", func=func)
    assert not Schedule.objects.exists()


@pytest.mark.parametrize("more", [{"hook": "os.system"}, {"args": "'rm -r /'"}, {"kwargs": "a=1"}])
def test_schedule_with_arguments_is_refused(more):
    with pytest.raises(JobRefused):
        Schedule.objects.create(name="sweep", func="scheduling.jobs.sweep", **more)


def test_known_schedules_are_created_and_saved():
    schedules.ensure(at=timezone.now())
    for row in Schedule.objects.all():
        row.save()
    assert {row.func for row in Schedule.objects.all()} == {schedule.func for schedule in schedules.WANTED}


def test_schedule_cannot_be_changed_to_an_unknown_function():
    schedules.ensure(at=timezone.now())
    row = Schedule.objects.first()
    row.func = "os.system"
    with pytest.raises(JobRefused):
        row.save()


@pytest.mark.parametrize("func", ["os.system", print, "builtins.exec"])
def test_job_of_an_unknown_function_is_refused(func):
    with pytest.raises(JobRefused):
        async_task(func, "echo")
    assert not OrmQ.objects.exists()


@pytest.mark.parametrize("more", [{"hook": "os.system"}, {"chain": [("os.system", ("echo",))]}])
def test_job_with_a_hook_is_refused(more):
    with pytest.raises(JobRefused):
        async_task("scheduling.jobs.sweep", **more)
    assert not OrmQ.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_injected_schedule_never_runs_and_stops_no_other():
    at = timezone.now() - timedelta(hours=1)
    schedules.ensure(at=at)
    Schedule.objects.bulk_create(
        [Schedule(name="bad", func="os.system", schedule_type=Schedule.MINUTES, minutes=1, next_run=at)]
    )
    Schedule.objects.filter(name="sweep").update(next_run=at)
    scheduler()
    queued = {row.task["func"] for row in OrmQ.objects.all()}
    assert "os.system" not in queued
    assert "scheduling.jobs.sweep" in queued
    assert allow_list.REFUSED in queued
    assert Schedule.objects.get(name="bad").repeats == 0
    before = OrmQ.objects.count()
    Schedule.objects.filter(name="bad").update(next_run=at)
    scheduler()
    assert OrmQ.objects.count() == before
