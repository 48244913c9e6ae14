"""Every address of the dashboard, as nobody, viewer, operator and admin."""

import html
import re

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from dashboard import menu
from operators.actor import Actor
from operators.models import Scope
from operators.roles import PERMISSIONS, Permission, Role
from scheduling import models, store
from scheduling.alerts import channels
from scheduling.core import keys
from scheduling.demo import InMemory
from scheduling.events import recording
from scheduling.intake import acceptance
from scheduling.jobqueue import bulk_operations
from scheduling.queues import targets

pytestmark = pytest.mark.django_db


VERBS = ("pause", "resume", "brake")
# The second of them leads to the first.
SIGN_IN = ("/sign-in/", "/admin/login/")
ANY_PARAMETER = re.compile(r"<[^>]+>")
# Pages that show nothing without these.
QUERIES = {
    "dashboard/failures/retrying/": "?run=abc",
    "dashboard/tasks/cancel/": "?at=2026-11-25T12:00:00Z&up_to=1",
}


# What asks for the part of a page that moves.
FRAGMENT = {"HX-Request": "true"}


def addresses(below: str = "dashboard/") -> list[tuple[str, URLPattern]]:
    """All patterns under an address, with their whole route; one for each verb of a button."""

    def walk(prefix, patterns):
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from walk(prefix + str(pattern.pattern), pattern.url_patterns)
            else:
                yield prefix + str(pattern.pattern), pattern

    return [
        (route.replace("<verb:verb>", verb), result)
        for route, result in walk("", get_resolver().url_patterns)
        if route.startswith(below)
        for verb in (VERBS if "<verb:verb>" in route else ("",))
    ]


def needed(pattern: URLPattern) -> Permission:
    return pattern.callback.needs


@pytest.fixture
def things(place):
    """Something behind each parameter of a route."""
    task = place([7])
    another = acceptance.write_draft(InMemory([9]), at=store.now(), about={**_about(), "replaces": task.pk})
    draft = acceptance.write_draft(InMemory([8]), at=store.now(), about=_about())
    form = {"zone": "UTC", "open": ["mon 09:00-10:00"]}
    models.Hours.objects.create(name="default", form=form, created_at=store.now())
    starts_at = keys.starts_at_of_window(models.Window.objects.get().pk)
    bulk_operations.begin(
        models.BulkActKind.RETRY_FAILED, request={}, number=1, name="abc", by=Actor.system(), at=store.now()
    )
    channel, _ = channels.create(
        kind="email",
        fields={"name": "ops", "address": "ops@deck.example", "types": ["task.done"]},
        base_url="",
        by=Actor.system(),
        at=store.now(),
    )
    recording.record(models.EventType.TASK_DONE, "done", {}, at=store.now())
    budget = targets.create(origin="http://t.test", fields={"rpm": 5}, by=Actor.system(), now=store.now)
    return {
        "<str:kind>": "email",
        "<int:channel_id>": str(channel.pk),
        "<int:delivery_id>": str(models.Delivery.objects.get().pk),
        "<int:target_id>": str(budget.pk),
        "replace/<int:draft_id>": f"replace/{another.pk}",
        "<int:draft_id>": str(draft.pk),
        "<int:view_id>": "1",
        "<int:task_id>": str(task.pk),
        "<user_key:user_id>": "7",
        "<slug:run>": "abc",
        "<slug:name>": "default",
        "<str:day>": "2026-11-25",
        "<str:stamp>": f"{starts_at:%Y-%m-%dT%H:%MZ}",
    }


def _about() -> dict:
    lists = {"faults": [], "first": ["8"], "last": ["8"], "warnings": {}}
    return {**lists, "task_name": "x", "queue": "default", "fault_count": 0, "bytes": 1, "operator": "x"}


def filled_in(route: str, things: dict[str, str]) -> str:
    for name, value in things.items():
        route = route.replace(name, value)
    assert "<" not in route, f"{route}: a parameter that this test doesn't know"
    return f"/{route}{QUERIES.get(route, '')}"


def request_page(client, path: str, method: str, headers: dict[str, str] | None = None):
    """The answer, read to its end."""
    answer = client.post(path, headers=headers) if method == "POST" else client.get(path, headers=headers)
    if answer.streaming:
        b"".join(answer.streaming_content)
    return answer


def test_every_view_declares_its_permission():
    assert addresses()
    for route, pattern in addresses():
        assert isinstance(needed(pattern), Permission), route


@pytest.mark.parametrize(
    ("typed", "leads_to"),
    [
        ("/dashboard", "/dashboard/"),
        ("/dashboard/tasks?state=done", "/dashboard/tasks/?state=done"),
        ("/admin", "/admin/"),
        ("/admin/scheduling/task", "/admin/scheduling/task/"),
    ],
)
def test_address_without_a_final_slash_redirects_to_the_page(queue, sign_in, typed, leads_to):
    assert sign_in("viewer").get(typed).url == leads_to


def test_unknown_address_is_404_with_and_without_a_final_slash(queue, sign_in):
    client = sign_in("viewer")

    for path in ("/dashboard/nope", "/dashboard/nope/", "/admin/nope", "/admin/nope/"):
        assert client.get(path, follow=True).status_code == 404, path


def test_anonymous_page_requests_redirect_to_the_sign_in_page(client, things):
    for route, _ in addresses():
        answer = request_page(client, filled_in(route, things), "GET")
        assert (answer.status_code, answer.url.split("?")[0]) == (302, "/sign-in/"), route


