"""What all endpoints have in common: both spellings of a path, HEAD, 405, no unknown parameters."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from .problems import Problem, bad_parameter, problem
from .schemas import Problem as ProblemSchema

# What any endpoint behind a door may answer.
EVERYWHERE = (400, 401, 403, 500, 503)
# What any endpoint that reads a body may answer.
WITH_BODY = (411, 413, 415, 422, 507)


def answers(schema: Any, *problems: int, status: int = 200) -> dict[int, Any]:
    """Return what an endpoint may answer, for its description."""
    return {status: schema} | dict.fromkeys(sorted({*EVERYWHERE, *problems}), ProblemSchema)


def known_parameters_only(view: Callable) -> Callable:
    """Refuse query parameters that the view doesn't take, that come twice, or that hold a zero byte."""
    names = {
        name
        for model in view._ninja_operation.models
        if model.__ninja_param_source__ == "query"
        for name in model.__ninja_flatten_map__
    }

    @wraps(view)
    def checked(request: HttpRequest, **values: Any) -> Any:
        for name, given in request.GET.lists():
            if name not in names:
                accepted = ", ".join(sorted(names)) or "none"
                raise Problem(
                    "unknown-parameter",
                    f"There is no query parameter {name} here; there are: {accepted}.",
                    places=[{"parameter": name, "reason": "there is no such query parameter here"}],
                )
            if len(given) > 1:
                raise bad_parameter(name, "it is given more than once")
            if "\0" in given[0]:
                raise bad_parameter(name, "it holds a zero byte")
        return view(request, **values)

    return checked


def served(view: Callable) -> Callable:
    """Add to a view of ninja's what it leaves out: HEAD, a 405 that is a problem, and no caching."""

    @wraps(view)
    def whole(request: HttpRequest, **values: Any) -> HttpResponse:
        asked = request.method
        if asked == "HEAD":
            request.method = "GET"
        try:
            answer = view(request, **values)
        finally:
            request.method = asked
        if answer.status_code == 405:
            answer = wrong_method(asked, answer["Allow"])
        # What an answer shows changes each second without its tag changing.
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    return whole


def wrong_method(method: str | None, allowed: str) -> HttpResponse:
    names = {name.strip() for name in allowed.split(",")}
    if "GET" in names:
        names.add("HEAD")
    listed = ", ".join(sorted(names))
    return problem(
        "wrong-method", f"{method} does not exist here; there are: {listed}.", headers={"Allow": listed}
    )


def both_spellings(patterns: list[URLPattern]) -> list[URLPattern]:
    """Route each path with and without its final slash: a redirect would lose the body of a POST."""
    routed: list[URLPattern] = []
    # Ninja gives a pattern for each method, all with the same view.
    for route, pattern in {str(pattern.pattern).rstrip("/"): pattern for pattern in patterns}.items():
        view = served(pattern.callback)
        for spelling in (route + "/", route):
            routed.append(path(spelling, view, pattern.default_args, name=pattern.name))
    return routed
