"""Callables that the settings allow: one that isn't there stops the start."""

import pytest

from scheduling.handlers.checks import check_callables


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nosuch.module.send", "No module named"),
        ("math.nosuch", "does not define"),
        ("math.pi", "can't be called"),
    ],
)
def test_callable_that_can_not_be_called_is_an_error(settings, path, said):
    settings.PYTHON_HANDLERS = ["math.sqrt", path]

    (error,) = check_callables()

    assert error.id == "quarterdeck.E015"
    assert path in error.msg
    assert said in error.msg


def test_callables_that_exist_are_no_error(settings):
    settings.PYTHON_HANDLERS = ["math.sqrt"]

    assert check_callables() == []
