"""The values that a queue's fields may have. Interfaces check what they read; these checks decide."""

import base64
import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.conf import settings

from scheduling import models
from scheduling.core import responses, templates
from scheduling.core.errors import BadFields, BadRule, BadTemplate
from scheduling.handlers import ssrf
from scheduling.handlers.webhook import KEEP_ALL, KEEP_UNEXPECTED
from scheduling.placement import shapes

# The fields that say how a queue's access token is fetched.
TOKEN_FIELDS = (
    "oauth_token_url",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_client_auth",
    "oauth_scope",
    "oauth_audience",
)
# The fields that may be set; `paused` and the brake have operations of their own.
FIELDS = (
    "rpm",
    "hours",
    "ramp",
    "quotas",
    "overflow",
    "max_share_percent",
    "max_peak",
    "handler",
    "max_attempts",
    "retry_delays_minutes",
    "late_policy",
    "late_after_seconds",
    "headroom",
    "breaker_threshold",
    "webhook_url",
    "webhook_method",
    "webhook_headers",
    "webhook_secret",
    *TOKEN_FIELDS,
    "webhook_body",
    "webhook_content_type",
    "webhook_sign",
    "success_statuses",
    "retry_statuses",
    "success_when",
    "keep_answers",
    "connect_timeout_seconds",
    "read_timeout_seconds",
    "max_connections",
    "python_callable",
    "callback_url",
)
# They can be written, and nobody can read them.
WRITE_ONLY = ("webhook_secret", "oauth_client_secret")
METHODS = ("POST", "PUT", "PATCH", "GET", "DELETE")
LONGEST_TIMEOUT = 20
LONGEST_OVERLAP_SECONDS = 30 * 24 * 3_600
LONGEST_DELAY_MINUTES = 7 * 24 * 60
SECRET_PREFIX = "whsec_"
SECRET_BYTES = (24, 64)  # Standard Webhooks: from 192 to 512 bits
MOST_HEADERS = 50
# The longest definition of sending hours, or of a ramp.
FORM_CHARACTERS = 20_000
MOST_QUOTAS = 5
_LARGEST = 2**31 - 1

_NAME = re.compile(r"[-a-zA-Z0-9_]{1,50}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
# Anything but control characters; beyond ASCII it is sent as UTF-8.
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]{0,4000}")
# The fields of an OAuth client, as RFC 6749 defines them, without what no header or form can contain.
_NO_CONTROLS = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")
_CONTENT_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+( *;[ -~]*)?", re.ASCII)
# Headers that the client writes itself, or that a receiver verifies.
_OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "keep-alive", "upgrade"}
    | {"te", "trailer", "expect", "proxy-connection", "idempotency-key"}
)


# Returns the reason why a value is invalid, or None.
Check = Callable[[Any], str | None]


def check_name(name: Any) -> None:
    """Check the name of a queue, or of shared hours. Raises BadFields."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadFields(name="It must have 1 to 50 characters: letters, digits, - and _.")


def check(changes: Mapping[str, Any]) -> None:
    """Check each field by itself. Raises BadFields with every reason. It looks up host names, so hold no lock."""
    reasons = {name: "There is no such field." for name in changes if name not in FIELDS}
    for name, value in changes.items():
        if name in _CHECKS and (reason := _CHECKS[name](value)):
            reasons[name] = reason
    if reasons:
        raise BadFields(**reasons)


def check_together(queue: models.Queue, changes: Mapping[str, Any]) -> None:
    """Check changes together with the fields that stay. Raises BadFields."""
    if reasons := _together(lambda name: changes.get(name, getattr(queue, name))):
        raise BadFields(**reasons)


def _together(value: Callable[[str], Any]) -> dict[str, str]:
    reasons = {}
    if value("headroom") >= value("rpm"):
        reasons["headroom"] = f"It must be below rpm ({value('rpm')})."
    if value("max_share_percent") < 100 and value("overflow") != models.Overflow.CARRY_OVER:
        # A list that disperses is done within its quarter-hour.
        reasons["max_share_percent"] = "It must be 100, unless overflow is carry_over."
    if value("handler") == models.HandlerKind.WEBHOOK and not value("webhook_url"):
        reasons["webhook_url"] = "The handler webhook needs a URL."
    if value("handler") == models.HandlerKind.PYTHON and not value("python_callable"):
        reasons["python_callable"] = "The handler python needs a callable."
    reasons |= _request_reasons(value)
    reasons |= _token_reasons(value)
    reasons |= _shape_reasons(value)
    return reasons


def _shape_reasons(value: Callable[[str], Any]) -> dict[str, str]:
    """Return the reasons why a queue's hours or ramp are invalid; each is read as the plan will read it."""
    reasons, hours = {}, value("hours")
    try:
        shapes.read(value("rpm"), hours, None)
    except ValueError as error:
        reasons["hours"], hours = str(error), None
    try:
        shapes.read(value("rpm"), hours, value("ramp"))
    except ValueError as error:
        reasons["ramp"] = str(error)
    return reasons


