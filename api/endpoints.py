"""What all endpoints share: both forms of a path, HEAD, OPTIONS, 405, and no unknown query parameters."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt

from api.problems import Problem, bad_parameter, problem_response
from api.schemas import Problem as ProblemSchema

View = Callable[..., HttpResponse]

# Problems that any endpoint may respond with, and those of one that reads a body.
ANY_ENDPOINT = (400, 401, 403, 429, 500, 503)
WITH_BODY = (408, 411, 413, 415, 422, 507)


def responses(schema: Any, *problems: int, status: int = 200) -> dict[int, Any]:
    """Return the responses of an endpoint, for its description."""
    return {status: schema} | dict.fromkeys(sorted({*ANY_ENDPOINT, *problems}), ProblemSchema)


def known_parameters_only(view: Any) -> View:
    """Refuse query parameters that the view doesn't have, that are given twice, or that contain a zero byte."""
    names = {
        name
        for model in view._ninja_operation.models
        if model.__ninja_param_source__ == "query"
        for name in model.__ninja_flatten_map__
    }

    @wraps(view)
    def refuse_others(request: HttpRequest, **values: Any) -> Any:
        for name, texts in request.GET.lists():
            if name not in names:
                accepted = ", ".join(sorted(names)) or "none"
                raise Problem(
                    "unknown-parameter",
                    f"There is no query parameter {name} here. The query parameters are: {accepted}.",
                    places=[{"parameter": name, "reason": "There is no such query parameter here."}],
                )
            if len(texts) > 1:
                raise bad_parameter(name, "It is given more than once.")
            if "\0" in texts[0]:
                raise bad_parameter(name, "It contains a zero byte.")
        return view(request, **values)

    return refuse_others


def completed(view: View) -> View:
    """Add to a view what Ninja leaves out: HEAD, OPTIONS, a problem for a 405, and no caching."""

    @wraps(view)
    def complete(request: HttpRequest, **values: Any) -> HttpResponse:
        method = request.method
        if method == "HEAD":
            request.method = "GET"
        try:
            response = view(request, **values)
        finally:
            request.method = method
        if response.status_code == 405:
            allowed = _allowed_methods(response["Allow"])
            response = options(allowed) if method == "OPTIONS" else wrong_method(method, allowed)
        if ignored := getattr(request, "ignored_fields", None):
            response["Warning"] = f'299 - "Unknown fields were ignored: {_ascii(", ".join(ignored))}"'
        # What a response shows changes each second while its tag stays the same.
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return complete


def _ascii(text: str) -> str:
    """Make text of the client safe for a quoted string in a header."""
    return text.encode("ascii", "backslashreplace").decode().replace("\\", "/").replace('"', "'")[:500]


def _allowed_methods(header: str) -> str:
    names = {name.strip() for name in header.split(",")} | {"OPTIONS"}
    if "GET" in names:
        names.add("HEAD")
    return ", ".join(sorted(names))


def wrong_method(method: str | None, allowed: str) -> HttpResponse:
    return problem_response(
        "wrong-method", f"{method} is not allowed here. Allowed are: {allowed}.", headers={"Allow": allowed}
    )


def options(allowed: str) -> HttpResponse:
    """Respond to OPTIONS, which needs no credentials: browsers send it without them."""
    return HttpResponse(status=204, headers={"Allow": allowed})


def read_only(view: View) -> View:
    """Respond to anything but GET and HEAD with 405."""

    @csrf_exempt
    @wraps(view)
    def guarded(request: HttpRequest, **values: Any) -> HttpResponse:
        return view(request, **values) if request.method == "GET" else wrong_method(request.method, "GET")

    return guarded


def with_and_without_slash(patterns: list[URLPattern]) -> list[URLPattern]:
    """Route each path with and without its final slash: a redirect would lose the body of a POST."""
    routed: list[URLPattern] = []
    # Ninja makes a pattern for each method, all with the same view.
    for route, pattern in {str(pattern.pattern).rstrip("/"): pattern for pattern in patterns}.items():
        view = completed(pattern.callback)
        for form in (route + "/", route):
            routed.append(path(form, view, pattern.default_args, name=pattern.name))
    return routed
