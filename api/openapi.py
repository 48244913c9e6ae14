"""The OpenAPI document: what Ninja derives from the views, and what it can't know."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import orjson
from django.conf import settings
from ninja import NinjaAPI, Schema
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

from api import descriptions
from api.auth import Access, SubmitAccess
from api.fields import CANARY_SCHEMA
from api.problems import MEDIA_TYPE
from operators.roles import Permission
from scheduling.models import ALERT_TYPES, AlertKind, EventType, Status
from scheduling.parsing.body import FIELDS
from scheduling.placement.reservations import Start

_ID = {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9223372036854775807}
_LIST = [
    {"type": "string"},
    _ID,
    {
        "type": "array",
        "items": {
            "oneOf": [
                _ID,
                {"type": "string", "pattern": "^[0-9]{1,19}$"},
                {"type": "object", "properties": {"id": {"type": ["integer", "string"]}}, "required": ["id"]},
            ]
        },
    },
]
_ID_TYPE = {"type": ["string", "null"], "enum": ["integer", "text", None]}
_HEADER = {"type": ["boolean", "null"]}
_DATA = {"type": ["string", "array", "null"], "items": {"type": "string"}}
_TIME = {"type": ["string", "null"], "format": "date-time", "minLength": 20}
_NAME = {"type": "string", "minLength": 1, "maxLength": 200}
_START = {"type": "string", "enum": [start.value for start in Start]}
# Of a new list only: an edit can't choose them.
_NEW_LIST = {
    "deadline": _TIME,
    "max_failed_percent": {"type": ["number", "null"], "minimum": 0, "exclusiveMaximum": 100},
    "min_finished": {"type": ["integer", "null"], "minimum": 1},
    "canary": CANARY_SCHEMA | {"type": ["object", "null"]},
}
_NEW_LIST_FORM = {
    "deadline": {"type": "string", "format": "date-time"},
    "max_failed_percent": {"type": "number", "minimum": 0, "exclusiveMaximum": 100},
    "min_finished": {"type": "integer", "minimum": 1},
    "canary": {"type": "string", "examples": ['{"ids": 100, "min_succeeded_percent": 98}']},
}
_REFERENCE = {"type": ["string", "null"], "minLength": 1, "maxLength": 200}
_FIELDS: dict[str, Any] = {
    "task_name": _NAME,
    "payload": {"oneOf": _LIST},
    "queue": {"type": ["string", "null"], "pattern": "^[-a-zA-Z0-9_]{1,50}$"},
    "column": {"type": ["string", "null"]},
    "sheet": {"type": ["string", "null"]},
    "id_type": _ID_TYPE,
    "header": _HEADER,
    "data": _DATA,
    "not_before": _TIME,
    "expires_at": _TIME,
}
_FORM: dict[str, Any] = {
    "task_name": _NAME,
    "payload": {"type": "string"},
    "queue": {"type": "string"},
    "column": {"type": "string"},
    "sheet": {"type": "string"},
    "id_type": {"type": "string", "enum": ["integer", "text"]},
    "header": {"type": "boolean"},
    "data": {"type": "string"},
    "not_before": {"type": "string", "format": "date-time"},
    "expires_at": {"type": "string", "format": "date-time"},
}
assert set(_FIELDS) | {"id"} == FIELDS | {"payload"}
_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
_EDIT = _FIELDS | {"payload": {"oneOf": [*_LIST, {"type": "null"}]}}


def _object(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


# Bodies that are read as streams, and what others receive from us: Ninja knows none of them.
_SCHEMAS: dict[str, dict[str, Any]] = {
    "ListSubmission": _object(_FIELDS | _NEW_LIST | {"start": _START, "reference": _REFERENCE}, "payload"),
    "ListForm": _object(_FORM | _NEW_LIST_FORM | {"start": _START, "file": _FILE}),
    "TaskEdit": _object(_EDIT),
    "TaskEditById": _object(_EDIT | {"id": _ID}, "id"),
    "TaskEditForm": _object(_FORM | {"file": _FILE}),
    "TaskEditFormById": _object(_FORM | {"id": _ID}, "id"),
}


def _ref(name: str) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


_RAW = {
    "text/plain": {"schema": {"type": "string"}, "example": "1001,1002\n1003"},
    "text/csv": {"schema": {"type": "string"}, "example": "user_id,name\n1001,Ann\n1002,Bo\n"},
    # No example: tools that try examples can't encode this one.
    "application/x-ndjson": {
        "schema": {"type": "string", "description": 'One per line: 1001, "1002", or {"user_id": 1003}.'}
    },
}
LIST_BODY: dict[str, Any] = {
    "required": True,
    "description": "The list, of any length. Each type may be sent with `Content-Encoding: gzip`.",
    "content": {
        "application/json": _ref("ListSubmission")
        | {"example": {"task_name": "November", "payload": [1001, "1002"]}},
        **_RAW,
        "multipart/form-data": _ref("ListForm"),
        "application/x-www-form-urlencoded": _ref("ListForm"),
    },
}
EDIT_BODY: dict[str, Any] = {
    "required": True,
    "description": "What changes. Read-only fields are ignored. A payload that is null or absent changes nothing.",
    "content": {
        "application/json": _ref("TaskEdit") | {"example": {"task_name": "November"}},
        "application/merge-patch+json": _ref("TaskEdit"),
        **_RAW,
        "multipart/form-data": _ref("TaskEditForm"),
        "application/x-www-form-urlencoded": _ref("TaskEditForm"),
    },
}
EDIT_BODY_WITH_ID: dict[str, Any] = {
    "required": True,
    "description": EDIT_BODY["description"],
    "content": {
        "application/json": _ref("TaskEditById"),
        "application/merge-patch+json": _ref("TaskEditById"),
        "multipart/form-data": _ref("TaskEditFormById"),
        "application/x-www-form-urlencoded": _ref("TaskEditFormById"),
    },
}

_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Idempotency-Key": (
        "For 7 days, the same key with the same content returns the same response.",
        {"type": "string", "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    ),
    "If-None-Match": (
        "The ETag that was read. If nothing has changed since, the response is 304.",
        {"type": "string"},
    ),
    "If-Match": (
        "The ETag that was read, in its quotes. If the resource has changed since, the response is 412.",
        {"type": "string"},
    ),
}
_SENT = {
    "ETag": {"description": "The edit version. Progress doesn't change it.", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "`true` if this is the response of an earlier request with the same key.",
        "schema": {"type": "string"},
    },
    "Link": {"description": 'The next page: `<https://...>; rel="next"`.', "schema": {"type": "string"}},
    "Location": {
        "description": "The address of the new resource, relative to this one.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "How many seconds to wait before the next try.",
        "schema": {"type": "string"},
    },
}


def fields_body(schema: type[Schema], *, patch: bool = False) -> dict[str, Any]:
    """Describe the body of an endpoint that takes a few fields."""
    described = schema.model_json_schema(ref_template="#/components/schemas/{model}")
    if patch:
        # Absent fields stay as they are, so there are no defaults.
        for facts in described["properties"].values():
            facts.pop("default", None)
    _SCHEMAS.update(described.pop("$defs", {}))
    _SCHEMAS[schema.__name__] = described
    kinds = ["application/json", *(["application/merge-patch+json"] if patch else [])]
    return {"required": True, "content": dict.fromkeys(kinds, _ref(schema.__name__))}


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
        document = super().get_openapi_schema(path_prefix="")
        components = document["components"]
        components["schemas"] |= _SCHEMAS | _webhook_schemas()
        required = {
            operation.operation_id: cast(Access, operation.auth_callbacks[0])
            for operation in self.operations()
        }
        for path in document["paths"].values():
            for operation in path.values():
                _complete(operation, required[operation["operationId"]], components["schemas"])
        _remove_unused(document)
        for name, schema in components["schemas"].items():
            _describe_schema(name, schema)
        components["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token: `Authorization: Bearer qd_...`.",
            },
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": settings.SESSION_COOKIE_NAME,
                "description": "The session of an operator who has signed in.",
            },
        }
        components["headers"] = {
            "X-Request-ID": {
                "description": "The ID of the request: your own, or a new one. It is in the log too.",
                "schema": {"type": "string"},
            }
        }
        document["webhooks"] = _webhooks()
        document["tags"] = [{"name": name, "description": text} for name, text in descriptions.TAGS.items()]
        document["info"] |= {
            "license": {"name": "MIT", "identifier": "MIT"},
            "contact": {"name": "The operators of this service"},
        }
        return document

    def operations(self) -> Iterator[Operation]:
        """Yield every operation, as it is bound to its path."""
        for router in self._get_bound_routers():
            for view in router.path_operations.values():
                yield from view.operations


def _remove_unused(document: dict[str, Any]) -> None:
    """Remove schemas that nothing refers to: those of query parameters, which are described one by one."""
    schemas = document["components"]["schemas"]
    used = {*_webhook_schemas()}
    while names := set(re.findall(r'"#/components/schemas/(\w+)"', _json(document, schemas, used))) - used:
        used |= names
    for name in set(schemas) - used:
        del schemas[name]


def _json(document: Mapping[str, Any], schemas: Mapping[str, Any], used: Iterable[str]) -> str:
    parts = [document["paths"], {name: schemas[name] for name in used}]
    return orjson.dumps(parts, option=orjson.OPT_NON_STR_KEYS).decode()


def _describe_schema(name: str, schema: dict[str, Any]) -> None:
    schema.setdefault("title", name)
    if name in descriptions.SCHEMAS:
        schema["description"] = descriptions.SCHEMAS[name]
    for field, facts in schema.get("properties", {}).items():
        facts.pop("title", None)
        text = descriptions.describe(name, field)
        if text is not None:
            facts["description"] = text


def _webhook_schemas() -> dict[str, dict[str, Any]]:
    time = {"type": "string", "format": "date-time"}
    text = {"type": "string"}
    counts = {name: {"type": "integer", "format": "int64", "minimum": 0} for name in ("ids", "repeats")}
    counts |= {status.word: counts["ids"] for status in Status}
    call = {"user_id": _ID, "user_id_str": text, "task_id": _ID, "task_name": text, "queue": text}
    call |= {"planned_at": time, "attempt": {"type": "integer", "minimum": 1}}
    done = {
        "type": {"type": "string", "enum": ["task.done"]},
        "task_id": _ID,
        "task_name": text,
        "queue": text,
    }
    done |= {
        "state": {"type": "string", "enum": ["done"]},
        "counts": _object(counts, *counts),
        "finished_at": time,
    }
    return {
        "WebhookCall": _object(call, *call),
        "TaskDone": _object(done, *done),
        **_event_schemas(done),
    }


# The events by the names of their schemas, with their types.
_EVENTS = {
    "TaskDone": (EventType.TASK_DONE,),
    "TaskOnHold": (EventType.TASK_ON_HOLD,),
    "TaskCancelled": (EventType.TASK_CANCELLED,),
    "TargetBlocked": (EventType.TARGET_BLOCKED,),
    "Alert": ALERT_TYPES,
}


def _event_schemas(done: dict[str, Any]) -> dict[str, dict[str, Any]]:
    time = {"type": "string", "format": "date-time"}
    no_time, text = {"type": ["string", "null"], "format": "date-time"}, {"type": "string"}
    count = {"type": "integer", "format": "int64", "minimum": 0}
    task = {name: done[name] for name in ("task_id", "task_name", "queue")}
    alert = {"subject": text, "summary": text, "started_at": time, "repeat": count, "url": text}
    data: dict[str, dict[str, Any]] = {
        "TaskDone": {name: facts for name, facts in done.items() if name != "type"},
        "TaskOnHold": {**task, "reason": text, "held_at": time},
        "TaskCancelled": {
            **task,
            **dict.fromkeys(("cancelled", "already_sent", "in_flight"), count),
            "cancelled_at": time,
        },
        "TargetBlocked": {"origin": text, "reason": text, "blocked_at": time, "blocked_until": no_time},
        "Alert": {
            "kind": {"type": ["string", "null"], "enum": [*AlertKind.values, None]},
            "subject": text,
            "started_at": time,
            "ended_at": no_time,
            "repeat": count,
            "count": count,
            "alerts": {"type": "array", "items": _object(alert, *alert)},
            "runbook": text,
            "docs": text,
            "test": {"type": "boolean"},
        },
    }
    schemas = {}
    for name, types in _EVENTS.items():
        facts = {**data[name], "summary": text, "url": text}
        schemas[f"{name}Data"] = _object(facts, *facts)
        event = {
            "type": {"type": "string", "enum": [str(event_type) for event_type in types]},
            "timestamp": time,
            "data": {"$ref": f"#/components/schemas/{name}Data"},
        }
        schemas[f"{name}Event"] = _object(event, *event)
    return schemas


def _webhooks() -> dict[str, Any]:
    signed = {
        "webhook-id": "The same for every attempt at one ID of one task.",
        "webhook-timestamp": "When the request was signed, in seconds since 1970.",
        "webhook-signature": "One or more signatures, as the Standard Webhooks specification describes.",
        "Idempotency-Key": "Equal to `webhook-id`.",
    }
    parameters = [
        {"in": "header", "name": name, "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in signed.items()
    ]
    calls = {
        "id": ("receive_id", "One ID in its minute", "WebhookCall", "The ID has succeeded."),
        "task.done": (
            "receive_task_done",
            "A task is done",
            "TaskDone",
            "The call has succeeded, and is not repeated.",
        ),
    }
    calls |= {
        f"event.{event_type}": (
            f"receive_event_{event_type.name.lower()}",
            f"Event {event_type.value}: {event_type.label}",
            f"{name}Event",
            "The event has been delivered.",
        )
        for name, types in _EVENTS.items()
        for event_type in types
    }
    return {
        name: {
            "post": {
                "operationId": operation_id,
                "tags": ["Queues"],
                "summary": summary,
                "description": f"{descriptions.SCHEMAS[schema]} docs/webhooks.md explains signatures and responses.",
                "security": [],
                "parameters": parameters,
                "requestBody": {"required": True, "content": {"application/json": _ref(schema)}},
                "responses": {
                    "2XX": {"description": accepted},
                    "4XX": {"description": "Some of these statuses are retried, the others are final."},
                    "5XX": {"description": "The request is retried a few minutes later."},
                },
            }
        }
        for name, (operation_id, summary, schema, accepted) in calls.items()
    }


def _complete(operation: dict[str, Any], access: Access, named: Mapping[str, Any]) -> None:
    operation["security"] = [{"token": []}, {"session": []}]
    operation["description"] = f"{operation.get('description', '')}\n\n{_callers(access)}".strip()
    for parameter in operation["parameters"]:
        parameter["schema"] = _plain(parameter["schema"], named)
        parameter["schema"].pop("title", None)
        # The schema has the examples too, as a list. On the parameter itself they would have to be a map.
        parameter.pop("examples", None)
        parameter.setdefault("description", descriptions.FIELDS.get(parameter["name"], ""))
    for status, response in operation["responses"].items():
        response["description"] = response.get("description") or HTTPStatus(int(status)).phrase
        response.setdefault("headers", {})["X-Request-ID"] = {"$ref": "#/components/headers/X-Request-ID"}
        if int(status) >= 400 and "application/json" in response.get("content", {}):
            response["content"] = {MEDIA_TYPE: response["content"]["application/json"]}


def _callers(access: Access) -> str:
    """Return a sentence that says who may send a request."""
    if access.act == Permission.VIEW:
        return "Needs a token with the scope read or write, or the session of any operator."
    session = "which sends its CSRF token in X-CSRFToken"
    if access.act == Permission.ADMINISTER:
        return (
            "Needs a token with the scope write that belongs to an admin or to nobody, or the session of an admin,"
            f" {session}."
        )
    scopes = "write or submit" if isinstance(access, SubmitAccess) else "write"
    return f"Needs a token with the scope {scopes}, or the session of an operator or an admin, {session}."


def _plain(schema: dict[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter that is given: a URL has no null, only absent parameters."""
    variants = [variant for variant in schema.get("anyOf", []) if variant.get("type") != "null"]
    if len(variants) == 1:
        schema = {
            name: value for name, value in schema.items() if name not in ("anyOf", "default")
        } | variants[0]
    if "$ref" in schema:
        schema = named[schema["$ref"].rpartition("/")[2]]
    return dict(schema)
