"""django-q2, with the broker in PostgreSQL. It has neither a limit of its rate nor a start time of a task.

Where jobs shall meet a fault for a minute, the one who enqueues paces them, and tries again while the database is away.
"""

import time
import urllib.parse

import django
from django.conf import settings

from benchmarks.peers import contract

URL = urllib.parse.urlsplit(contract.DATABASE_URL)
JOB = "benchmarks.peers.record.start"


def configure() -> None:
    """Django, with nothing but the queue."""
    query = dict(urllib.parse.parse_qsl(URL.query))
    settings.configure(
        SECRET_KEY="a benchmark",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_q"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": URL.path.lstrip("/"),
                "USER": URL.username or "",
                "PASSWORD": URL.password or "",
                "HOST": query.get("host", URL.hostname or ""),
                "PORT": str(URL.port or ""),
            }
        },
        Q_CLUSTER={
            "name": "jobs",
            "workers": contract.AT_ONCE,
            "orm": "default",
            "poll": 0.2,
            "timeout": 10,
            "retry": contract.RECOVERY_SECONDS,
            "max_attempts": 0,
            "ack_failures": False,
            "save_limit": 1,
            "catch_up": False,
            "scheduler": False,
        },
    )
    django.setup()


def setup() -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def enqueue(count: int, rpm: int) -> None:
    from django.db import InterfaceError, OperationalError, connection

    for number in range(count):
        if rpm:
            time.sleep(max(0.0, contract.start_of(number, rpm).timestamp() - time.time()))
        while True:
            try:
                add(number)
                break
            except (OperationalError, InterfaceError):
                connection.close()
                time.sleep(0.2)


def add(number: int) -> None:
    from django_q.tasks import async_task

    async_task(JOB, number)


def work(rpm: int) -> None:
    from django.core.management import call_command

    call_command("qcluster")


def pending() -> int:
    from django_q.models import OrmQ

    return int(OrmQ.objects.count())


if __name__ == "__main__":
    configure()
    contract.main(setup=setup, enqueue=enqueue, add=add, work=work, pending=pending)