def _quotas(value: Any) -> str | None:
    names = {"limit", "per", "zone"}
    if not isinstance(value, list) or len(value) > MOST_QUOTAS:
        return f"It must be a list of at most {MOST_QUOTAS} quotas."
    if not all(isinstance(quota, Mapping) and set(quota) <= names for quota in value):
        return "Each quota must be an object with limit, per and zone."
    if reason := next(filter(None, (_typed(quota, "a quota", ("per", "zone")) for quota in value)), None):
        return reason
    try:
        shapes.read(1, None, None, value)
    except ValueError as error:
        return str(error)
    return None


def check_budget(fields: Mapping[str, Any]) -> None:
    """Check the fields of a target's budget. Raises BadFields."""
    reasons = {}
    for name, value in fields.items():
        if reason := _BUDGET[name](value) if name in _BUDGET else "There is no such field.":
            reasons[name] = reason
    # The operation looks up the name of shared hours.
    if "hours" not in reasons and not isinstance(fields.get("hours"), str):
        reasons |= _shape_reasons({"rpm": 1, "ramp": None, "hours": fields.get("hours")}.__getitem__)
    if reasons:
        raise BadFields(**reasons)


def _form(value: Any) -> str | None:
    if value is None or (isinstance(value, Mapping) and len(str(value)) <= FORM_CHARACTERS):
        return None
    return f"It must be an object of at most {FORM_CHARACTERS:,} characters, or null."


def _hours(value: Any) -> str | None:
    """Check the hours of a queue or a target: a form, which has no name, or the name of shared hours.

    The operation looks that name up.
    """
    if isinstance(value, str):
        return None
    if isinstance(value, Mapping) and "name" in value:
        return "Hours have no field 'name'."
    return _form(value) or _typed(value, "hours", ("zone",), ("closed",))


def _ramp(value: Any) -> str | None:
    return _form(value) or _typed(value, "a ramp", ("from", "unit"))


def _typed(value: Any, of: str, texts: Sequence[str], lists: Sequence[str] = ()) -> str | None:
    """Check that the fields that an object has are text, or lists of text."""
    form = value or {}
    for name in texts:
        if name in form and not isinstance(form[name], str):
            return f"The {name} of {of} must be text."
    for name in lists:
        if name in form and not (
            isinstance(form[name], list) and all(isinstance(o, str) for o in form[name])
        ):
            return f"The {name} of {of} must be a list of texts."
    return None


def _request_reasons(value: Callable[[str], Any]) -> dict[str, str]:
    """Return the reasons why a webhook's request, or the meaning of its responses, is invalid."""
    reasons = {}
    if value("webhook_body"):
        try:
            templates.parse_body(value("webhook_body"), value("webhook_content_type"))
        except BadTemplate as error:
            reasons["webhook_body"] = str(error)
    try:
        responses.Rules.parse(value("success_statuses"), value("retry_statuses"))
    except BadRule as error:
        reasons["retry_statuses"] = str(error)
    return reasons


def _token_reasons(value: Callable[[str], Any]) -> dict[str, str]:
    """Return the reasons why a queue's token can't be fetched, or has no place in the request."""
    if not value("oauth_token_url"):
        return {}
    needed = {
        "oauth_client_id": "The token server needs the client's ID.",
        "oauth_client_secret": "The token server needs the client's secret.",
    }
    reasons = {name: reason for name, reason in needed.items() if not value(name)}
    if any(name.lower() == "authorization" for name in value("webhook_headers")):
        reasons["webhook_headers"] = (
            "It can't contain Authorization, which the token of oauth_token_url sets."
        )
    return reasons


def check_secrets_stay(queue: models.Queue, changes: Mapping[str, Any]) -> None:
    """Check that no stored secret would be sent to another server, whose owner could read it. Raises BadFields.

    changes: as the caller sent them, with null for each header that keeps its value. The signing secret may stay,
    because it is never sent.
    """
    moved = [name for name in ("webhook_url", "oauth_token_url") if _is_moved(queue, changes, name)]
    reasons = {}
    headers = changes.get("webhook_headers", dict.fromkeys(queue.webhook_headers))
    names = [name for name, value in headers.items() if value is None]
    if names and "webhook_url" in moved:
        reasons["webhook_headers"] = (
            f"Enter the value of {', '.join(names)} again, because webhook_url names another server."
        )
    # The secret is sent to the token server, and the token that it buys is sent to the webhook's server.
    fetches = queue.oauth_client_secret and changes.get("oauth_token_url", queue.oauth_token_url)
    if fetches and moved and "oauth_client_secret" not in changes:
        reasons["oauth_client_secret"] = f"Enter it again, because {moved[-1]} names another server."
    if reasons:
        raise BadFields(**reasons)


