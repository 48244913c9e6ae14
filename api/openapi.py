"""The OpenAPI document: what Ninja finds out by itself, and what only we know."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from django.conf import settings
from ninja import NinjaAPI, Schema
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

from api.auth import Access
from api.problems import MEDIA_TYPE
from operators.roles import Permission
from scheduling.parsing.body import FIELDS

_LIST = {
    "oneOf": [
        {"type": "string", "description": "Read like plain text."},
        {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9223372036854775807},
        {
            "type": "array",
            "items": {
                "oneOf": [
                    {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9223372036854775807},
                    {"type": "string", "pattern": "^[0-9]{1,19}$"},
                ]
            },
        },
    ]
}
_TIME = {"type": ["string", "null"], "format": "date-time", "minLength": 20}
_NAME = {"type": "string", "minLength": 1, "maxLength": 200}
_QUEUE = {"type": ["string", "null"], "pattern": "^[-a-zA-Z0-9_]{1,50}$"}
_FIELDS = {
    "task_name": _NAME,
    "payload": _LIST,
    "queue": _QUEUE,
    "column": {"type": ["string", "null"]},
    "sheet": {"type": ["string", "null"]},
    "not_before": _TIME,
    "expires_at": _TIME,
}
_FORM = {
    "task_name": _NAME,
    "payload": {"type": "string"},
    "queue": {"type": "string"},
    "column": {"type": "string"},
    "sheet": {"type": "string"},
    "not_before": {"type": "string", "format": "date-time"},
    "expires_at": {"type": "string", "format": "date-time"},
}
_RAW = {
    "text/plain": {"schema": {"type": "string"}, "example": "1001,1002\n1003"},
    "text/csv": {"schema": {"type": "string"}, "example": "user_id,name\n1001,Ann\n1002,Bo\n"},
    # No example: tools that try examples can't encode this one.
    "application/x-ndjson": {
        "schema": {"type": "string", "description": 'One per line: 1001, "1002", or {"user_id": 1003}.'}
    },
}


def _object(properties: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    return {"schema": {"type": "object", "properties": dict(properties), "required": list(required)}}


LIST_BODY: dict[str, Any] = {
    "required": True,
    "description": "The list, of any length. Each type may be sent with `Content-Encoding: gzip`.",
    "content": {
        "application/json": _object(_FIELDS, ["payload"])
        | {"example": {"task_name": "November", "payload": [1001, "1002"]}},
        **_RAW,
        "multipart/form-data": _object(
            _FORM | {"file": {"type": "string", "contentMediaType": "application/octet-stream"}}
        ),
        "application/x-www-form-urlencoded": _object(_FORM, ["payload"]),
    },
}
_EDIT = _FIELDS | {"payload": {"oneOf": [*_LIST["oneOf"], {"type": "null"}]}}
EDIT_BODY = {
    "required": True,
    "description": "What changes. Read-only fields are ignored. A payload that is null or absent changes nothing.",
    "content": {
        "application/json": _object(_EDIT) | {"example": {"task_name": "November"}},
        "application/merge-patch+json": _object(_EDIT),
        **_RAW,
        "multipart/form-data": LIST_BODY["content"]["multipart/form-data"],
        "application/x-www-form-urlencoded": _object(_FORM),
    },
}
_ID = {"id": {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9223372036854775807}}
EDIT_BODY_WITH_ID = {
    "required": True,
    "description": EDIT_BODY["description"],
    "content": {
        "application/json": _object(_EDIT | _ID, ["id"]),
        "application/merge-patch+json": _object(_EDIT | _ID, ["id"]),
        "multipart/form-data": _object(_FORM | _ID, ["id"]),
        "application/x-www-form-urlencoded": _object(_FORM | _ID, ["id"]),
    },
}
assert set(_FIELDS) | {"id"} == FIELDS | {"payload"}

_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Idempotency-Key": (
        "For 7 days, the same key with the same content returns the same response.",
        {"type": "string", "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    ),
    "If-Match": (
        "The ETag that was read, in its quotes. If the resource has changed since, the response is 412.",
        {"type": "string"},
    ),
}
_SENT = {
    "ETag": {"description": "The edit version. Progress doesn't change it.", "schema": {"type": "string"}},
    "Link": {"description": 'The next page: `<?...>; rel="next"`.', "schema": {"type": "string"}},
    "Location": {"description": "The new resource, relative to this address.", "schema": {"type": "string"}},
    "Retry-After": {"description": "A number of seconds.", "schema": {"type": "string"}},
}


def fields_body(schema: type[Schema], *, patch: bool = False) -> dict[str, Any]:
    """Describe the body of an endpoint that takes a few fields."""
    described = {"schema": schema.model_json_schema(ref_template="#/components/schemas/{model}")}
    if patch:
        # Absent fields stay as they are, so there are no defaults.
        for facts in described["schema"]["properties"].values():
            facts.pop("default", None)
    kinds = ["application/json", *(["application/merge-patch+json"] if patch else [])]
    return {"required": True, "content": dict.fromkeys(kinds, described)}


def describe(
    *,
    body: Mapping[str, Any] | None = None,
    headers: Sequence[str] = (),
    sent: Mapping[int, Sequence[str]] | None = None,
    media: Sequence[str] = (),
) -> dict[str, Any]:
    """Describe what Ninja can't see: bodies read as streams, request headers, response headers and types."""
    extra: dict[str, Any] = {}
    if body is not None:
        extra["requestBody"] = body
    if headers:
        extra["parameters"] = [
            {"in": "header", "name": name, "required": False, "description": text, "schema": schema}
            for name in headers
            for text, schema in [_HEADERS[name]]
        ]
    responses: dict[int, Any] = {
        status: {"headers": {name: _SENT[name] for name in names}} for status, names in (sent or {}).items()
    }
    for kind in media:
        responses.setdefault(200, {}).setdefault("content", {})[kind] = {"schema": {"type": "string"}}
    if responses:
        extra["responses"] = responses
    return extra


