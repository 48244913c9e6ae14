"""The previous release works on this version's tables, and this one with what it leaves there.

While an installation is upgraded, old and new processes run side by side on the new tables.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scheduling import models
from settings.place import BASE_DIR

# The commits before the first migration that has to be expanded, 0008, before 0020 and before 0028; and the one before
# the newest migration was added.
NEWEST = "the newest migration"
PREVIOUS = ("575f01a", "f859257", "6d020f2", NEWEST)
# What both know by the same names: the API's addresses, and the paths of jobs.
WORK = """
import json, sys, django
django.setup()
from django.test import Client
from scheduling import jobs
token, first = sys.argv[1], int(sys.argv[2])
client = Client(headers={"authorization": f"Bearer {token}", "host": "localhost"})
def call(method, path, body=None):
    answer = client.generic(method, path, json.dumps(body) if body is not None else "", content_type="application/json")
    return answer.status_code, json.loads(answer.content or b"null")
ids = list(range(first, first + 50))
status, answer = call("POST", "/celery_ids_tasks/", {"task_name": f"from {first}", "payload": ids})
assert status == 201, answer
task = answer["task_id"]
jobs.allocate()
jobs.sweep()
assert call("PATCH", f"/celery_ids_tasks/{task}/", {"task_name": "renamed"})[0] == 200
assert call("POST", "/celery_ids_tasks/", {"task_name": "cancelled", "payload": [first]})[0] == 201
cancelled = max(one["id"] for one in call("GET", "/celery_ids_tasks/?limit=100")[1])
jobs.allocate()
assert call("DELETE", f"/celery_ids_tasks/{cancelled}/")[0] in (200, 202)
jobs.follow_cancel(cancelled)
jobs.process_quarter()
tasks = call("GET", "/celery_ids_tasks/?limit=100")[1]
history = call("GET", f"/ids/{first}/")[0]
counts = call("GET", f"/celery_ids_tasks/{task}/")[1]["counts"]
print(json.dumps({"tasks": len(tasks), "history": history, "counts": counts}))
"""


@pytest.fixture(scope="module", params=PREVIOUS)
def previous(request, tmp_path_factory) -> Path:
    """A previous release's code."""
    folder = tmp_path_factory.mktemp("previous")
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    commit = before_newest_migration(git) if request.param == NEWEST else request.param
    packed = subprocess.run([git, "archive", commit], cwd=BASE_DIR, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"the history of the repository doesn't contain {request.param}")
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder


def before_newest_migration(git: str) -> str:
    added = ("log", "-1", "--diff-filter=A", "--format=%h^", "--", "scheduling/migrations/*.py")
    return subprocess.run([git, *added], cwd=BASE_DIR, capture_output=True, text=True).stdout.strip()


def work(where: Path, environment: dict[str, str], token: str, first: int) -> dict:
    """Let a process of the code in that folder accept, write, rename, cancel and read lists."""
    command = [sys.executable, "-c", WORK, token, str(first)]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.django_db(transaction=True)
def test_previous_release_and_this_one_work_side_by_side(previous, process_environment, make_token):
    models.Queue.objects.get_or_create(
        name="default", defaults={"rpm": 120, "created_at": "2026-01-01T00:00Z"}
    )
    # However long this takes: nothing falls due.
    models.Queue.objects.update(paused_at="2026-01-01T00:00Z")
    token = make_token("write")
    environment = {**process_environment, "PYTHONPATH": "", "PATH": os.environ["PATH"]}
    whole = {"ids": 50, "repeats": 0, "waiting": 50, "in_flight": 0, "succeeded": 0, "failed": 0}
    for turn, where in enumerate((previous, BASE_DIR, previous, BASE_DIR)):
        result = work(where, environment, token, 1 + 1_000 * turn)
        assert (result["tasks"], result["history"]) == (2 * turn + 2, 200)
        assert {name: result["counts"][name] for name in whole} == whole
    check = subprocess.run(
        [sys.executable, "manage.py", "check_plan"],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stdout + check.stderr
