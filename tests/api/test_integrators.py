"""The commands of docs/integrators.md, run unchanged against a real server."""

import json
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from django.conf import settings

from api.docs import schema_of
from api.problems import KINDS
from api.urls import api as the_api
from settings.place import BASE_DIR
from tests.scheduling.placed import make_queue, place

from .test_outcomes import BEFORE, MINUTE, end

PAGE = (Path(settings.BASE_DIR) / "docs" / "integrators.md").read_text()
COMMANDS = re.findall(r"```sh\n# answers (\d{3}) ?([a-z-]*)\n(.*?)```", PAGE, re.DOTALL)
# Each command of the page is a curl. This saves its response and prints the status only.
CURL = 'curl() { command curl -sS -o answer -w "%{http_code}" "$@"; }\nset -e\n'


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_commands_of_the_guide_respond_as_documented(server, make_token, tmp_path, write_lists):
    assert len(COMMANDS) == PAGE.count("```sh")
    environment = {
        "URL": server.url,
        "TOKEN": server.token,
        "READ_TOKEN": make_token("read", name="a reader"),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    for status, kind, command in COMMANDS:
        done = subprocess.run(
            ["bash", "-c", CURL + command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        answer = (tmp_path / "answer").read_text() if (tmp_path / "answer").exists() else ""
        assert done.stdout == status, (command, answer, done.stderr)
        if kind:
            assert json.loads(answer)["type"].endswith(f":{kind}"), (command, answer)
        if status == "201" and "TASK" not in environment:
            environment["TASK"] = str(json.loads(answer)["task_id"])
        if "December" in command:
            environment["NEXT_TASK"] = str(json.loads(answer)["task_id"])
        if "/windows/?" in command:
            environment["WINDOW"] = str(json.loads(answer)[0]["id"])
        write_lists()


def test_guide_explains_every_kind_of_problem():
    explained = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", PAGE, re.MULTILINE))
    assert explained == {kind: str(facts.status) for kind, facts in KINDS.items()}


def example(name: str) -> str:
    """The example of the guide that defines a function."""
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if f"def {name}(" in code)
    return code


def test_outcomes_example_of_the_guide_runs(server):
    task = place(make_queue("mail", rpm=60), {MINUTE: [7, 8, 9]}, at=BEFORE)
    own = sqlite3.connect(":memory:")
    own.executescript(
        "CREATE TABLE position (cursor text); INSERT INTO position VALUES (NULL);"
        "CREATE TABLE outcome (task, id, status, http_status, PRIMARY KEY (task, id))"
    )
    result: dict = {}
    exec(example("read_outcomes").replace('"wait": 20', '"wait": 1'), result)
    for users in ([7, 8], [], [9]):
        end(task, *users)
        assert result["read_outcomes"](server.url, server.token, own) == len(users)
    rows = own.execute("SELECT * FROM outcome ORDER BY id").fetchall()
    assert rows == [(task.pk, str(user), "succeeded", None) for user in (7, 8, 9)]


def test_paging_example_of_the_guide_runs(server):
    for n in range(3):
        assert server.request("POST", f"/celery_ids_tasks/?task_name={n}", json={"payload": [n + 1]}).ok
    code, result = example("every_task"), {}
    exec(code.replace('"/celery_ids_tasks/"', '"/celery_ids_tasks/?limit=1"'), result)
    assert [task["task_name"] for task in result["every_task"](server.url, server.token)] == ["2", "1", "0"]


def test_links_between_the_pages_lead_somewhere():
    for page in sorted((BASE_DIR / "docs").glob("*.md")):
        text = page.read_text()
        for target, anchor in re.findall(r"\]\(([\w./-]+\.md)(#[\w-]+)?\)", text):
            result = (page.parent / target).resolve()
            assert result.exists(), f"{page.name}: {target}"
            if anchor:
                heads = re.findall(r"^#+ (.+)$", result.read_text(), re.M)
                anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
                assert anchor[1:] in anchors, f"{page.name}: {target}{anchor}"


def test_guide_describes_every_field_of_a_queue():
    table = dict(
        re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.split("### Fields of a queue")[1].split("## ")[0], re.M)
    )
    fields = schema_of(the_api)["components"]["schemas"]["NewQueue"]["properties"]
    written = {name: facts["description"] for name, facts in fields.items() if not facts.get("readOnly")}
    assert table == written
