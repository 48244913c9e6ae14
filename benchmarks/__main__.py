"""Measure, and write `benchmarks/RESULTS.md`: `python -m benchmarks [NAME ...]`.

Each module beside this one that has a `run()` is measured in a process of its own, so that none inherits the
memory or the files of another. `run()` gives rows as dicts: `name`, `value`, `unit`, `limit` (None where the
number is only told) and `ok`. By name only those are measured, and the others' sections stay as they are. The
exit code is 1 if a limit was missed.
"""

import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.rows import Row

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
ONE = "--one"
# Sections that other commands write: `make bench-peers`.
ELSEWHERE = ("peers",)
INTRODUCTION = """# What was measured

Written by `make bench`; don't edit it. Everything is a ratio of two things that ran on the same machine in
the same run, since absolute times say more about a machine than about a program.
"""


def main(arguments: list[str]) -> int:
    if arguments[:1] == [ONE]:
        json.dump(_run_here(arguments[1]), sys.stdout)
        return 0
    all_names = names()
    if unknown := set(arguments) - set(all_names):
        print(
            f"No benchmark is named {', '.join(sorted(unknown))}, but {', '.join(all_names)}.",
            file=sys.stderr,
        )
        return 64
    ok = True
    for name in arguments or all_names:
        rows = _run_apart(name)
        ok = ok and all(row["ok"] for row in rows)
        for row in rows:
            print(line(row), flush=True)
        write_section(name, section(name, rows))
    return 0 if ok else 1


def write_section(name: str, text: str) -> None:
    """Write one section among those of earlier runs."""
    all_names = [*names(), *ELSEWHERE]
    sections = read_sections(RESULTS.read_text() if RESULTS.exists() else "", all_names)
    sections[name] = text
    written = ("\n" + sections[each].strip("\n") + "\n" for each in all_names if each in sections)
    RESULTS.write_text(INTRODUCTION + "".join(written))


def names() -> list[str]:
    """The modules that measure."""
    sources = {path.stem: path.read_text() for path in sorted(HERE.glob("*.py"))}
    return [name for name, source in sources.items() if re.search(r"^def run\(\)", source, re.MULTILINE)]


def _run_here(name: str) -> list[Row]:
    module = __import__(f"benchmarks.{name}", fromlist=["run"])
    output = sys.stdout
    # Whatever is printed on the way must not get among the rows.
    sys.stdout = sys.stderr
    try:
        rows: list[Row] = module.run()
        return rows
    finally:
        sys.stdout = output


def _run_apart(name: str) -> list[Row]:
    print(f"--- {name}", flush=True)
    command = [sys.executable, "-m", "benchmarks", ONE, name]
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, check=True)
    rows: list[Row] = json.loads(done.stdout)
    return rows


def read_sections(text: str, all_names: list[str]) -> dict[str, str]:
    """The sections of an earlier run, by the name of their module."""
    parts = re.split(r"^(?=\n?## )", text, flags=re.MULTILINE)
    sections = {match[1]: part for part in parts if (match := re.match(r"\n?## (\S+)", part))}
    return {name: sections[name] for name in all_names if name in sections}


def section(name: str, rows: list[Row]) -> str:
    """A module's rows as a table, with what they were measured on."""
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    on = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {versions}"
    table = ["| what | measured | limit | |", "| --- | --- | --- | --- |"]
    for row in rows:
        limit = "" if row["limit"] is None else f"{row['limit']:g}"
        verdict = {True: "kept", False: "**missed**"}[row["ok"]] if row["limit"] is not None else ""
        table.append(f"| {row['name']} | {row['value']:g} {row['unit']} | {limit} | {verdict} |")
    return f"\n## {name}\n\n{on}\n\n" + "\n".join(table) + "\n"


def line(row: Row) -> str:
    """A row for who looks on."""
    text = f"{row['name']}: {row['value']:g} {row['unit']}"
    if row["limit"] is None:
        return f"{'':6} {text}"
    return f"{'ok' if row['ok'] else 'MISSED':6} {text} (limit {row['limit']:g})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
