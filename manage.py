#!/usr/bin/env python3
"""The command line of Django, with Quarterdeck's settings."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.production")
    from django.core.management import execute_from_command_line

    from settings.env import BadSetting

    # The database, the spool and backups are for their owner only.
    os.umask(0o077)

    try:
        execute_from_command_line(sys.argv)
    except BadSetting as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
