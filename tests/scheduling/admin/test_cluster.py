"""django-q2's tables are looked at, and what is pickled in them stays where it is."""

import pickle
from datetime import timedelta

import pytest
from django.contrib import admin
from django.db import connection
from django.utils import timezone
from django_q.models import Failure, OrmQ, Schedule, Success

pytestmark = pytest.mark.django_db
ran: list[str] = []


class Trap:
    """Runs when somebody reads it."""

    def __reduce__(self):
        return ran.append, ("read",)


def test_job_results_are_listed_without_unpickling(signed_in, deck):
    from picklefield.fields import dbsafe_encode

    ran.clear()
    trap = dbsafe_encode(Trap())
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_q_task SET args = %s, kwargs = %s, result = %s", [trap, trap, trap])
    # It works: whoever reads the column runs it.
    list(Success.objects.values_list("result", flat=True))
    assert ran
    ran.clear()
    client = signed_in("admin")
    for kind, number in (("success", 0), ("failure", 1)):
        for page in ("", f"{number:032}/change/", "?q=job 0"):
            answer = client.get(f"/admin/django_q/{kind}/{page}")
            assert answer.status_code == 200
            assert "job" in answer.content.decode()
    assert not ran


def test_queued_jobs_are_listed_without_unpickling(signed_in, deck):
    ran.clear()
    at = timezone.now()
    OrmQ.objects.create(key="quarterdeck", payload=pickle.dumps(Trap()).hex(), lock=at - timedelta(minutes=1))
    key = OrmQ.objects.latest("pk").pk
    client = signed_in("admin")
    assert "due" in client.get("/admin/django_q/ormq/").content.decode()
    assert client.get(f"/admin/django_q/ormq/{key}/change/").status_code == 200
    assert not ran


def test_django_q2_admin_pages_are_unregistered():
    for model in (Failure, OrmQ, Schedule, Success):
        assert type(admin.site._registry[model]).__module__ == "scheduling.admin.cluster"
