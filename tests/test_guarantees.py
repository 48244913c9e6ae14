"""Each test that the guarantees name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/guarantees.md").read_text())


def test_guarantees_name_tests():
    assert len(NAMED) >= 10


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_guarantee_is_shown_by_a_test_that_exists(path, name):
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
