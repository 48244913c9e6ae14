"""Faults that mutation testing puts into the code."""

import ast
from itertools import groupby, islice
from pathlib import Path

import pytest

from tests import mutation

SOURCE = '''
def f(a: int = 1) -> int:
    """Return 2."""
    log.info("3", b=4)
    if not a < 5:
        raise ValueError(6)
    g(a)
    return a + 7
'''
CHANGES = {
    "comparison": "if not a <= 5:",
    "without not": "if a < 5:",
    "condition": "if not (not a < 5):",
    "call left out": "None",
    "returns None": "return None",
    "operator": "return a - 7",
}


@pytest.fixture
def mutants(tmp_path, monkeypatch):
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    path = tmp_path / "code.py"
    path.write_text(SOURCE)
    return list(mutation.mutants_of(path))


def test_mutation_changes_one_place(mutants):
    by_way = {mutant.way: mutation.mutated(SOURCE, mutant) for mutant in mutants if mutant.way != "constant"}
    assert by_way.keys() == CHANGES.keys()
    for way, text in by_way.items():
        same = set(ast.unparse(ast.parse(SOURCE)).splitlines())
        changed = [line.strip() for line in text.splitlines() if line not in same]
        assert changed == [
            ast.unparse(ast.parse(CHANGES[way] + ("\n    pass" if ":" in CHANGES[way] else ""))).splitlines()[
                0
            ]
        ]


def test_mutation_skips_text_for_people(mutants):
    constants = [mutation.mutated(SOURCE, mutant) for mutant in mutants if mutant.way == "constant"]
    # The default, the bound and the summand; not the docstring, the log line and the message.
    assert len(constants) == 3
    assert all("ValueError(6)" in text and "b=4" in text and "Return 2" in text for text in constants)


def test_every_mutation_is_a_different_program():
    """A few of each kind in each file: putting one in takes as long as reading its file."""
    for path in sorted((Path(mutation.ROOT) / "scheduling" / "placement").glob("[a-z]*.py")):
        source = path.read_text()
        unchanged = ast.unparse(ast.parse(source))
        by_way = sorted(mutation.mutants_of(path), key=lambda mutant: mutant.way)
        for mutant in (m for _, group in groupby(by_way, lambda m: m.way) for m in islice(group, 3)):
            assert mutation.mutated(source, mutant) != unchanged, mutant
