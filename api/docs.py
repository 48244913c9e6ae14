"""The description for programs, and a page to read it."""

from collections.abc import Iterator
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import orjson
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt

from .auth import READERS, behind
from .openapi import Api
from .problems import KINDS, TYPE


@lru_cache(maxsize=1)
def schema_of(api: Api) -> dict[str, Any]:
    """The description, as plain JSON values; made once, since it doesn't change while we run."""
    return orjson.loads(orjson.dumps(api.get_openapi_schema(), option=orjson.OPT_NON_STR_KEYS))


@csrf_exempt
@behind(READERS)
def openapi_json(request: HttpRequest, api: Api) -> HttpResponse:
    return HttpResponse(
        orjson.dumps(schema_of(api), option=orjson.OPT_INDENT_2), content_type="application/json"
    )


@csrf_exempt
def docs(request: HttpRequest, api: Api) -> HttpResponse:
    """The description as a page. A browser without a session gets the sign-in page, a program a 401."""
    is_browser = request.get_preferred_type(["text/html", "application/json"]) == "text/html"
    asks_as_browser = is_browser and "text/html" in request.headers.get("Accept", "")
    if asks_as_browser and "Authorization" not in request.headers and not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    return _page(request, api=api)


@behind(READERS)
def _page(request: HttpRequest, api: Api) -> HttpResponse:
    schema = schema_of(api)
    problems = [(TYPE + kind, *facts) for kind, facts in KINDS.items()]
    return render(
        request,
        "api/docs.html",
        {
            "info": schema["info"],
            "groups": _groups(schema),
            "problems": problems,
            "schemas": _schemas(schema),
        },
    )


def _groups(schema: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Endpoints by tag, in the order of the description."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            groups.setdefault(tag, []).append(_endpoint(path, method, operation))
    return list(groups.items())


def _endpoint(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {})
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": operation["summary"],
        "paragraphs": [_marked(text) for text in operation.get("description", "").split("\n\n")],
        "parameters": [_parameter(parameter) for parameter in operation["parameters"]],
        "body": _marked(body.get("description", "")),
        "types": [
            (kind, _example(content.get("example"))) for kind, content in body.get("content", {}).items()
        ],
        "answers": [
            (
                status,
                response.get("description") or HTTPStatus(int(status)).phrase,
                ", ".join(_named(response)),
            )
            for status, response in sorted(operation["responses"].items())
        ],
    }


def _marked(text: str) -> list[tuple[str, bool]]:
    """Text in pieces, each with whether it stood between backticks."""
    return [(piece, n % 2 == 1) for n, piece in enumerate(text.split("`")) if piece]


def _example(value: Any) -> str | None:
    """A value as it is sent: text as it stands, all else as JSON."""
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    schema = parameter["schema"]
    either = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    words = [word for one in either for word in one.get("enum", [])]
    return {
        "name": parameter["name"],
        "where": parameter["in"],
        "required": parameter["required"],
        "form": " | ".join(words) or either[0].get("format") or either[0].get("type", ""),
        "default": _example(schema.get("default")),
        "description": parameter.get("description", ""),
    }


def _named(response: dict[str, Any]) -> Iterator[str]:
    """The schemas that an answer has, by name."""
    for kind, content in response.get("content", {}).items():
        schema = content["schema"]
        one_of = schema.get("anyOf", [schema])
        names = [one.get("$ref") or one.get("items", {}).get("$ref", "") for one in one_of]
        named = " or ".join(name.rpartition("/")[2] for name in names if name)
        yield f"{kind}: {'list of ' if schema.get('type') == 'array' else ''}{named}" if named else kind


def _schemas(schema: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each named schema with its fields and their types."""
    return [
        (name, [(field, _type(facts)) for field, facts in definition.get("properties", {}).items()])
        for name, definition in sorted(schema["components"]["schemas"].items())
        if definition.get("properties")
    ]


def _type(facts: dict[str, Any]) -> str:
    if "$ref" in facts:
        return facts["$ref"].rpartition("/")[2]
    if "anyOf" in facts:
        return " or ".join(_type(one) for one in facts["anyOf"])
    if facts.get("type") == "array":
        return f"list of {_type(facts.get('items', {}))}"
    if "enum" in facts:
        return " | ".join(map(str, facts["enum"]))
    return facts.get("format") or facts.get("type", "anything")
