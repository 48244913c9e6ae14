"""Requests and what is shown of them, byte for byte: numbers, line ends, private authorities, hidden data."""

import json
import ssl
from ipaddress import ip_network

import pytest
import trustme

from scheduling import models
from scheduling.handlers import oauth
from tests.api.test_whole_jobs import make_queue, minutes, results, submit  # noqa: F401
from tests.dashboard.conftest import sign_in  # noqa: F401
from tests.scheduling.target import ReceivedRequest, Target, status

pytestmark = pytest.mark.django_db


AMOUNTS = (
    '{"amount":12.50,"precise":0.1000000000000000055,"large":12345678901234567890.12,"list":[1E2,{"x":-0.0}]}'
)


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json"])
@pytest.mark.parametrize(
    "body", [None, '{"all":"{{data.list}}","a":"{{data.amount}}","t":"={{data.precise}}","n":1.50}']
)
def test_numbers_reach_the_target_as_the_list_spells_them(api, write_lists, minutes, content_type, body):  # noqa: F811
    item = '{"id":1001,' + AMOUNTS[1:]
    whole = f'{{"task_name":"autumn","queue":"job","data":"*","payload":[{item}]}}'
    is_json = content_type == "application/json"
    with Target(lambda request: status(200, b'{"id":7.10}')) as target:
        make_queue(api, target, "/{{data.amount}}?p={{data.precise}}", webhook_body=body, keep_answers="/id")
        query = "?task_name=autumn&queue=job&data=*"
        sent = (whole, "") if is_json else (item, query)
        dry_run = api.list(sent[0], query=f"{sent[1] or '?'}&dry_run=true", type=content_type)
        assert dry_run.status_code == 200, dry_run.content
        assert api.list(sent[0], query=sent[1], type=content_type).status_code == 201
        write_lists()
        minutes.serve()
    [request] = target.requests
    assert request.path == "/12.50?p=0.1000000000000000055"
    expected = '{"all":[1E2,{"x":-0.0}],"a":12.50,"t":"=0.1000000000000000055","n":1.50}'
    assert expected == request.body.decode() if body else f'"data":{AMOUNTS}}}' in request.body.decode()
    [planned] = dry_run.json()["requests"]
    assert (expected if body else AMOUNTS) in planned["body"]
    assert planned["url"].endswith(request.path)
    task_id = models.Task.objects.get().pk
    assert AMOUNTS in api.get(f"/celery_ids_tasks/{task_id}/ids/?data=true").content.decode()
    [row] = results(api, task_id)
    assert row["answer"] == "7.10"


def test_test_request_sends_numbers_as_they_are_typed(api, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    with Target() as target:
        make_queue(api, target)
        body = b'{"id":7,"data":{"amount":12.50,"more":[1.0,{"x":1e2}]}}'
        answer = api.post("/queues/job/test/", data=body, content_type="application/json")
        assert answer.status_code == 200, answer.content
    assert b'"data":{"amount":12.50,"more":[1.0,{"x":1e2}]}' in target.requests[0].body


@pytest.mark.parametrize(("visible_to", "is_shown"), [("operator", True), ("admin", False)])
def test_test_request_shows_stored_data_to_those_who_may_see_them(
    api,
    write_lists,
    settings,
    sign_in,  # noqa: F811
    visible_to,
    is_shown,
):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    settings.DATA_VISIBLE_TO = visible_to
    with Target() as target:
        make_queue(api, target, "/{{data.city|'-'}}")
        submit(api, write_lists, "id,city\n7,Ulm\n", "&data=city")
        stored = api.send("POST", "/queues/job/test/", {"id": 7}).json()["sent"]
        typed = api.send("POST", "/queues/job/test/", {"id": 7, "data": {"city": "Bonn"}}).json()["sent"]
        page = sign_in("operator").post("/dashboard/queues/job/test/", {"user_id": "7"}, follow=True)
    assert [request.path for request in target.requests] == ["/Ulm", "/Bonn", "/Ulm"]
    assert ("Ulm" in stored["url"]) == ("Ulm" in stored["body"]) == is_shown
    assert stored["url"].startswith(f"http://127.0.0.1:{target.port}/")
    assert "Bonn" in typed["url"]
    assert ("Ulm" in page.content.decode()) == is_shown
    assert "Ulm" not in json.dumps(list(models.Activity.objects.values()), default=str)


def test_cells_reach_the_target_with_their_line_ends(api, write_lists, minutes):  # noqa: F811
    with Target() as target:
        make_queue(api, target, webhook_body="{{data.note}}", webhook_content_type="text/plain")
        submit(api, write_lists, 'id;note\r\n7;"one\r\ntwo\nthree\rfour"\r\n8;x\r\n', "&data=note")
        minutes.serve()
    assert [request.body for request in target.requests] == [b"one\r\ntwo\nthree\rfour", b"x"]


def test_token_and_requests_trust_the_same_private_authority(api, write_lists, minutes, settings, tmp_path):  # noqa: F811
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings.WEBHOOK_CA_FILE = str(tmp_path / "ca.pem")
    oauth.forget_all()

    def answer(request: ReceivedRequest) -> bytes:
        if request.path == "/token":
            return status(200, b'{"access_token": "t-1", "token_type": "Bearer", "expires_in": 3600}')
        return status(200 if request.headers.get("authorization") == "Bearer t-1" else 401)

    with Target(answer, tls=context) as target:
        origin = f"https://127.0.0.1:{target.port}"
        fields = {"oauth_client_id": "me", "oauth_client_secret": "s3cret-of-mine"}
        make_queue(
            api,
            handler="webhook",
            webhook_url=f"{origin}/in/{{{{id}}}}",
            oauth_token_url=f"{origin}/token",
            **fields,
        )
        task_id = submit(api, write_lists, "id\n7\n8\n9\n")
        minutes.serve()
    assert sorted(request.path for request in target.requests) == ["/in/7", "/in/8", "/in/9", "/token"]
    assert {(row["status"], row["attempts"]) for row in results(api, task_id)} == {("succeeded", 1)}
    oauth.forget_all()
