"""System checks: a cluster whose settings would lose, duplicate or never run jobs doesn't start.

django-q2 accepts any settings without a warning; their effects are measured in docs/decisions.md.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import OperationalError, connection
from django.utils.module_loading import import_string
from django_q.brokers.orm import ORM

from scheduling.postgresql.pooling import UndeclaredPooler

# django-q2 counts its rounds down in these steps; others never reach zero.
GUARD_CYCLES = (0.25, 0.5, 1)
# A job that is taken waits in the cluster's memory for the ones before it: three time-outs and a margin.
RETRY_MARGIN_SECONDS = 10


def clusters() -> dict[str, dict[str, Any]]:
    """Return every cluster's settings by its name."""
    base = {key: value for key, value in settings.Q_CLUSTER.items() if key != "ALT_CLUSTERS"}
    others = settings.Q_CLUSTER.get("ALT_CLUSTERS", {})
    return {base["name"]: base} | {name: {**base, **own} for name, own in others.items()}


@register(Tags.compatibility)
def check_names(app_configs: object = None, **kwargs: object) -> list[CheckMessage]:
    """Check that each cluster has its own name: a cluster with a wrong name would wait for ever."""
    problems: list[CheckMessage] = []
    if not settings.Q_CLUSTER.get("name"):
        return [
            Error("Q_CLUSTER has no name.", hint="It is the key of the queued jobs.", id="quarterdeck.E001")
        ]
    name = settings.Q_CLUSTER["name"]
    if name in settings.Q_CLUSTER.get("ALT_CLUSTERS", {}):
        hint = "Each cluster has its own name; jobs of both would go to either."
        problems.append(Error(f"Two clusters are named {name!r}.", hint=hint, id="quarterdeck.E001"))
    if settings.MINUTES_CLUSTER not in settings.Q_CLUSTER.get("ALT_CLUSTERS", {}):
        hint = f"The minutes' jobs go to {settings.MINUTES_CLUSTER!r}: add it to ALT_CLUSTERS."
        problems.append(Error("No cluster serves the minutes.", hint=hint, id="quarterdeck.E002"))
    cluster_name = os.environ.get("Q_CLUSTER_NAME")
    if cluster_name and cluster_name not in clusters():
        hint = f"It may be one of: {', '.join(clusters())}. Jobs are queued for no other."
        problems.append(
            Error(f"Q_CLUSTER_NAME is {cluster_name!r}, and no cluster is.", hint=hint, id="quarterdeck.E003")
        )
    return problems


@register(Tags.compatibility)
def check_clusters(app_configs: object = None, **kwargs: object) -> list[CheckMessage]:
    """Check what each cluster needs to run every job once and to stop when told."""
    if not settings.Q_CLUSTER.get("name"):
        return []
    return [message for name, conf in clusters().items() for message in _check_cluster(name, conf)]


def _check_cluster(name: str, conf: Mapping[str, Any]) -> Iterator[CheckMessage]:
    def error(text: str, hint: str, number: int) -> Error:
        return Error(f"Cluster {name!r}: {text}", hint=hint, id=f"quarterdeck.E{number:03d}")

    workers, limit = conf.get("workers"), conf.get("queue_limit")
    if not isinstance(workers, int) or workers < 1 or limit is None or limit < workers:
        hint = "With fewer places than workers a stop hangs. Set both, and equal."
        yield error(f"queue_limit ({limit}) is below workers ({workers}).", hint, 4)
    elif limit > workers:
        text = f"Cluster {name!r}: queue_limit ({limit}) is above workers ({workers})."
        hint = "What a cluster has taken and not begun is kept from all others, and may run twice."
        yield Warning(text, hint=hint, id="quarterdeck.W001")

    timeout, retry = conf.get("timeout"), conf.get("retry")
    if type(timeout) is not int or type(retry) is not int or timeout < 1:
        hint = "A fraction makes every job fail; without a timeout a stuck job is never ended."
        yield error(f"timeout ({timeout}) and retry ({retry}) must be whole seconds.", hint, 5)
    elif retry <= 3 * timeout + RETRY_MARGIN_SECONDS:
        hint = f"A job would run beside itself. Let retry be above {3 * timeout + RETRY_MARGIN_SECONDS}."
        yield error(f"retry ({retry}) is too near to timeout ({timeout}).", hint, 6)

    if conf.get("guard_cycle") not in GUARD_CYCLES:
        hint = f"With others a stuck job is never killed. One of: {', '.join(map(str, GUARD_CYCLES))}."
        yield error(f"guard_cycle is {conf.get('guard_cycle')}.", hint, 7)
    if conf.get("catch_up") is not False or conf.get("save_limit") != -1:
        hint = "catch_up replays schedules in a burst; with a save_limit each result loads all that are kept."
        yield error("catch_up must be False and save_limit -1.", hint, 8)


