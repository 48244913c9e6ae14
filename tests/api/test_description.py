"""The OpenAPI document, checked against the service with generated requests; and the page for reading it."""

import re
import warnings
from copy import deepcopy

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, given, settings
from schemathesis import checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.docs import schema_of
from api.problems import KIND_OF, KINDS
from api.urls import api as the_api
from scheduling.core import errors
from scheduling.parsing import errors as reading

from .conftest import ApiClient

HELD = [
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@schemathesis.serializer("application/x-ndjson")
def ndjson(context, value):
    return str(value).encode()


@schemathesis.serializer("text/csv")
def csv(context, value):
    return str(value).encode()


# A copy: it adds links of its own.
SCHEMA = schemathesis.openapi.from_dict(deepcopy(schema_of(the_api)))
SCHEMA.app = get_wsgi_application()
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_responses_to_generated_requests_match_the_description(operation, queue, make_token):
    # Its client asks for gzip, and doesn't unpack it.
    headers = {"Authorization": f"Bearer {make_token('write')}", "Accept-Encoding": "identity"}
    existing = {**_something_of_each(ApiClient(make_token("write"))), "name": "default"}
    cases = 0

    @given(case=operation.as_strategy())
    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def hold(case):
        # Generated numbers hardly ever name an existing resource.
        nonlocal cases
        cases += 1
        if cases % 2:
            case.path_parameters = {
                name: existing[_kind(operation.path, name)] for name in case.path_parameters
            }
        case.call_and_validate(headers=headers, checks=HELD)

    hold()


@pytest.fixture
def one_connection(db):
    """Requests keep the connection of the test, whose transaction it has."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def test_requests_that_follow_from_responses_match_the_description(one_connection, queue, make_token):
    """Task keys of one response go into the next request, and so on: created, read, changed, cancelled, read again."""
    headers = {"Authorization": f"Bearer {make_token('write')}", "Accept-Encoding": "identity"}
    followed = set()
    # A test request gives its connection back while it waits, and with it the transaction of this test.
    without_tests = SCHEMA.exclude(path_regex="/test(_callback)?/")

    class Workflow(without_tests.as_state_machine()):
        def setup(self):
            # Each scenario begins with the same tables.
            self._transaction = transaction.atomic()
            self._transaction.__enter__()

        def teardown(self):
            transaction.set_rollback(True)
            self._transaction.__exit__(None, None, None)

        def get_call_kwargs(self, case):
            return {"headers": headers}

        def validate_response(self, response, case, additional_checks=None, **options):
            if case.path_parameters and response.status_code < 400:
                followed.add(case.operation.label)
            case.validate_response(response, checks=HELD)

    with warnings.catch_warnings():
        # Of schemathesis itself.
        warnings.simplefilter("ignore")
        Workflow.run(
            settings=settings(
                max_examples=15,
                stateful_step_count=8,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
        )
    # Requests about what an earlier one has created, or named.
    assert followed


def _something_of_each(client: ApiClient) -> dict[str, object]:
    """Create one of each resource, and return their keys."""
    client.send("POST", "/users/", {"id": 5, "name": "Ann"})
    client.list("5,6,7,8,9007199254740993", type="text/plain")
    client.send("POST", "/targets/", {"origin": "https://api.vendor.example", "rpm": 2_999})
    client.send("POST", "/webhooks/", {"name": "x", "url": "https://hook.example/", "events": ["task.done"]})
    paths = ("/celery_ids_tasks/", "/windows/", "/targets/", "/webhooks/")
    body = {path.strip("/"): client.get(path).json()[0]["id"] for path in paths}
    return {"users": 5, "ids": 5, **body}


def _kind(path: str, parameter: str) -> str:
    return "name" if parameter == "name" else path.strip("/").partition("/")[0]


def test_domain_errors_all_have_a_problem_kind():
    def all_below(base):
        for each in base.__subclasses__():
            yield each
            yield from all_below(each)

    for each in all_below(errors.Refused):
        assert kind_of_class(each) in KINDS
    for each in all_below(reading.ReadingError):
        # By its family, which says what kind of answer fits.
        assert each in KIND_OF or any(base in KIND_OF for base in each.__bases__), each


def kind_of_class(error: type[Exception]) -> str:
    return next(KIND_OF[base] for base in error.__mro__ if base in KIND_OF)


@pytest.mark.django_db
def test_description_is_complete(reader):
    schema = reader.get("/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    for path, operations in schema["paths"].items():
        assert path.endswith("/")
        for method, operation in operations.items():
            assert operation["summary"]
            assert operation["security"] == [{"token": []}, {"session": []}]
            assert {"401", "403", "500"} <= operation["responses"].keys()
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)


@pytest.mark.django_db
def test_description_has_the_documented_endpoints(reader):
    paths = reader.get("/openapi.json").json()["paths"]
    documented = {
        "/users/": {"get", "post"},
        "/users/{id}/": {"get", "put", "patch", "delete"},
        "/celery_ids_tasks/": {"get", "post", "put", "patch"},
        "/celery_ids_tasks/{id}/": {"get", "put", "patch", "delete"},
        "/celery_ids_tasks/{id}/distribution/": {"get"},
        "/celery_ids_tasks/{id}/ids/": {"get"},
        "/ids/{user_id}/": {"get"},
        "/queues/": {"get", "post"},
        "/queues/{name}/": {"get", "patch", "delete"},
        "/queues/{name}/release/": {"post"},
        "/celery_ids_tasks/{id}/retry/": {"post"},
        "/celery_ids_tasks/{id}/resend/": {"post"},
        "/failures/retry/": {"post"},
        "/activity/": {"get"},
        "/outcomes/": {"get"},
        "/queues/{name}/pause/": {"post"},
        "/queues/{name}/resume/": {"post"},
        "/queues/{name}/brake/": {"post"},
        "/queues/{name}/rotate_secret/": {"post"},
        "/queues/{name}/test/": {"post"},
        "/queues/{name}/test_callback/": {"post"},
        "/celery_ids_tasks/{id}/call_back/": {"post"},
        "/celery_ids_tasks/{id}/hold/": {"post"},
        "/celery_ids_tasks/{id}/continue/": {"post"},
        "/ids/{user_id}/eta/": {"get"},
        "/hours/": {"get", "post"},
        "/hours/{name}/": {"get", "patch", "delete"},
        "/targets/": {"get", "post"},
        "/targets/{id}/": {"get", "patch", "delete"},
        "/webhooks/": {"get", "post"},
        "/webhooks/{id}/": {"get", "patch", "delete"},
        "/webhooks/{id}/test/": {"post"},
        "/webhooks/{id}/deliveries/": {"get"},
        "/webhooks/{id}/deliveries/{delivery_id}/resend/": {"post"},
        "/windows/": {"get"},
        "/receipts/": {"get"},
        "/windows/{id}/": {"get"},
    }
    assert {path: set(operations) for path, operations in paths.items()} == documented
    kinds = paths["/celery_ids_tasks/"]["post"]["requestBody"]["content"].keys()
    assert {
        "application/json",
        "text/plain",
        "text/csv",
        "application/x-ndjson",
        "multipart/form-data",
    } <= kinds


@pytest.mark.django_db
def test_docs_page_shows_every_endpoint_under_the_strict_policy(reader):
    answer = reader.get("/docs")
    page = answer.content.decode()
    for operation in the_api.operations():
        assert f'id="{operation.operation_id}"' in page
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert not re.search(r"<script|<style|style=|onclick=|https?://(?!hook\.example)", page)
    assert 'href="/static/api/docs.css"' in page