class Api(NinjaAPI):
    """Ninja's API with a document that also covers problems, both ways to authenticate, and who is authorized."""

    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        schema = super().get_openapi_schema(path_prefix="")
        required = {
            operation.operation_id: cast(Access, operation.auth_callbacks[0])
            for operation in self.operations()
        }
        for path in schema["paths"].values():
            for operation in path.values():
                _complete(operation, required[operation["operationId"]], schema["components"]["schemas"])
        schema["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME},
        }
        return schema

    def operations(self) -> Iterator[Operation]:
        """Yield every operation, as it is bound to its path."""
        for router in self._get_bound_routers():
            for view in router.path_operations.values():
                yield from view.operations


def _complete(operation: dict[str, Any], access: Access, named: Mapping[str, Any]) -> None:
    operation["security"] = [{"token": []}, {"session": []}]
    who = (
        "a token of either scope, and every operator"
        if access.act == Permission.VIEW
        else (
            "a token with the scope write, and operators who may act. A session sends its CSRF token in X-CSRFToken"
        )
    )
    operation["description"] = f"{operation.get('description', '')}\n\nFor {who}.".strip()
    for parameter in operation["parameters"]:
        parameter["schema"] = _plain(parameter["schema"], named)
    for status, response in operation["responses"].items():
        if int(status) >= 400 and "application/json" in response.get("content", {}):
            response["content"] = {MEDIA_TYPE: response["content"]["application/json"]}


def _plain(schema: dict[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter that is given: a URL has no null, only absent parameters."""
    variants = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    if len(variants) == 1:
        schema = {
            name: value for name, value in schema.items() if name not in ("anyOf", "default")
        } | variants[0]
    if "$ref" in schema:
        schema = named[schema["$ref"].rpartition("/")[2]]
    return schema
