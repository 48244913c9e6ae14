"""Templates and the texts that pages are made of."""

import re
from pathlib import Path

import pytest

from dashboard import formatting
from settings.place import BASE_DIR

TEMPLATES = [
    template
    for folder in ("templates", "operators/templates", "api/templates")
    for template in sorted((BASE_DIR / folder).rglob("*.html"))
]
SOURCES = [
    path
    for name in ("dashboard", "operators", "scheduling", "api")
    for path in sorted((BASE_DIR / name).rglob("*.py"))
    if "migrations" not in path.parts
]
# A number and behind it a plural that doesn't follow it: "1 IDs".
COUNTED = re.compile(
    r"(?:\{[^{}]*:,\}|\|number \}\}(?:</b>)?) (?:waiting )?(IDs|tasks|queues|faults|lists|minutes|failures)\b"
)
# What is never one.
ALWAYS_MANY = (
    "queues {state}",
    "queues, since",
    "more queues",
    "tasks in all",
    " IDs and {{ max_bytes",
    "CUT",
)


def name_of(path: Path) -> str:
    return str(path.relative_to(BASE_DIR))


@pytest.mark.parametrize("template", TEMPLATES, ids=name_of)
def test_template_lines_are_at_most_120_columns_long(template):
    long = [n for n, line in enumerate(template.read_text().splitlines(), 1) if len(line) > 120]
    assert not long, f"lines {long}"


@pytest.mark.parametrize("source", [*TEMPLATES, *SOURCES], ids=name_of)
def test_counted_nouns_follow_their_number(source):
    """Every message with a count writes it by `plural`: "1 ID", "2 IDs"."""
    for n, line in enumerate(source.read_text().splitlines(), 1):
        if COUNTED.search(line) and not any(words in line for words in ALWAYS_MANY):
            pytest.fail(f"{name_of(source)}:{n}: {line.strip()}")


@pytest.mark.parametrize(
    ("count", "word", "text"),
    [
        (0, "ID", "0 IDs"),
        (1, "ID", "1 ID"),
        (2_346, "ID", "2,346 IDs"),
        (None, "ID", "0 IDs"),
        (3, "reply/replies", "3 replies"),
    ],
)
def test_plural_writes_the_number_with_its_noun(count, word, text):
    assert formatting.plural(count, word) == text
