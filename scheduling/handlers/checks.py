"""System check: every callable that a queue may name exists, so that a typo stops the start and not each ID."""

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.utils.module_loading import import_string


@register(Tags.compatibility)
def check_callables(app_configs: object = None, **kwargs: object) -> list[CheckMessage]:
    """Check that each of PYTHON_HANDLERS can be imported and called."""
    return [
        Error(
            f"PYTHON_HANDLERS names {path!r}: {reason}.",
            hint="The folder of its module must be in PYTHONPATH: see docs/python-handler.md.",
            id="quarterdeck.E015",
        )
        for path in sorted(settings.PYTHON_HANDLERS)
        if (reason := _reason(path))
    ]


def _reason(path: str) -> str:
    """Why it can't be called; empty if it can."""
    try:
        target = import_string(path)
    except Exception as error:  # whatever the module raises while it is imported
        return f"{type(error).__name__}: {error}"
    return "" if callable(target) else "it can't be called"
