"""The table of RESULTS.md: a line for each peer, with what it reached and its ratio to Quarterdeck."""

import json
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.peers.measures import Cells, Measured
from benchmarks.peers.programs import INSTALLED, OURS

KEPT = INSTALLED / "results.json"
NOT_MEASURED = "not measured"
# The column's key, its heading, and whether more is better; None where there is no ratio.
COLUMNS: tuple[tuple[str, str, bool | None], ...] = (
    ("enqueue", "enqueue, jobs/s", True),
    ("one", "enqueue one, ms", False),
    ("no-op", "no-op, jobs/s", True),
    ("most 120", "at 120/min: most in 60 s", None),
    ("even 120", "unevenness", None),
    ("sent 120", "sent", None),
    ("most 600", "at 600/min: most in 60 s", None),
    ("even 600", "unevenness", None),
    ("sent 600", "sent", None),
    ("memory", "memory, MiB", False),
    ("kills", "workers killed", None),
    ("restart", "database restarted", None),
    ("snapshot", "snapshot held", None),
    ("pool", "pool exhausted", None),
    ("locks", "locks stormed", None),
)
FAULTS = ("kills", "restart", "snapshot", "pool", "locks")


def page(measured: Sequence[Measured], introduction: str, when: Mapping[str, str]) -> str:
    """The section of RESULTS.md. when: by column, when it was measured."""
    quarterdeck = next((each.cells for each in measured if each.peer.name == OURS), {})
    headings = ["peer", *(heading for _, heading, _ in COLUMNS)]
    lines = [f"| {' | '.join(headings)} |", "| --- " * len(headings) + "|"]
    lines += [line(each, quarterdeck) for each in measured]
    lines.append(f"| measured | {' | '.join(when.get(key, '') for key, _, _ in COLUMNS)} |")
    comparison = "\n".join(f"- {sentence}" for sentence in sentences(measured, quarterdeck))
    return f"\n## peers\n\n{introduction}\n\n" + "\n".join(lines) + f"\n\n{comparison}\n"


def earlier() -> tuple[dict[str, Cells], dict[str, str]]:
    """What earlier runs on this machine measured: each peer's cells, and when each column was measured."""
    if not KEPT.exists():
        return {}, {}
    content = json.loads(KEPT.read_text())
    return content["cells"], content["when"]


def keep(measured: Sequence[Measured], when: Mapping[str, str]) -> None:
    """Keep it for later runs, which may measure other columns or other peers."""
    cells = earlier()[0] | {each.peer.name: each.cells for each in measured}
    KEPT.write_text(json.dumps({"cells": cells, "when": when}, indent=1))


def line(measured: Measured, quarterdeck: Cells) -> str:
    name = f"{measured.peer.name} ({measured.peer.version})"
    if measured.missing:
        return f"| {name} | missing: {measured.missing} |" + " |" * (len(COLUMNS) - 1)
    own = measured.peer.name == OURS
    cells = [cell(key, more, measured.cells, {} if own else quarterdeck) for key, _, more in COLUMNS]
    return f"| {name} | {' | '.join(cells)} |"


def cell(key: str, more_is_better: bool | None, cells: Cells, quarterdeck: Cells) -> str:
    value = cells.get(key, NOT_MEASURED)
    if isinstance(value, str):
        return value
    text = _number(key, value)
    other = quarterdeck.get(key)
    if more_is_better is None or not isinstance(other, float | int) or not other:
        return text
    return f"{text} ({value / other:.2g} of ours)"


def _number(key: str, value: float) -> str:
    if key.startswith("sent"):
        return f"{100 * value:.1f} %"
    if key.startswith("even") or key == "one":
        return f"{value:.2f}"
    return f"{value:,.0f}"


def sentences(measured: Sequence[Measured], quarterdeck: Cells) -> Iterable[str]:
    """Where Quarterdeck wins and where it loses, as plainly as each other."""
    others = [each for each in measured if each.peer.name != OURS and not each.missing]
    for key, heading, more in COLUMNS:
        own = quarterdeck.get(key)
        if more is None or not isinstance(own, float | int):
            continue
        better: list[str] = []
        worse: list[str] = []
        for each in others:
            value = each.cells.get(key)
            if isinstance(value, float | int):
                wins = own > value if more else own < value
                (better if wins else worse).append(each.peer.name)
        yield f"{heading}: Quarterdeck beats {_names(better)}, and loses to {_names(worse)}."
    for key, heading, _ in COLUMNS:
        if key in FAULTS and (own := quarterdeck.get(key)) is not None:
            clean = [each.peer.name for each in others if each.cells.get(key) == "0 / 0 / 0"]
            yield f"{heading}: Quarterdeck {own} lost / doubled / stuck; without any: {_names(clean)}."


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "nobody"
