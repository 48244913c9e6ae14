"""The API's addresses, at the root: everything under them that isn't there is answered as a problem."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path, register_converter
from django.views.decorators.csrf import csrf_exempt

from . import edits, ids, problems, queues, status, submissions, tasks, users, windows  # noqa: F401
from .docs import docs, openapi_json
from .endpoints import both_spellings, known_parameters_only, served
from .middleware import PAGE_ROOTS
from .openapi import Api


class IdConverter:
    """An ID in a path: digits alone."""

    regex = "[0-9]{1,30}"

    def to_python(self, text: str) -> int:
        return int(text)

    def to_url(self, number: int) -> str:
        return str(number)


class QueueNameConverter:
    """A queue's name in a path."""

    regex = "[-a-zA-Z0-9_]{1,50}"

    def to_python(self, text: str) -> str:
        return text

    def to_url(self, name: str) -> str:
        return name


register_converter(IdConverter, "id")
register_converter(QueueNameConverter, "queue_name")

api = Api(
    title="Quarterdeck",
    version="1",
    description="A list of IDs goes in, every ID gets its minute, and what became of it can be read.",
    openapi_url=None,
    docs_url=None,
    servers=[{"url": "/"}],
)
problems.install(api)
api.add_decorator(known_parameters_only)
for router in (tasks.router, users.router, ids.router, queues.router, windows.router):
    api.add_router("", router)


@csrf_exempt
def nothing_here(request: HttpRequest, path: str) -> HttpResponse:
    return problems.problem("not-found", "Nothing is here; /openapi.json says what there is.")


# The last pattern of ninja's is a page of its own at the root.
_endpoints = both_spellings(api.urls[0][:-1])
_ours = [
    *_endpoints,
    *both_spellings(
        [
            path("openapi.json/", openapi_json, {"api": api}, name="openapi"),
            path("docs/", docs, {"api": api}, name="docs"),
            path("healthz/live/", status.live, name="live"),
            path("healthz/ready/", status.ready, name="ready"),
            path("metrics/", status.metrics, name="metrics"),
        ]
    ),
    # Not what belongs to the pages: those answer in their own way.
    re_path(rf"^(?!(?:{PAGE_ROOTS})(?:/|$))(?P<path>.+)$", served(nothing_here)),
]
# The name by which the sign-in middleware knows that these have doors of their own.
urlpatterns = [path("", include((_ours, "ninja"), namespace="api"))]
