"""What the documents for those who change it say of states, locks and folders is so."""

import re

from scheduling import models, store
from scheduling.core import clock
from scheduling.jobqueue import allow_list
from scheduling.models import TRANSITIONS, Status
from settings.place import BASE_DIR

STATES = (BASE_DIR / "docs/states.md").read_text()
DECISIONS = (BASE_DIR / "docs/decisions.md").read_text()
DEVELOPMENT = (BASE_DIR / "docs/development.md").read_text()
KNOWN = {status: {to.word for to in TRANSITIONS[status]} for status in Status}


def test_every_transition_of_a_state_is_explained():
    assert set(TRANSITIONS) == set(Status)


def test_state_diagram_matches_the_code():
    arrows: dict[str, set[str]] = {}
    for source, goes in re.findall(r"^\s+(\w+) --> (\w+): .+$", STATES, re.MULTILINE):
        arrows.setdefault(source, set()).add(goes)
    assert arrows == {status.word: words for status, words in KNOWN.items()}


def test_state_table_of_the_docs_matches_the_code():
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", STATES, re.MULTILINE)
    assert {state: set(re.findall(r"`(\w+)`", may)) for state, may in rows} == {
        status.word: words for status, words in KNOWN.items()
    }


def test_states_of_tasks_and_windows_are_all_explained():
    of_tasks = STATES.split("## A task's state")[1]
    assert re.findall(r"^\| `(\w+)` \|", of_tasks, re.MULTILINE) == models.TaskState.values
    of_windows = STATES.split("## A window's state")[1]
    assert {state.value for state in clock.WindowState} <= set(re.findall(r"`(\w+)`", of_windows))


def test_lock_order_is_the_same_in_all_documents():
    order = "idempotency key, target, queue, window, bucket, task, task_bucket, users"
    text = " ".join((store.__doc__ or "").split())
    assert order in text
    assert order in DECISIONS
    assert order in DEVELOPMENT


def test_every_folder_is_described_and_every_described_one_exists():
    described = set(re.findall(r"`([\w/]+)/`", DEVELOPMENT.split("## Packages")[1].split("\n## ")[0]))
    assert all((BASE_DIR / name).is_dir() for name in described)
    packages = {path.parent.relative_to(BASE_DIR).as_posix() for path in BASE_DIR.glob("*/__init__.py")}
    assert packages <= described
    parts = {
        path.parent.relative_to(BASE_DIR).as_posix()
        for path in BASE_DIR.glob("scheduling/*/__init__.py")
        if path.parent.name not in ("migrations", "management")
    }
    assert parts <= described


def test_every_alert_and_every_event_is_explained():
    alerts = (BASE_DIR / "docs/alerts.md").read_text().split("## What to do about each alert")[1]
    assert re.findall(r"^### (\w+)$", alerts, re.MULTILINE) == models.AlertKind.values
    events = (BASE_DIR / "docs/events.md").read_text()
    for word in models.EventType.values:
        assert re.search(rf"^\|.*`{re.escape(word)}`.*\|", events, re.MULTILINE), word


def test_links_between_documents_work():
    for path in sorted((BASE_DIR / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:|/|#)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), (path.name, target)


def test_modules_named_in_documents_exist():
    for text in (STATES, DECISIONS, DEVELOPMENT):
        for name in re.findall(r"`((?:scheduling|settings|operators|tests)/[\w/]+\.py)`", text):
            assert (BASE_DIR / name).exists(), name
    assert allow_list.JOBS == "scheduling.jobs."
