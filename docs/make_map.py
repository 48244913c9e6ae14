"""Write docs/map.md: one line for each module, from its docstring, and who may import it, from pyproject.toml.

Run `python docs/make_map.py`; a test fails when the page is out of date.
"""

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/map.md"
TOP = {
    "settings": "Nobody imports it; Django reads it.",
    "operators": "Imported by every package above it: `scheduling`, `dashboard`, `api`, `runner`.",
    "scheduling": "Imported by `dashboard`, `api` and `runner`. Inside it, imports go downwards only.",
    "dashboard": "Imported by nobody. It never imports `api`.",
    "api": "Imported by nobody. It never imports `dashboard`.",
    "runner": "Imported by nobody; it may import everything.",
    "benchmarks": "Imported by nobody.",
}
INTRODUCTION = """# Map of the repository

Written by `make map`; don't edit it. Each line is the first sentence of a module's docstring. Imports go one way, and
the contracts in `pyproject.toml` enforce it: a package may import what stands below it in its table of layers, never
what stands above it.
"""


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    return "\n".join([INTRODUCTION, *(section(name, note) for name, note in TOP.items())])


def section(name: str, note: str) -> str:
    lines = [f"## `{name}/`", "", note, ""]
    order = layers(name)
    if order:
        lines += ["Layers, from the top down: " + ", ".join(f"`{layer}`" for layer in order) + ".", ""]
    lines += ["| module | what it is for |", "| --- | --- |"]
    for path in sorted((ROOT / name).rglob("*.py")):
        about = summary(path)
        if about and "migrations" not in path.parts:
            lines.append(f"| `{path.relative_to(ROOT)}` | {about} |")
    return "\n".join([*lines, ""])


def layers(name: str) -> list[str]:
    """The layers that import-linter enforces inside a package, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    for contract in contracts:
        if contract.get("containers") == [name]:
            return list(contract["layers"])
    return []


def summary(path: Path) -> str:
    """The first sentence of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = " ".join(docstring.split("\n\n")[0].split())
    end = first.find(". ")
    return (first if end < 0 else first[: end + 1]).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
