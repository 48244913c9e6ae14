"""Create what must exist before anything runs: tables, schedules, the first queue and operator, static files.

It is one process, since loading Django takes most of the time. Each step does nothing the second time.
"""

import io
import os
import sys

from settings.env import BadSetting


def main(extra: list[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.production")
    import django
    from django.core.management import call_command
    from django.core.management.base import SystemCheckError
    from django.db import OperationalError

    try:
        django.setup()
        from django.conf import settings

        call_command("check", stdout=io.StringIO())
        call_command("migrate", interactive=False, verbosity=0)
        call_command("createcachetable", verbosity=0)
        call_command("prepare")
        # A container image has already collected them, and is read-only.
        if not settings.DEBUG and settings.STATIC_ROOT.is_relative_to(settings.DATA_DIR):
            call_command("collectstatic", interactive=False, verbosity=0)
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
