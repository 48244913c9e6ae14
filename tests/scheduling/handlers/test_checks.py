"""Callables that the settings allow: one that isn't there stops the start."""

import pytest

from scheduling.handlers.checks import check_callables


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("nosuch.module.send", "No module named"),
        ("math.nosuch", "does not define"),
        ("math.pi", "can't be called"),
    ],
)
def test_uncallable_handler_fails_the_check(settings, path, text):
    settings.PYTHON_HANDLERS = ["math.sqrt", path]

    (error,) = check_callables()

    assert error.id == "quarterdeck.E015"
    assert path in error.msg
    assert text in error.msg


def test_existing_callables_pass_the_check(settings):
    settings.PYTHON_HANDLERS = ["math.sqrt"]

    assert check_callables() == []
