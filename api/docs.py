"""The OpenAPI document, and a page for reading it."""

from collections.abc import Iterator
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import orjson
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt

from api.auth import CAN_READ, requires
from api.endpoints import read_only
from api.openapi import Api
from api.problems import KINDS, TYPE
from api.responses import preferred_type, revalidated


@lru_cache(maxsize=1)
def schema_of(api: Api) -> dict[str, Any]:
    """Return the OpenAPI document as plain JSON values. It is made once, since it doesn't change at runtime."""
    document: dict[str, Any] = orjson.loads(
        orjson.dumps(api.get_openapi_schema(), option=orjson.OPT_NON_STR_KEYS)
    )
    return document


@read_only
def openapi_json(request: HttpRequest, api: Api) -> HttpResponse:
    """Return the OpenAPI document. It is the same for everyone, and readable without credentials."""
    content = orjson.dumps(schema_of(api), option=orjson.OPT_INDENT_2)
    return revalidated(request, HttpResponse(content, content_type="application/json"))


@csrf_exempt
def docs(request: HttpRequest, api: Api) -> HttpResponse:
    """Show the document as a page. A browser without a session gets the sign-in page, a program a 401."""
    is_browser = preferred_type(request, ["text/html", "application/json"]) == "text/html"
    is_browser = is_browser and "text/html" in request.headers.get("Accept", "")
    if is_browser and "Authorization" not in request.headers and not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    return _page(request, api=api)


@requires(CAN_READ)
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
    """Group the endpoints by tag, in the order of the document."""
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
        "paragraphs": [_code_marked(text) for text in operation.get("description", "").split("\n\n")],
        "parameters": [_parameter(parameter) for parameter in operation["parameters"]],
        "body": _code_marked(body.get("description", "")),
        "types": [
            (kind, _example(content.get("example"))) for kind, content in body.get("content", {}).items()
        ],
        "answers": [
            (
                status,
                response.get("description") or HTTPStatus(int(status)).phrase,
                ", ".join(_response_types(response)),
            )
            for status, response in sorted(operation["responses"].items())
        ],
    }


def _code_marked(text: str) -> list[tuple[str, bool]]:
    """Split text into parts, each with whether it was between backticks."""
    return [(part, n % 2 == 1) for n, part in enumerate(text.split("`")) if part]


def _example(value: Any) -> str | None:
    """Format a value as it is sent: text unchanged, anything else as JSON."""
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    schema = parameter["schema"]
    either = [variant for variant in schema.get("anyOf", [schema]) if variant.get("type") != "null"]
    words = [word for variant in either for word in variant.get("enum", [])]
    return {
        "name": parameter["name"],
        "where": parameter["in"],
        "required": parameter["required"],
        "form": " | ".join(words) or either[0].get("format") or either[0].get("type", ""),
        "default": _example(schema.get("default")),
        "description": parameter.get("description", ""),
    }


def _response_types(response: dict[str, Any]) -> Iterator[str]:
    """Yield each media type of a response with the names of its schemas."""
    for kind, content in response.get("content", {}).items():
        schema = content["schema"]
        one_of = schema.get("anyOf", [schema])
        names = [variant.get("$ref") or variant.get("items", {}).get("$ref", "") for variant in one_of]
        named = " or ".join(name.rpartition("/")[2] for name in names if name)
        yield f"{kind}: {'list of ' if schema.get('type') == 'array' else ''}{named}" if named else kind


def _schemas(schema: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """List each named schema with its fields and their types."""
    return [
        (name, [(field, _type(facts)) for field, facts in definition.get("properties", {}).items()])
        for name, definition in sorted(schema["components"]["schemas"].items())
        if definition.get("properties")
    ]


def _type(facts: dict[str, Any]) -> str:
    if "$ref" in facts:
        return str(facts["$ref"]).rpartition("/")[2]
    if "anyOf" in facts:
        return " or ".join(_type(variant) for variant in facts["anyOf"])
    if facts.get("type") == "array":
        return f"list of {_type(facts.get('items', {}))}"
    if "enum" in facts:
        return " | ".join(map(str, facts["enum"]))
    return str(facts.get("format") or facts.get("type", "anything"))
