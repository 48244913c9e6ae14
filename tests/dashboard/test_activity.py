"""The log of acts, as it is read: found by any word of a line, told in plain words."""

import ast
import csv
import html
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings

from dashboard.inputs import choices
from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.queues import operations

pytestmark = pytest.mark.django_db

AT = datetime(2026, 11, 25, 8, 34, 16, 305563, tzinfo=UTC)


def record(verb: str, thing=None, *, by: Actor | None = None, **kwargs) -> None:
    activity.record(by or Actor.command_line(), verb, thing, at=AT, **kwargs)


def lines(client, query: str = "") -> list[str]:
    """The lines of the page, as text."""
    page = client.get(f"/dashboard/activity/{query}").content.decode()
    story = page.partition('<ul class="story">')[2].partition("</ul>")[0]
    texts = re.findall(r"<li>(.*?)</li>", story, re.S)
    return [" ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split()) for text in texts]


def test_pause_entry_shows_local_time_and_the_previous_value(queue, sign_in):
    operations.pause(queue, by=Actor.system(), at=AT)

    (line,) = lines(sign_in("viewer", time_zone="Asia/Tokyo"))

    # The day is said on any other day.
    assert line.replace("25 Nov 2026, ", "") == "17:34 system paused queue default · paused at none → 17:34"


def test_values_are_shown_by_their_type(queue, sign_in):
    record(
        "changed",
        queue,
        before={"max_peak": None, "rpm": 1200, "webhook_url": ""},
        after={"max_peak": 12480, "rpm": 1000, "webhook_url": "https://hook.test/<b>"},
    )

    (line,) = lines(sign_in("viewer"))

    assert "max peak none → 12,480, rpm 1,200 → 1,000, webhook url none → https://hook.test/<b>" in line


def test_interface_of_an_entry_is_named_once(queue, sign_in, make_operator):
    record("tested", queue)
    record("tested", queue, by=Actor.of_operator(make_operator("operator", username="ann")))

    ann, command_line = lines(sign_in("viewer"))

    assert command_line.count("command line") == 1
    assert ann.endswith("on a page")


@pytest.mark.parametrize("words", ["ann", "ANN", "default", "tested", "ann tested", "efau"])
def test_activity_search_matches_actor_object_or_verb(queue, sign_in, make_operator, words):
    record("tested", queue, by=Actor.of_operator(make_operator("operator", username="ann")))
    record("created", make_operator("operator", username="bob"))

    result = lines(sign_in("viewer"), f"?q={words}")

    assert len(result) == 1
    assert "ann tested queue default" in result[0]


def test_before_and_after_are_json_in_the_csv(queue, sign_in):
    record("changed", queue, before={"rpm": None}, after={"rpm": 5, "paused": True})

    answer = sign_in("viewer").get("/dashboard/activity/?format=csv")

    (row,) = csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode()))
    assert json.loads(row["before"]) == {"rpm": None}
    assert json.loads(row["after"]) == {"rpm": 5, "paused": True}


def test_file_shows_no_number_of_a_user_whose_id_is_text(queue, sign_in):
    record("erased", models.User(pk=-1))
    record("erased", models.User(pk=7))

    answer = sign_in("viewer").get("/dashboard/activity/?format=csv")

    rows = csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode()))
    assert [row["object_id"] for row in rows] == ["7", ""]


def test_every_recorded_verb_can_be_chosen():
    written = set(_verbs())

    assert {"submitted", "set_time_zone", "paused"} <= written
    assert written <= set(choices.VERBS)


def _verbs():
    """The words that stand where an act is recorded, or announced."""
    for app in ("operators", "scheduling", "dashboard", "api"):
        for path in Path(settings.BASE_DIR, app).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield from _verb_of(node)


def _verb_of(call: ast.Call):
    name = ast.unparse(call.func)
    arguments = []
    if name == "activity.record" and len(call.args) > 1:
        arguments = [call.args[1]]
    elif name == "action_taken.send":
        arguments = [keyword.value for keyword in call.keywords if keyword.arg == "act"]
    elif name == "self._tell" and len(call.args) > 2:
        arguments = [call.args[2]]
    return [node.value for node in arguments if isinstance(node, ast.Constant)]


def test_every_kind_of_object_in_the_log_can_be_chosen(sign_in):
    names = {model._meta.model_name for model in (models.Task, models.Queue, models.User, models.Target)}

    assert names <= set(choices.KINDS)


def test_activity_filter_can_exclude_programs(queue, place, sign_in, make_token):
    place([1], name="by hand")
    models.Activity.objects.create(
        at=store.now(), verb="submitted", face="api", actor_name="crm", object_name="by API"
    )
    client = sign_in("viewer")

    page = client.get("/dashboard/activity/?face=not-api").content.decode()

    assert "by hand" in page
    assert "by API" not in page
