"""Mutation testing of the core, dispatch and placement: `python -m tests.mutation [--sample N] [--seed N]`.

A mutant is the code with one small fault: a comparison turned round, a constant one larger, a call left out. All of
them are listed, a sample is drawn by the seed, and for each the tests of its module, a storm, and then the tests of
the rooms around it run in a copy of the repository until one of them fails. What is printed last is the share that
was found. The exit code is 1 if it is below `LEAST`, 0 otherwise.

Left out are faults that no test should find: in log lines, messages and what only people read.
"""

import argparse
import ast
import copy
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    "api", "benchmarks", "dashboard", "operators", "runner", "scheduling", "settings", "static", "templates", "tests",
)  # fmt: skip
ROOMS = ("core", "dispatch", "placement")
LEAST = 0.9
# A test that computes this long is in a loop that the fault made; one that waits this long waits for ever.
STAGE_SECONDS = 400
WAITING_SECONDS = 4_000
# Functions whose results only people read.
NAMES_LEFT_OUT = frozenset({"__str__", "__repr__", "label", "sentence", "describe"})
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One fault: in a file, the node with this number (as `ast.walk` counts them) is changed in one of its ways."""

    path: str
    node: int
    way: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.way}"


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield all faults that can be put into a file."""
    name = str(path.relative_to(ROOT))
    tree = ast.parse(path.read_text())
    left_out = _left_out(tree)
    for number, node in enumerate(ast.walk(tree)):
        if id(node) not in left_out:
            for way in _ways(node):
                yield Mutant(name, number, way, getattr(node, "lineno", 0))


def _left_out(tree: ast.AST) -> set[int]:
    """The nodes in which no fault is put: annotations, docstrings, decorators, log lines, messages, type aliases."""
    result: set[int] = set()
    for node in ast.walk(tree):
        skipped: list[ast.AST | None] = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            skipped += [*node.decorator_list, node.returns]
            if node.name in NAMES_LEFT_OUT:
                skipped.append(node)
        elif isinstance(node, (ast.arg, ast.AnnAssign)):
            skipped.append(node.annotation)
        elif _is_said(node):
            skipped.append(node)
        for item in skipped:
            if item is not None:
                result.update(id(inner) for inner in ast.walk(item))
    return result


def _is_said(node: ast.AST) -> bool:
    """Whether a node is only for people, or can't be another: a message, a log line, an import."""
    if isinstance(node, ast.Expr):
        call = node.value
        is_log = isinstance(call, ast.Call) and ast.unparse(call.func).startswith("log.")
        return is_log or isinstance(call, ast.Constant)
    return isinstance(node, (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr))


def _ways(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        yield "comparison"
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not _is_text(node.left):
        yield "operator"
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Add, ast.Sub)):
        yield "sign"
    elif isinstance(node, ast.BoolOp):
        yield "and/or"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "without not"
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield "constant"
    elif isinstance(node, (ast.If, ast.IfExp)):
        yield "condition"
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "call left out"
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        yield "returns None"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def mutated(source: str, mutant: Mutant) -> str:
    """Return the source with the fault."""
    tree = ast.parse(source)
    node = next(node for number, node in enumerate(ast.walk(tree)) if number == mutant.node)
    if isinstance(node, ast.Compare):
        node.ops = [COMPARISONS[type(node.ops[0])]()]
    elif isinstance(node, ast.BinOp):
        node.op = OPERATORS[type(node.op)]()
    elif isinstance(node, ast.AugAssign):
        node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, (ast.If, ast.IfExp)):
        node.test = ast.UnaryOp(ast.Not(), copy.deepcopy(node.test))
    elif isinstance(node, ast.UnaryOp):
        tree = _Without(node).visit(tree)
    elif isinstance(node, (ast.Expr, ast.Return)):
        node.value = ast.Constant(None)
    return ast.unparse(ast.fix_missing_locations(tree))


class _Without(ast.NodeTransformer):
    """Puts the operand of a `not` in its place."""

    def __init__(self, negation: ast.UnaryOp) -> None:
        self._negation = negation

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return node.operand if node is self._negation else node


def stages(mutant: Mutant) -> Iterator[tuple[str, list[str]]]:
    """Yield what is run for a mutant, the nearest and shortest first."""
    _, room, module = Path(mutant.path).with_suffix("").parts
    tests = ROOT / "tests" / "scheduling"
    pytest = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-m",
        "not faults and not minutes",
    ]
    own = sorted(str(path.relative_to(ROOT)) for path in (tests / room).glob(f"test_{module}*.py"))
    if own:
        yield "its own tests", [*pytest, *own]
    if room != "core":
        yield "a storm", [sys.executable, "-m", "tests.storm", "--first", "--seeds", "60"]
    near = {
        "core": ["core", "placement", "intake", "handlers"],
        "dispatch": ["dispatch", "store/test_claims.py", "store/test_targets.py", "store/test_bad_rows.py"],
        "placement": ["placement", "intake", "queues", "tasks"],
    }[room]
    yield "tests of its room", [*pytest, *(f"tests/scheduling/{name}" for name in near)]
    if room == "core":
        yield "a storm", [sys.executable, "-m", "tests.storm", "--first", "--seeds", "60"]
    far = [
        name
        for name in ("dispatch", "store", "queues", "tasks", "upkeep", "proof", "reports")
        if name not in near
    ]
    yield (
        "tests around it",
        [*pytest, *(f"tests/scheduling/{name}" for name in far), "tests/api/test_lists.py"],
    )


def found_by(mutant: Mutant, folder: Path) -> str:
    """Return what fails with the fault, or nothing."""
    path = folder / mutant.path
    before = path.read_text()
    path.write_text(mutated(before, mutant))
    environment = {k: v for k, v in os.environ.items() if k not in ("DATA_DIR", "DATABASE_URL")}
    try:
        for name, command in stages(mutant):
            try:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
                    capture_output=True,
                    timeout=WAITING_SECONDS,
                    preexec_fn=lambda: resource.setrlimit(
                        resource.RLIMIT_CPU, (STAGE_SECONDS, STAGE_SECONDS)
                    ),
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"{name}, which didn't end"
            # 5: no test was there.
            if done.returncode not in (0, 5):
                return name
        return ""
    finally:
        path.write_text(before)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--first", type=int, default=0, help="skip this many of the sample, to continue after a break"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin none after this long")
    options = parser.parse_args(arguments)
    files = [path for room in ROOMS for path in sorted((ROOT / "scheduling" / room).glob("[a-z]*.py"))]
    every = [mutant for path in files for mutant in mutants_of(path)]
    sample = random.Random(options.seed).sample(every, min(options.sample, len(every)))
    print(f"{len(sample)} of {len(every)} faults, seed {options.seed}.", flush=True)
    until = time.monotonic() + 60 * options.minutes
    verdicts: list[bool] = []
    with tempfile.TemporaryDirectory(prefix="qd-mutation-") as directory:
        folder = Path(directory)
        for part in PARTS:
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("manage.py", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        for number, mutant in enumerate(sample[options.first :], options.first):
            if time.monotonic() > until:
                print(f"Time is up before number {number}.")
                break
            began = time.monotonic()
            name = found_by(mutant, folder)
            verdicts.append(bool(name))
            verdict = f"found by {name}" if name else "SURVIVED"
            print(f"{number:4} {mutant}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
    share = sum(verdicts) / max(1, len(verdicts))
    print(f"{sum(verdicts)} of {len(verdicts)} found: {share:.0%}.")
    return 1 if share < LEAST else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
