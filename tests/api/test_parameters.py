"""Numbers of any length in URLs."""

import re

import pytest

from api.docs import schema_of
from api.urls import api as the_api

pytestmark = pytest.mark.django_db

READS = [
    (path, [each["name"] for each in operations["get"].get("parameters", []) if each["in"] == "query"])
    for path, operations in schema_of(the_api)["paths"].items()
    if "get" in operations
]


@pytest.mark.parametrize(
    "digits", ["9" * 20, "9223372036854775808", "0" * 30 + "9" * 20, "²", "-" + "9" * 20]
)
@pytest.mark.parametrize(("path", "names"), READS)
def test_numbers_beyond_64_bits_are_client_errors(reader, path, names, digits):
    for name in names:
        address = re.sub(r"\{\w+\}", "1", path)
        assert reader.get(f"{address}?{name}={digits}").status_code in (200, 400, 404, 422), name
    if "{" in path:
        assert reader.get(re.sub(r"\{\w+\}", digits, path)).status_code in (400, 404, 422)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("oauth_scope", 5),
        ("webhook_url", True),
        ("hours", {"zone": 5, "open": ["mon 09:00-10:00"]}),
        ("hours", {"zone": "UTC", "open": ["mon 09:00-10:00"], "closed": [20261225]}),
        ("ramp", {"from": 20261130, "start_rpm": 50, "factor": 1.5, "every": 1, "unit": "days"}),
        ("ramp", {"from": "2026-11-30", "start_rpm": 50, "factor": 1.5, "every": 1, "unit": None}),
        ("quotas", [{"limit": "5", "per": "day"}]),
        ("quotas", [{"limit": 5, "per": "day", "zone": None}]),
    ],
)
def test_text_of_a_json_body_is_text(api, field, value):
    answer = api.send("PATCH", "/queues/default/", {field: value})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].split(".")[0] == field


def test_name_of_a_list_in_json_is_text(api, queue):
    body = {"task_name": 5, "payload": [1, 2], "queue": queue.name}
    answer = api.send("POST", "/celery_ids_tasks/?dry_run=true", body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "task_name")


@pytest.mark.parametrize(
    ("field", "value", "read"), [("rpm", "60", 60), ("max_attempts", "5", 5), ("headroom", "3", 3)]
)
def test_number_in_quotes_is_read_as_a_number(api, queue, field, value, read):
    """As it always was: clients that write every value as text go on."""
    answer = api.send("PATCH", f"/queues/{queue.name}/", {field: value})
    assert (answer.status_code, answer.json()[field]) == (200, read)


def test_form_has_text_in_every_field(api, queue):
    form = {"task_name": "n", "payload": "1,2", "max_failed_percent": "2", "min_finished": "5"}
    answer = api.post("/celery_ids_tasks/?dry_run=true", form, format="multipart")
    assert answer.status_code == 200