def _is_moved(queue: models.Queue, changes: Mapping[str, Any], name: str) -> bool:
    """Whether an address now leads to another server. An empty one leads nowhere, so any later one is new."""
    address = changes.get(name, "")
    return address != "" and not ssrf.is_same_origin(address, getattr(queue, name))


def _whole(least: int, most: int, *, none: bool = False) -> Check:
    def check(value: Any) -> str | None:
        if none and value is None:
            return None
        if type(value) is int and least <= value <= most:
            return None
        return f"It must be a whole number from {least} to {most}{', or null' if none else ''}."

    return check


def _delays(value: Any) -> str | None:
    whole = _whole(1, LONGEST_DELAY_MINUTES)
    if isinstance(value, list) and 1 <= len(value) <= 30 and not any(map(whole, value)):
        return None
    return f"It must be a list of 1 to 30 whole numbers from 1 to {LONGEST_DELAY_MINUTES}."


def _among(words: Sequence[str]) -> Check:
    return lambda value: None if value in words else f"It must be one of {', '.join(words)}."


def _seconds(value: Any) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isfinite(value) and 0 < value <= LONGEST_TIMEOUT:
        return None
    return f"It must be a number of seconds, above 0 and up to {LONGEST_TIMEOUT}."


def _address(value: Any) -> str | None:
    """Check an address, which may be empty; whether one is needed depends on the handler."""
    if value == "":
        return None
    if not isinstance(value, str) or len(value) > 2000:
        return "It must be a URL of at most 2,000 characters."
    try:
        ssrf.check_url(value, settings.WEBHOOK_ALLOWED_NETWORKS)
    except ssrf.AddressNotAllowed as error:
        # In the error of an ID this text continues a sentence; here it is one.
        reason = str(error)
        return f"{reason[0].upper()}{reason[1:]}."
    return None


def _fixed_address(value: Any) -> str | None:
    """Check an address that can't contain placeholders, because nothing would fill them."""
    if isinstance(value, str) and "{{" in value:
        return "It can't contain placeholders."
    return _address(value)


def _template_address(value: Any) -> str | None:
    """Check an address whose path and query may contain placeholders."""
    if not isinstance(value, str) or len(value) > 2000:
        return _address(value)
    try:
        sample = templates.UrlTemplate.parse(value).sample if "{{" in value else value
    except BadTemplate as error:
        return str(error)
    # No URL has them, so somebody means a placeholder: /users/{id} would be called as /users/%7Bid%7D.
    if "{" in sample or "}" in sample:
        return "A placeholder is written with two braces, such as {{id}}."
    return _address(sample)


def _text(most: int, *, none: bool = False) -> Check:
    def check(value: Any) -> str | None:
        if (none and value is None) or (isinstance(value, str) and len(value) <= most):
            return None
        return f"It must be text of at most {most} characters{', or null' if none else ''}."

    return check


def _one_line(most: int, *, none: bool = False) -> Check:
    def check(value: Any) -> str | None:
        if none and value is None:
            return None
        if isinstance(value, str) and len(value) <= most and _NO_CONTROLS.fullmatch(value):
            return None
        return f"It must be text of at most {most:,} characters on one line{', or null' if none else ''}."

    return check


def _content_type(value: Any) -> str | None:
    if isinstance(value, str) and len(value) <= 100 and _CONTENT_TYPE.fullmatch(value):
        return None
    return "It must be a media type, such as application/json."


def _truth(value: Any) -> str | None:
    return None if isinstance(value, bool) else "It must be true or false."


def _rule(parse: Callable[[Any], object], *, text: bool = True) -> Check:
    def check(value: Any) -> str | None:
        if text and (not isinstance(value, str) or len(value) > 200):
            return "It must be text of at most 200 characters."
        try:
            parse(value)
        except BadRule as error:
            return str(error)
        return None

    return check


def _callable(value: Any) -> str | None:
    if value == "" or value in settings.PYTHON_HANDLERS:
        return None
    return "It must be one of PYTHON_HANDLERS in this deployment's settings."


