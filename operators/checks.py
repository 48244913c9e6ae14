"""System check: whether others can read confidential files."""

import stat
from pathlib import Path

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register


@register(Tags.security)
def check_privacy(**_: object) -> list[CheckMessage]:
    """Everything in these directories is confidential: lists, sessions, the key that signs jobs."""
    problems: list[CheckMessage] = []
    for name in ("DATA_DIR", "SPOOL_DIR"):
        path: Path = getattr(settings, name)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            problems.append(
                Warning(
                    f"{name} ({path}) has mode {mode:o}: other users of this machine can open it.",
                    hint=f"Run: chmod 700 {path}",
                    id="quarterdeck.W101",
                )
            )
    return problems
