"""Lists with data whose writer and senders are killed: what the target received, byte for byte."""

import json
from collections import Counter
from ipaddress import ip_network
from urllib.parse import quote

import pytest

from scheduling import models
from scheduling.models import Status
from tests.api.conftest import ApiClient
from tests.patience import wait_until
from tests.scheduling.lists_of_ids import check_counters
from tests.scheduling.target import ReceivedRequest, Target

from .test_webhook_minutes import busiest, settled

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.faults]

IDS, RPM = 40_000, 20_000
NAMES = ["Zoë", 'Ann "A"', "O'Neil, Ltd; Co", " blanks ", "ß\\u0041", "{{id}}", "a\tb"]


def external_id(number: int) -> str:
    return f"user/{number}@büro.example"


def name_of(number: int) -> str:
    return f"{NAMES[number % len(NAMES)]}{number}"


def csv_cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def expected(number: int) -> tuple[str, str, bytes]:
    """Return path, header X-Name and body of the request for an ID, from REQUEST alone."""
    body = {
        "to": {"id": external_id(number)},
        "vars": {"name": f"Hi {name_of(number)}", "number": str(number)},
    }
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return f"/c/{quote(external_id(number), safe='')}", f"n{number}", text.encode()


REQUEST = {
    "webhook_method": "PUT",
    "webhook_headers": {"X-Name": "n{{data.number}}"},
    "webhook_body": '{"to": {"id": "{{id}}"}, "vars": {"name": "Hi {{data.name}}", "number": "{{data.number}}"}}',
}


def number_of(request: ReceivedRequest) -> int:
    return int(request.headers["x-name"].removeprefix("n"))


def is_being_written() -> bool:
    return models.Segment.objects.filter(written_count__gt=0).exists()


def test_list_with_data_survives_kills_of_writer_and_senders_byte_for_byte(
    process_environment, start_cluster, make_token, settings
):
    process_environment["WEBHOOK_ALLOWED_NETWORKS"] = "127.0.0.0/8"
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    writer, *senders = start_cluster(), start_cluster("minutes"), start_cluster("minutes")
    api = ApiClient(make_token("write"))
    lines = [
        f"{number},{csv_cell(external_id(number))},{csv_cell(name_of(number))}"
        for number in range(1, IDS + 1)
    ]
    body = "\n".join(["number,id,name", *lines])
    with Target() as target:
        url = f"{target.origin}/c/{{{{id}}}}"
        fields = {
            "name": "crm",
            "handler": "webhook",
            "rpm": RPM,
            "overflow": "carry_over",
            "webhook_url": url,
        }
        assert api.send("POST", "/queues/", fields | REQUEST).status_code == 201
        query = "?task_name=x&queue=crm&id_type=text&column=id&data=name,number&start=first_free"
        answer = api.list(body, query=query, type="text/csv")
        assert answer.status_code == 201, answer.content

        wait_until(is_being_written, "the list is being written")
        writer.kill()
        assert models.Segment.objects.unwritten().exists(), "the writer was killed in the middle"
        start_cluster()
        for sent_count, sender in ((500, senders[0]), (5_000, senders[1])):
            wait_until(lambda count=sent_count: len(target.requests) > count, "IDs are sent", seconds=200)
            sender.kill_a_worker(pick=busiest)
        wait_until(settled, "all are sent", seconds=400)
        wait_until(lambda: not models.Segment.objects.unwritten().exists(), "all are written")
        check_counters()
    assert models.Assignment.objects.filter(status=Status.SUCCEEDED).count() == IDS
    wrong = [
        request
        for request in target.requests
        if (request.path, request.headers["x-name"], request.body) != expected(number_of(request))
        or request.method != "PUT"
    ]
    assert wrong == []
    sent = Counter(map(number_of, target.requests))
    assert set(sent) == set(range(1, IDS + 1))
    named = models.Attempt.objects.filter(unknown=True).values("user_id")
    named_ids = set(models.ExternalId.objects.filter(pk__in=named).values_list("external_id", flat=True))
    assert {external_id(number) for number, times in sent.items() if times > 1} <= named_ids
