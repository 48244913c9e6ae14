"""Errors of pages, in words."""

import errno

import pytest
from django.db import DatabaseError, OperationalError
from django.test import Client

pytestmark = pytest.mark.django_db

FAILURES = {
    "full disk": (OperationalError("database or disk is full"), 507, "The disk is full"),
    "full file system": (OSError(errno.ENOSPC, "No space left on device"), 507, "nobody can sign in"),
    "full disk of PostgreSQL": (
        DatabaseError("could not extend file: No space left on device"),
        507,
        "The disk is full",
    ),
    "locked database": (OperationalError("database is locked"), 503, "The database can't be reached"),
    "anything else": (RuntimeError("database or disk is full"), 500, "Something went wrong on our side"),
}


@pytest.fixture
def browser(make_operator):
    client = Client(raise_request_exception=False)
    client.force_login(make_operator("operator"))
    return client


def fail_with(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("django.contrib.sessions.middleware.SessionMiddleware.process_request", fail)


@pytest.mark.parametrize("kind", FAILURES)
def test_failing_page_says_why(browser, monkeypatch, kind):
    error, status, words = FAILURES[kind]
    fail_with(monkeypatch, error)
    answer = browser.get("/dashboard/")
    assert answer.status_code == status
    assert words in answer.content.decode()


@pytest.mark.parametrize("kind", FAILURES)
def test_api_error_without_a_view_is_a_problem_too(browser, monkeypatch, kind):
    error, status, _ = FAILURES[kind]
    fail_with(monkeypatch, error)
    answer = browser.get("/queues/")
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    kinds = {507: "disk-full", 503: "not-ready", 500: "internal-error"}
    assert answer.json()["type"].endswith(kinds[status])
