"""What a connection to PostgreSQL asks of the server, and several hosts at once on one database."""

import os
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from runner.broker import WatchedBroker
from scheduling import models, store
from scheduling.jobqueue.checks import check_pooler
from scheduling.postgresql.pooling import is_pooled_by_transaction
from settings.place import BASE_DIR
from tests.conftest import database_url

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL only"),
]


def test_server_is_asked_to_end_the_sessions_of_a_vanished_host():
    with connection.cursor() as cursor:
        cursor.execute("SELECT reset_val FROM pg_settings WHERE name = 'tcp_keepalives_idle'")
        # Over a UNIX socket PostgreSQL shows 0, whatever was asked.
        assert cursor.fetchone()[0] in ("10", "0")
    assert "tcp_keepalives_idle=10" in connection.settings_dict["OPTIONS"]["options"]


def test_direct_connection_is_not_taken_for_a_pooler():
    parameters = connection.get_connection_params()
    with (
        connection.get_new_connection(parameters) as item,
        connection.get_new_connection(parameters) as other,
    ):
        assert not is_pooled_by_transaction(item, other)
    assert check_pooler(databases=["default"]) == []


def test_stopped_cluster_leaves_no_row_though_the_database_was_restarted():
    cluster = WatchedBroker(list_key="minutes")
    cluster._write_row()
    connection.ensure_connection()
    with connection.get_new_connection(connection.get_connection_params()) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        other.commit()
    cluster._delete_row()
    assert not models.Heartbeat.objects.filter(owner=cluster.owner).exists()
    assert store.now()


@pytest.fixture
def empty_database():
    """The URL of a database that nobody has prepared."""
    url = database_url()
    parts = urlsplit(url)
    name = "prepared_by_two"
    with psycopg.connect(urlunsplit(parts._replace(path="/postgres")), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name}")
        admin.execute(f"CREATE DATABASE {name}")
        yield urlunsplit(parts._replace(path=f"/{name}"))
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.faults
def test_two_hosts_may_prepare_at_once(empty_database, tmp_path):
    hosts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir(mode=0o700)
        environment = {
            **os.environ,
            "DATABASE_URL": empty_database,
            "DATA_DIR": str(tmp_path / name),
            "DJANGO_SETTINGS_MODULE": "settings.production",
            "SECRET_KEY": settings.SECRET_KEY,
        }
        command = [sys.executable, "-m", "runner.prepare"]
        hosts.append(
            subprocess.Popen(
                command,
                cwd=BASE_DIR,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    output = [host.communicate(timeout=120)[0] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], output
    assert sum("First operator: admin" in text for text in output) == 1
