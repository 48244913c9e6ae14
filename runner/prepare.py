"""Create what must exist before anything runs: tables, schedules, the first queue and operator, static files.

It is one process, since loading Django takes most of the time. Each step does nothing the second time.
"""

import fcntl
import io
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

from settings.env import BadSetting

# One number for all hosts that prepare the same PostgreSQL at the same time.
LOCK = 7_211_002
# What one part of several needs: the web server its static files, and a cluster only correct settings.
STATIC, CHECK = "static", "check"


def main(extra: list[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.production")
    import django
    from django.core.management import call_command
    from django.core.management.base import SystemCheckError
    from django.db import OperationalError

    try:
        django.setup()
        from django.conf import settings

        if extra == [CHECK]:
            call_command("check", stdout=io.StringIO())
            return 0
        # A container image has already collected them, and is read-only.
        if not settings.DEBUG and settings.STATIC_ROOT.is_relative_to(settings.DATA_DIR):
            call_command("collectstatic", interactive=False, verbosity=0)
        if extra == [STATIC]:
            # What a cluster checks as it starts, a web server has to check before.
            call_command("check", stdout=io.StringIO(), tags=["database"], databases=["default"])
            return 0
        with alone():
            call_command("check", stdout=io.StringIO(), databases=["default"])
            call_command("migrate", interactive=False, verbosity=0)
            call_command("createcachetable", verbosity=0)
            call_command("prepare")
            call_command("first_operator")
        for command in extra:
            call_command(command)
    except BadSetting as error:
        print(error, file=sys.stderr)
        return 2
    except (SystemCheckError, OperationalError) as error:
        print(f"Quarterdeck can't start: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def alone() -> Iterator[None]:
    """Let other hosts that prepare the same database wait until this one has done it."""
    from django.conf import settings
    from django.db import connection

    if connection.vendor == "postgresql":
        with closing(connection.get_new_connection(connection.get_connection_params())) as own:
            # A lock of a transaction, since behind a pooler a session may be anybody's.
            own.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            own.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            yield
            own.rollback()
    else:
        with (settings.DATA_DIR / "prepare.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
