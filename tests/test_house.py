"""What holds for the house as a whole: documents and code agree, paths resolve, nothing is forgotten."""

import ast
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils.module_loading import import_string

from api.docs import schema_of
from api.urls import api as the_api
from scheduling.jobqueue import allow_list, schedules
from settings.place import BASE_DIR

DEPLOYMENT = (BASE_DIR / "docs/deployment.md").read_text()
OURS = ("operators", "scheduling", "dashboard", "api", "runner", "settings", "benchmarks")


def sources() -> list[Path]:
    return [
        path
        for name in OURS
        for path in sorted((BASE_DIR / name).rglob("*.py"))
        if "migrations" not in path.parts
    ]


# --- Models and jobs ---


@pytest.mark.django_db
def test_migrations_match_the_models():
    out = StringIO()
    try:
        call_command("makemigrations", "--check", "--dry-run", stdout=out)
    except SystemExit:
        pytest.fail(out.getvalue())


def job_paths() -> set[str]:
    """Every dotted path into scheduling.jobs that stands anywhere in the code."""
    return {
        path
        for source in sources()
        for path in re.findall(r"[\"'](scheduling\.jobs\.\w+)[\"']", source.read_text())
    }


def test_every_job_path_resolves():
    paths = job_paths() | {schedule.func for schedule in schedules.WANTED}
    assert len(paths) >= 5
    for path in sorted(paths):
        assert isinstance(import_string(path), Callable), path
        assert allow_list.is_ours(path), path


# --- Settings ---


def variables() -> dict[str, str | None]:
    """Each variable that is read, with its default as documents write it; None where that is computed."""
    result: dict[str, str | None] = {}
    for name in ("base", "place"):
        for node in ast.walk(ast.parse((BASE_DIR / f"settings/{name}.py").read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if getattr(node.func.value, "id", "") != "environment" or not isinstance(
                node.args[0], ast.Constant
            ):
                continue
            result[node.args[0].value] = _default(node)
    return result


def _default(call: ast.Call) -> str | None:
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    default = keywords.get("default") or (call.args[1] if len(call.args) > 1 else None)
    try:
        value = eval(compile(ast.Expression(default), "default", "eval"), {}) if default is not None else None
    except NameError:
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, tuple):
        return ",".join(value)
    return (
        f"{value:_}"
        if isinstance(value, int) and value >= 10_000
        else (str(value) if value is not None else None)
    )


def documented() -> dict[str, str]:
    """Variable to default, from the table."""
    section = DEPLOYMENT.split("## What is read from the environment")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+?)`? \|", section, re.MULTILINE))


def test_every_variable_of_the_environment_is_in_the_documents_with_its_default():
    read, written = variables(), documented()
    assert len(read) >= 25
    assert set(written) == set(read)
    assert {name: written[name] for name, value in read.items() if value is not None} == {
        name: value for name, value in read.items() if value is not None
    }


def test_every_setting_is_in_the_documents():
    tree = ast.parse((BASE_DIR / "settings/base.py").read_text())
    names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id.isupper()
    }
    assert len(names) > 50
    missing = {name for name in names if f"`{name}`" not in DEPLOYMENT}
    assert not missing
    unknown = set(re.findall(r"`([A-Z][A-Z0-9_]{3,})`", DEPLOYMENT)) - names - set(variables())
    assert unknown <= {"Q_CLUSTER_NAME", "DJANGO_SETTINGS_MODULE", "INFO"}


def test_systemd_unit_stops_its_main_process_and_always_restarts():
    # Both were measured: the defaults of systemd hang a stopping cluster, or leave a dead one dead.
    unit = dict(re.findall(r"^(\w+)=(.+)$", DEPLOYMENT.split("```ini")[1].split("```")[0], re.MULTILINE))
    assert unit["KillMode"] == "mixed"
    assert unit["Restart"] == "always"
    assert int(unit["TimeoutStopSec"]) > 30


# --- Dependencies ---


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-next.txt"])
def test_every_dependency_is_pinned_with_hashes(name):
    # `make lock` writes these files from requirements.in and requirements-dev.in.
    entries = re.split(r"\n(?=[A-Za-z])", (BASE_DIR / name).read_text())[1:]
    assert len(entries) >= 30
    for entry in entries:
        assert re.match(r"[\w.-]+(\[\w+\])?==[\w.]+ ", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_imported_packages_are_listed_as_requirements():
    required = {
        re.split(r"[\[~=<>]", line)[0].lower().replace("-", "_")
        for line in (BASE_DIR / "requirements.in").read_text().splitlines()
        if line and not line.startswith("#")
    }
    spelled = {
        "django_q": "django_q2",
        "ninja": "django_ninja",
        "csp": "django_csp",
        "axes": "django_axes",
        "pydantic": "django_ninja",
        "dns": "dnspython",
    }
    standard = set(sys.stdlib_module_names)
    for source in sources():
        if source.is_relative_to(BASE_DIR / "benchmarks"):
            continue
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in {full.split(".")[0] for full in names} - standard - set(OURS):
                assert spelled.get(name, name) in required, (source.name, name)


# --- The map of the repository ---


def test_map_of_the_repository_is_current():
    make_map = runpy.run_path(str(BASE_DIR / "docs/make_map.py"))
    assert (BASE_DIR / "docs/map.md").read_text() == make_map["page"](), "run `make map`"


def test_page_of_queue_fields_is_current():
    make_page = runpy.run_path(str(BASE_DIR / "docs/make_queue_fields.py"))
    assert make_page["PAGE"].read_text() == make_page["page"](schema_of(the_api)), "run `make map`"


# --- Names ---

# Participles and pronouns: none says what the value is, as `rows`, `response`, `remaining` or `expected` do.
EMPTY_NAME = re.compile(
    "_*(asked|came|checked|everything|forgotten|found|given|gone|got|heard|kept|known|left|meant|mine|nobody|noted"
    "|one|ours|said|seen|some|somebody|theirs|there|these|told|took|tried|wanted|went|whoever)_*"
)


def bound_names(node: ast.AST, *, of_class: bool = False) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of variables, parameters, functions and attributes of self.

    Not the fields of classes: tables, the API and templates use those by name.
    """
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield child.lineno, child.name
            case ast.arg():
                yield child.lineno, child.arg
            case ast.Name(ctx=ast.Store()) if not of_class:
                yield child.lineno, child.id
            case ast.Attribute(value=ast.Name(id="self"), ctx=ast.Store()):
                yield child.lineno, child.attr
        is_field = of_class and isinstance(child, ast.Assign | ast.AnnAssign)
        yield from bound_names(child, of_class=isinstance(child, ast.ClassDef) or is_field)


@pytest.mark.parametrize("folder", [*OURS, "tests", "clients", "docs"])
def test_names_say_what_the_value_is(folder):
    bound = [
        f"{path.relative_to(BASE_DIR)}:{line}: {name}"
        for path in sorted((BASE_DIR / folder).rglob("*.py"))
        if "migrations" not in path.parts
        for line, name in bound_names(ast.parse(path.read_text()))
        if EMPTY_NAME.fullmatch(name)
    ]
    assert bound == []


# --- Tests ---


def test_test_names_begin_with_what_is_tested():
    tests = [path for name in ("tests", "clients") for path in sorted((BASE_DIR / name).rglob("test_*.py"))]
    weak = re.compile(r"def (test_(?:a|an|the|what|who|whoever|it|its|one|no|so|our|ours)_\w+)")
    assert [name for path in tests for name in weak.findall(path.read_text())] == []