def _headers(value: Any) -> str | None:
    if not isinstance(value, Mapping) or len(value) > MOST_HEADERS:
        return f"It must be an object of at most {MOST_HEADERS} names and values."
    names: dict[str, str] = {}
    for name, text in value.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            return f"{str(name)[:40]!r} is not a valid header name."
        if name.lower() in _OWN_HEADERS or name.lower().startswith("webhook-"):
            return f"{name} can't be set: Quarterdeck sets it itself."
        if (other := names.setdefault(name.lower(), name)) != name:
            return f"{other} and {name} are the same header, and only one of them would be sent."
        # Null stands for the stored value, which nobody can read.
        if text is None:
            continue
        if not isinstance(text, str) or not _HEADER_VALUE.fullmatch(text):
            return f"The value of {name} must be text that a header can contain."
        try:
            templates.HeaderTemplate.parse(text)
        except BadTemplate as error:
            return f"The value of {name} is not a valid template. {error}"
    return None


def with_stored_values(headers: Mapping[str, str | None], stored: Mapping[str, str]) -> dict[str, str]:
    """Replace null values of headers with the stored ones. Raises BadFields where there is none."""
    values_by_name = {name.lower(): value for name, value in stored.items()}
    result: dict[str, str] = {}
    for name, value in headers.items():
        resolved = values_by_name.get(name.lower()) if value is None else value
        if resolved is None:
            raise BadFields(webhook_headers=f"{name} is null, but no value is stored for it.")
        result[name] = resolved
    return result


def _secret(value: Any) -> str | None:
    least, most = SECRET_BYTES
    if value == "":
        return None
    if isinstance(value, str) and value.startswith(SECRET_PREFIX) and len(value) <= 200:
        try:
            if least <= len(base64.b64decode(value.removeprefix(SECRET_PREFIX), validate=True)) <= most:
                return None
        except ValueError:
            # Not base64, or not even ASCII.
            pass
    return f"It must be {SECRET_PREFIX} followed by {least} to {most} bytes in base64."


def new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def check_overlap(seconds: int) -> None:
    """Check for how long requests are signed by two secrets. Raises BadFields."""
    if reason := _whole(0, LONGEST_OVERLAP_SECONDS)(seconds):
        raise BadFields(overlap_seconds=reason)


def _not_empty(pointer: str) -> str:
    if not pointer:
        # As a pointer, it would be the whole response.
        raise BadRule(reason=f"It must be {KEEP_UNEXPECTED}, {KEEP_ALL}, or a pointer such as /message/id.")
    return pointer


_CHECKS: dict[str, Check] = {
    "rpm": _whole(1, models.MAX_RPM),
    "hours": _hours,
    "ramp": _ramp,
    "quotas": _quotas,
    "overflow": _among(models.Overflow.values),
    "max_share_percent": _whole(1, 100),
    "max_peak": _whole(1, _LARGEST, none=True),
    "handler": _among(models.HandlerKind.values),
    "max_attempts": _whole(1, 30),
    "retry_delays_minutes": _delays,
    "late_policy": _among(models.LatePolicy.values),
    "late_after_seconds": _whole(0, _LARGEST, none=True),
    "headroom": _whole(0, models.MAX_RPM),
    "breaker_threshold": _whole(1, _LARGEST, none=True),
    "webhook_url": _template_address,
    "webhook_method": _among(METHODS),
    "webhook_headers": _headers,
    "webhook_secret": _secret,
    "oauth_token_url": _fixed_address,
    "oauth_client_id": _one_line(300),
    "oauth_client_secret": _one_line(2000, none=True),
    "oauth_client_auth": _among(models.ClientAuth.values),
    "oauth_scope": _one_line(1000),
    "oauth_audience": _one_line(1000),
    "webhook_body": _text(templates.TEMPLATE_CHARACTERS, none=True),
    "webhook_content_type": _content_type,
    "webhook_sign": _truth,
    "success_statuses": _rule(responses.statuses),
    "retry_statuses": _rule(responses.statuses),
    "success_when": _rule(lambda rule: rule is None or responses.SuccessWhen.parse(rule), text=False),
    "keep_answers": _rule(
        lambda value: value in (KEEP_UNEXPECTED, KEEP_ALL) or responses.Pointer.parse(_not_empty(value))
    ),
    "connect_timeout_seconds": _seconds,
    "read_timeout_seconds": _seconds,
    "max_connections": _whole(1, 10_000),
    "python_callable": _callable,
    "callback_url": _address,
}
assert set(_CHECKS) == set(FIELDS)
_BUDGET: dict[str, Check] = {
    "rpm": _whole(1, models.MAX_RPM, none=True),
    "hours": _hours,
    "quotas": _quotas,
}
