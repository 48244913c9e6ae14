"""What all tests share."""

import gc
import os
from urllib.parse import quote, urlencode

import pytest
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.transaction import Atomic
from django.utils import timezone
from hypothesis import settings as properties

from operators import tokens
from operators.actor import Actor
from operators.models import Operator
from scheduling import store
from scheduling.tasks import bulk_cancel, resend
from tests import patience

# How long an example takes says more about the machine than about us; what is to be quick is measured apart.
properties.register_profile("house", deadline=None, print_blob=True)
properties.load_profile("house")


def pytest_collection_finish():
    """Spare the garbage collector what was imported and collected, which stays to the end: it took 7 % of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Begin no test shortly before a quarter-hour: lists that it submits would be in two windows, or late.

    Before the fixtures, since they ask for the time too. It costs each process that tests some seconds in a
    quarter-hour.
    """
    names = getattr(item, "fixturenames", ())
    if "process_environment" in names:
        patience.wait_out_a_border(patience.BEFORE_A_BORDER_WITH_PROCESSES)
    elif "open_page" in names:
        patience.wait_out_a_border(patience.BEFORE_A_BORDER_IN_BROWSERS)
    elif {"db", "transactional_db", "running"}.intersection(names) or item.get_closest_marker("django_db"):
        patience.wait_out_a_border(patience.BEFORE_A_BORDER)


@pytest.fixture(autouse=True)
def no_transaction_begins_on_an_open_reading(monkeypatch):
    """SQLite refuses one at once where somebody else has written meanwhile: "database is locked".

    That takes two processes and luck; so here none may begin at all while rows are still being read.
    """
    if connection.vendor != "sqlite":
        return
    # Each thread has a connection of its own.
    opened: set[tuple[int, int]] = set()
    backend = type(connections[DEFAULT_DB_ALIAS])
    chunked_cursor, enter = backend.chunked_cursor, Atomic.__enter__

    def open_cursor(wrapper):
        cursor = chunked_cursor(wrapper)
        close = cursor.close

        def forget_and_close():
            opened.discard((id(wrapper), id(cursor)))
            close()

        cursor.close = forget_and_close
        opened.add((id(wrapper), id(cursor)))
        return cursor

    def check_and_enter(atomic):
        connection_id = id(connections[atomic.using or DEFAULT_DB_ALIAS])
        assert not any(wrapper == connection_id for wrapper, _ in opened), (
            "a transaction begins amid a reading"
        )
        enter(atomic)

    monkeypatch.setattr(backend, "chunked_cursor", open_cursor)
    monkeypatch.setattr(Atomic, "__enter__", check_and_enter)


@pytest.fixture(autouse=True)
def clicks_have_time(monkeypatch):
    """On a busy machine a second is over before anything is done, and a job would do the rest."""
    for operation in (bulk_cancel, resend):
        monkeypatch.setattr(operation, "CLICK_SECONDS", 60.0)


@pytest.fixture(autouse=True)
def waits_are_those_of_other_processes():
    """A minute worker that a test drives tick by tick leaves its connection as it is between two ticks."""
    yield
    store.end_short_waits()


@pytest.fixture
def make_operator(db):
    """Make an operator of a role: make_operator("viewer")."""

    def make(role: str = "operator", *, username: str = "", password: str = "a long passphrase") -> Operator:
        return Operator.objects.create_user(username or role, password=password, role=role)

    return make


@pytest.fixture
def make_token(db):
    """Make a token and give its secret: make_token("write")."""

    def make(scope: str = "write", *, name: str = "a test", operator: Operator | None = None) -> str:
        by = Actor.command_line()
        return tokens.issue(name=name, scope=scope, by=by, at=timezone.now(), operator=operator)[1]

    return make


@pytest.fixture
def process_environment(transactional_db) -> dict[str, str]:
    """The environment of a real process (a cluster, a server) that works on this test's database."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings.test",
        "DATA_DIR": str(settings.DATA_DIR),
        "SECRET_KEY": settings.SECRET_KEY,
        "DATABASE_URL": database_url(),
    }


def database_url() -> str:
    """The URL of the database that the tests work on (the test database, once it is made)."""
    with_values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{quote(str(with_values['NAME']))}"
    options = {"host": with_values["HOST"], "port": str(with_values["PORT"]), **with_values["OPTIONS"]}
    user = f"{quote(with_values['USER'], safe='')}:{quote(with_values['PASSWORD'], safe='')}"
    values = {key: value for key, value in options.items() if isinstance(value, str) and value}
    # libpq reads a plus sign as one.
    chosen = urlencode(values, quote_via=quote)
    return f"postgresql://{user}@/{quote(with_values['NAME'], safe='')}?{chosen}"
