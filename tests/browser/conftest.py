"""A real browser against a real server: Debian's Chromium, driven by Playwright.

A page that logs an error to the console, or breaks the content security policy, fails its test.
"""

import os
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from operators.models import Operator
from tests.chromium import HOW, launch_options

# Playwright's synchronous driver runs a loop of its own in this thread.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

SIZES = {"phone": {"width": 360, "height": 780}, "desk": {"width": 1280, "height": 860}}
QUIET = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
]

# How long a page may take to show what is expected. On a busy machine a poll takes seconds; a test that passes
# never waits for the whole of it.
SECONDS = 30


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of a run."""
    options = launch_options()
    if not options["executable_path"]:
        pytest.skip(HOW)
    options["args"] += QUIET
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(**options)
        yield chromium
        chromium.close()


@pytest.fixture
def signed_in(live_server, make_operator, transactional_db) -> Callable[..., dict]:
    """A session's cookie for the browser: signed_in("viewer")."""

    def sign_in(role: str = "operator", *, time_zone: str = "UTC") -> dict:
        operator = Operator.objects.filter(username="m.ortiz").first() or make_operator(
            role, username="m.ortiz"
        )
        operator.role, operator.time_zone = role, time_zone
        operator.save(update_fields=["role", "time_zone"])
        client = Client()
        client.force_login(operator)
        cookie = client.cookies[settings.SESSION_COOKIE_NAME]
        return {"name": cookie.key, "value": cookie.value, "url": live_server.url}

    return sign_in


def without_aborts(errors: list[str]) -> list[str]:
    """Leave out requests that were aborted because somebody went to another page: htmx logs each by two lines."""
    aborted = [error.removeprefix("htmx:sendAbort") for error in errors if error.startswith("htmx:sendAbort")]
    lines = list(errors)
    for element in aborted:
        lines.remove(f"htmx:sendAbort{element}")
        lines.remove(f"htmx:afterRequest{element}")
    return lines


@pytest.fixture
def open_page(browser: Browser, live_server, signed_in) -> Iterator[Callable[..., Page]]:
    """Open a page as somebody, in a size and a colour scheme: open_page("/dashboard/", size="phone")."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_it(
        path: str,
        *,
        size: str = "desk",
        scheme: str = "light",
        role: str | None = "operator",
        time_zone: str = "UTC",
        javascript: bool = True,
        clock: datetime | None = None,
    ) -> Page:
        context = browser.new_context(
            viewport=SIZES[size], color_scheme=scheme, java_script_enabled=javascript, reduced_motion="reduce"
        )
        contexts.append(context)
        context.set_default_timeout(SECONDS * 1000)
        if role is not None:
            context.add_cookies([signed_in(role, time_zone=time_zone)])
        page = context.new_page()
        page.on("console", lambda text: errors.append(text.text) if text.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        if clock is not None:
            page.clock.set_fixed_time(clock)
        page.goto(live_server.url + path)
        return page

    open_it.errors = errors
    yield open_it
    for context in contexts:
        context.close()
    unexpected = without_aborts(errors)
    assert not unexpected, f"the console says: {unexpected}"
