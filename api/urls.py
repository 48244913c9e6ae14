"""The URLs of the API, at the root. Any that don't exist get a problem as the response."""

from typing import cast

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, include, path, re_path, register_converter
from django.views.decorators.csrf import csrf_exempt

from api import (  # noqa: F401
    actions,
    activity,
    edits,
    hours,
    ids,
    outcomes,
    problems,
    queues,
    receipts,
    status,
    submissions,
    targets,
    tasks,
    users,
    webhooks,
    windows,
)
from api.docs import docs, openapi_json
from api.endpoints import completed, known_parameters_only, with_and_without_slash
from api.middleware import PAGE_ROOTS
from api.openapi import Api


class IdConverter:
    """An ID in a path: digits only."""

    regex = "[0-9]{1,30}"

    def to_python(self, text: str) -> int:
        return int(text)

    def to_url(self, number: int) -> str:
        return str(number)


class UserNumberConverter:
    """A user's number in a path: negative for one whose ID is text."""

    regex = "-?[0-9]{1,30}"

    def to_python(self, text: str) -> int:
        return int(text)

    def to_url(self, number: int) -> str:
        return str(number)


class ExternalIdConverter:
    """An ID in a path, a number or text, which may contain slashes."""

    regex = ".{1,400}?"

    def to_python(self, text: str) -> str:
        return text

    def to_url(self, text: str) -> str:
        return text


class QueueNameConverter:
    """The name of a queue in a path."""

    regex = "[-a-zA-Z0-9_]{1,50}"

    def to_python(self, text: str) -> str:
        return text

    def to_url(self, name: str) -> str:
        return name


register_converter(IdConverter, "id")
register_converter(UserNumberConverter, "user_number")
register_converter(ExternalIdConverter, "external_id")
register_converter(QueueNameConverter, "queue_name")

api = Api(
    title="Quarterdeck",
    version="1",
    description="Submit a list of IDs. Each ID gets its minute, and you can read what became of it.",
    openapi_url=None,
    docs_url=None,
    servers=[{"url": "/"}],
)
problems.install(api)
api.add_decorator(known_parameters_only)
for router in (
    tasks.router,
    actions.router,
    users.router,
    ids.router,
    outcomes.router,
    queues.router,
    targets.router,
    hours.router,
    windows.router,
    webhooks.router,
    receipts.router,
    activity.router,
):
    api.add_router("", router)


@csrf_exempt
def nothing_here(request: HttpRequest, path: str) -> HttpResponse:
    return problems.problem_response(
        "not-found", f"{problems.NOTHING_HERE} /openapi.json lists all endpoints."
    )


# The last of Ninja's patterns is a page of its own at the root.
_endpoints = with_and_without_slash(cast(list[URLPattern], api.urls[0][:-1]))
_patterns = [
    *_endpoints,
    *with_and_without_slash(
        [
            path("openapi.json/", openapi_json, {"api": api}, name="openapi"),
            path("docs/", docs, {"api": api}, name="docs"),
            path("healthz/live/", status.live, name="live"),
            path("healthz/ready/", status.ready, name="ready"),
            path("receipts/key/", receipts.public_key, name="receipts_key"),
            path("metrics/", status.metrics, name="metrics"),
        ]
    ),
    # Pages are excluded: they respond in their own way.
    re_path(rf"^(?!(?:{PAGE_ROOTS})(?:/|$))(?P<path>.+)$", completed(nothing_here)),
]
# The sign-in middleware recognizes by this name that these views authenticate by themselves.
urlpatterns = [path("", include((_patterns, "ninja"), namespace="api"))]