@register(Tags.compatibility)
def check_broker(app_configs: object = None, **kwargs: object) -> list[CheckMessage]:
    """Check that jobs are queued on the same database, in the transaction that creates their work."""
    problems: list[CheckMessage] = []
    if settings.Q_CLUSTER.get("orm") != "default":
        hint = "With another alias jobs and work are not one transaction, and schedules fire again and again."
        problems.append(Error("Q_CLUSTER's orm must be 'default'.", hint=hint, id="quarterdeck.E009"))
    path = settings.Q_CLUSTER.get("broker_class")
    try:
        broker = import_string(path or "django_q.brokers.orm.ORM")
    except ImportError:
        broker = None
    if not (isinstance(broker, type) and issubclass(broker, ORM)):
        hint = "Others lose what a killed cluster had taken, and can't hold a job until its time."
        problems.append(
            Error(f"broker_class {path!r} is not an ORM broker.", hint=hint, id="quarterdeck.E010")
        )
    return problems


@register(Tags.compatibility)
def check_database(app_configs: object = None, **kwargs: object) -> list[CheckMessage]:
    """Check the settings of the database that clusters depend on."""
    database = settings.DATABASES["default"]
    options = database.get("OPTIONS", {})
    problems: list[CheckMessage] = []
    if options.get("pool"):
        hint = "The processes that a cluster forks would share its sockets. Take `pool` out of OPTIONS."
        problems.append(Error("The database has a connection pool.", hint=hint, id="quarterdeck.E011"))
    if database.get("CONN_MAX_AGE", 0) == 0:
        hint = "Each poll of the clusters would open a connection of its own. Set CONN_MAX_AGE to None."
        problems.append(Error("Database connections don't last.", hint=hint, id="quarterdeck.E012"))
    if database.get("ATOMIC_REQUESTS"):
        hint = (
            "On SQLite, each page would take the one write lock; no lock may be taken while a body arrives."
        )
        problems.append(Error("ATOMIC_REQUESTS is on.", hint=hint, id="quarterdeck.E013"))
    if "sqlite" in database["ENGINE"] and options.get("transaction_mode") != "IMMEDIATE":
        hint = "A transaction that reads first fails with 'database is locked'. Set it to IMMEDIATE."
        problems.append(
            Error("SQLite's transaction_mode is not IMMEDIATE.", hint=hint, id="quarterdeck.E014")
        )
    return problems


@register(Tags.database)
def check_pooler(databases: Sequence[str] | None = None, **kwargs: object) -> list[CheckMessage]:
    """Check that a pooler that works by transaction is declared; a cluster that starts checks it too."""
    is_starting = databases or os.environ.get("Q_CLUSTER_NAME")
    if connection.vendor != "postgresql" or not is_starting:
        return []
    try:
        connection.ensure_connection()
    except UndeclaredPooler as error:
        return [Error(str(error), id="quarterdeck.E016")]
    except OperationalError:
        # It is waited for.
        return []
    return []