def _nobody_s_answer(client, path: str, headers: dict[str, str]) -> tuple[int, str]:
    answer = request_page(client, path, "GET", headers)
    return answer.status_code, answer.headers.get("Location", "").split("?")[0]


def test_anonymous_fragment_requests_get_no_content(client, things):
    for route, _ in addresses():
        answer = request_page(client, filled_in(route, things), "GET", FRAGMENT)
        assert answer.status_code in (204, 302, 401), route
        assert not answer.content or "Sign in" in answer.content.decode(), route


@pytest.mark.parametrize("scope", Scope.values)
def test_token_opens_neither_pages_nor_admin(client, make_token, things, scope):
    token = {"Authorization": f"Bearer {make_token(scope)}"}
    before = _state()
    pages = [filled_in(route, things) for route, _ in addresses()]
    pages += ["/" + ANY_PARAMETER.sub("1", route) for route, _ in addresses("admin/") if "(?P" not in route]
    assert len(pages) > 100
    for path in pages:
        assert _nobody_s_answer(client, path, token) == _nobody_s_answer(client, path, {}), path
        status, leads_to = _nobody_s_answer(client, path, token)
        assert status == 302, path
        assert leads_to in SIGN_IN, path
        for headers in (token, token | FRAGMENT):
            answer = request_page(client, path, "POST", headers)
            assert answer.status_code == 401 or answer.headers["Location"] in SIGN_IN, path
    assert _state() == before


def test_anonymous_post_gets_the_answer_that_nothing_was_done(client, things):
    before = _state()
    for route, _ in addresses():
        answer = request_page(client, filled_in(route, things), "POST")
        assert answer.status_code == 401, route
        assert "Nothing was done" in answer.content.decode(), route
    assert _state() == before


@pytest.mark.parametrize("role", Role.values)
def test_roles_open_exactly_what_the_table_allows(sign_in, things, role):
    client = sign_in(role)
    for route, pattern in addresses():
        for headers, answered in (({}, (200, 302, 405)), (FRAGMENT, (200, 204, 286, 302, 405))):
            answer = request_page(client, filled_in(route, things), "GET", headers)
            if needed(pattern) in PERMISSIONS[Role(role)]:
                assert answer.status_code in answered, (route, answer.status_code)
            else:
                # A button's address answers 405 to a GET, whoever asks.
                assert answer.status_code in (403, 405), route


def test_viewer_changes_nothing_by_any_post(sign_in, things):
    client = sign_in("viewer")
    before = _state()
    for route, _ in addresses():
        if "account" not in route:
            for headers in ({}, FRAGMENT):
                answer = request_page(client, filled_in(route, things), "POST", headers)
                assert answer.status_code in (403, 405), (route, answer.status_code)
    assert _state() == before


def _state():
    # A refusal is in the log: that is all it leaves.
    done = models.Activity.objects.exclude(verb="refused")
    return [
        *(
            list(model.objects.order_by("pk").values())
            for model in (models.Task, models.Queue, models.IdList)
        ),
        list(models.Bucket.objects.order_by("pk").values()),
        list(done.order_by("pk").values()),
    ]


def test_viewer_sees_disabled_buttons_of_a_task_with_the_reason(sign_in, things):
    page = sign_in("viewer").get(f"/dashboard/tasks/{things['<int:task_id>']}/").content.decode()

    assert 'disabled title="You can view but not change things' in page.replace("&quot;", '"')


@pytest.mark.parametrize("page", ["tasks/", "", "queues/", "activity/"])
def test_links_never_lead_a_viewer_to_a_refusal(sign_in, things, page):
    client = sign_in("viewer")
    text = client.get(f"/dashboard/{page}").content.decode()

    links = set(re.findall(r'<a [^>]*href="(/(?:dashboard|admin)/[^"#]*)"', text))
    assert links
    for link in links:
        assert client.get(html.unescape(link)).status_code not in (403, 405), link
    assert re.search(r'aria-disabled="true"[^>]*title="You can view but not change things[^>]*>Upload<', text)


def test_operator_menu_contains_upload(sign_in, things):
    assert '<a href="/dashboard/upload/">Upload</a>' in sign_in().get("/dashboard/tasks/").content.decode()


def test_pages_link_to_the_admin_and_back(sign_in, things):
    client = sign_in("viewer")
    user = models.User.objects.get(pk=7)
    task = models.Task.objects.get(pk=things["<int:task_id>"])
    window = models.Window.objects.first()
    pages = {
        f"/dashboard/tasks/{task.pk}/": f"/admin/scheduling/task/{task.pk}/change/",
        "/dashboard/queues/default/": f"/admin/scheduling/queue/{task.queue_id}/change/",
        f"/dashboard/ids/{user.pk}/": f"/admin/scheduling/user/{user.pk}/change/",
        f"/dashboard/windows/default/{things['<str:stamp>']}/": f"/admin/scheduling/window/{window.pk}/change/",
    }
    for own, other in pages.items():
        assert f'href="{other}"' in client.get(own).content.decode(), own
        assert f'href="{own}"' in client.get(other).content.decode(), other


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/dashboard/", "Board"),
        ("/dashboard/targets/", "Queues"),
        ("/dashboard/hours/office/", "Queues"),
        ("/dashboard/calendar/", "Queues"),
        ("/dashboard/windows/default/2026-11-30T12:15Z/", "History"),
        ("/dashboard/minutes/2026-11-30T12:15Z/", "History"),
        ("/dashboard/account/", None),
    ],
)
def test_menu_marks_the_section_that_a_page_is_reached_from(path, name):
    assert getattr(menu.current(path), "name", None) == name
