"""Each rule is written once: a search for what a second copy of it would look like.

A rule that is found here twice belongs into the module that the test names.
"""

import re
from pathlib import Path

import pytest

from settings.place import BASE_DIR

PRODUCT = ("api", "benchmarks", "dashboard", "operators", "runner", "scheduling", "settings")
STATUS_WORD = r"""["'](?:waiting|in_flight|in flight|succeeded|failed|expired|cancelled)["']"""


def sources(*, suffix: str = ".py", folders: tuple[str, ...] = PRODUCT) -> list[Path]:
    """The product's files, without migrations: those describe tables as they were."""
    return [
        path
        for folder in folders
        for path in sorted((BASE_DIR / folder).rglob(f"*{suffix}"))
        if "migrations" not in path.parts
    ]


def found_in(pattern: str, *, except_in: tuple[str, ...] = (), flags: int = re.MULTILINE) -> list[str]:
    """`file:line: text` of every match outside the named files and folders."""
    hits = []
    for path in sources():
        name = path.relative_to(BASE_DIR).as_posix()
        if name.startswith(except_in):
            continue
        text = path.read_text()
        for match in re.finditer(pattern, text, flags):
            line = text.count("\n", 0, match.start()) + 1
            hits.append(f"{name}:{line}: {match.group().strip()[:80]}")
    return hits


def test_layout_of_keys_is_known_to_core_keys_alone():
    shifts = r"(?:<<|>>) ?(?:4|22|24|26|28|34|35)\b|& ?(?:15|0x0?[fF])\b|\| ?15\b"
    # The same numbers, as multiplication and as masks.
    numbers = r"\b(?:4194303|4194304|67108864|16777215|16777216|4_194_304|67_108_864|16_777_216)\b"
    allowed = ("scheduling/core/keys.py", "scheduling/handlers/ssrf.py")
    result = found_in(f"{shifts}|{numbers}", except_in=allowed)
    # A limit of SQLite's journal in bytes.
    assert [hit for hit in result if "journal_size_limit" not in hit and "settings/base.py" not in hit] == []


def test_number_of_a_minute_is_computed_by_core_clock_alone():
    either_way = r"EPOCH\) // (?:clock\.)?MINUTE|EPOCH \+ [^\n]*\* (?:clock\.)?MINUTE\b"
    assert found_in(either_way, except_in=("scheduling/core/clock.py",)) == []


def test_reasons_for_lateness_are_listed_once():
    # Whoever names two of the reasons side by side makes a list of its own.
    reason = r"(?:LATE|WRITTEN_LATE|BRAKE)\b"
    pairs = rf"MoveReason\.{reason}[\s,]+(?:models\.)?MoveReason\.{reason}"
    words = r"""["']written_late["'][^\n]*["'](?:late|brake)["']|["'](?:late|brake)["'][^\n]*["']written_late["']"""
    assert found_in(f"{pairs}|{words}", except_in=("scheduling/models/states.py",)) == []


def test_rule_for_waiting_rows_of_a_cancelled_task_is_written_once():
    either_way = (
        r"WAITING[^\n]*cancelled_at|cancelled_at[^\n]*WAITING"
        r"""|cancelled_at[^\n]*["']waiting["']|["']waiting["'][^\n]*cancelled_at"""
    )
    assert found_in(either_way, except_in=("scheduling/models/",)) == []


def test_lists_of_states_are_read_from_the_one_table():
    # Four words of states in a row are a list of them; three may be a choice of columns.
    words = rf"(?:{STATUS_WORD}\s*,\s*){{3,}}{STATUS_WORD}"
    members = r"(?:(?:models\.)?Status\.[A-Z_]+\s*,\s*){3,}(?:models\.)?Status\.[A-Z_]+"
    columns = (
        r"(?:(?:SUM\()?(?:\w\.)?(?:waiting|in_flight|succeeded|failed|expired|cancelled)_count\)?,\s*){4,}"
    )
    assert found_in(f"{words}|{members}|{columns}", except_in=("scheduling/models/states.py",)) == []


def test_labels_and_columns_of_states_are_not_made_by_hand():
    made = r"""\.word\.replace\(|\.word\}_count|label\.replace\(["'] ["']"""
    assert found_in(made, except_in=("scheduling/models/states.py",)) == []


def test_counters_of_moved_ids_change_in_the_ledger_alone():
    changed = r"""["']moved_count["']\s*(?:\]\s*[-+]?=|:)|insert_moves\("""
    allowed = ("scheduling/placement/ledger.py", "scheduling/store/", "benchmarks/")
    assert found_in(changed, except_in=allowed) == []


def test_work_in_slices_ends_by_one_helper():
    by_hand = r"monotonic\(\) ?\+ ?\w*seconds|(?:if|while)[^\n]*monotonic\(\) ?[<>]=? ?\w*(?:until|deadline|give_up)"
    allowed = (
        "scheduling/core/time_limit.py",
        "scheduling/dispatch/",
        "scheduling/handlers/",
        "runner/",
        "benchmarks/",
    )
    assert found_in(by_hand, except_in=allowed) == []


@pytest.mark.parametrize("constant", ["QUARTER_LATE", "SILENT_AFTER"])
def test_constants_of_health_are_defined_once(constant):
    assert len(found_in(rf"^{constant}\b[^\n=]*=")) == 1


def test_database_cursors_never_outlive_a_transaction():
    # A pooler that works by transaction loses it: store.blocks reads by key instead.
    assert found_in(r"\.iterator\(") == []
