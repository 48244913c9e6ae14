"""What a queue counts as success: statuses that succeed or are retried, and a condition on a JSON response.

Pure. Source: docs/requests.md, "What counts as success"; RFC 6901 for pointers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from scheduling.core import exact_json
from scheduling.core.errors import BadRule
from scheduling.core.retry import REFUSED_TO_ANYONE, Verdict

SUCCESS_STATUSES = "200-299"
RETRY_STATUSES = "408,425,429,500-599"
# A longer response is not read for a condition or a kept value.
JSON_BYTES = 64 * 1024

_STATUSES = re.compile(r"\s*([1-9][0-9]{2})\s*(?:-\s*([1-9][0-9]{2})\s*)?", re.ASCII)
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_MISSING = object()


@lru_cache(maxsize=256)
def statuses(text: str) -> frozenset[int]:
    """Return the statuses of a list such as `200-299,404`. Raises BadRule."""
    result: set[int] = set()
    for item in text.split(",") if text.strip() else ():
        match = _STATUSES.fullmatch(item)
        if match is None:
            raise BadRule(reason=f"{item.strip()!r} is not a status or a range such as 200-299.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last > 599:
            raise BadRule(reason=f"{item.strip()!r} is not a range of statuses from 100 to 599.")
        result.update(range(first, last + 1))
    return frozenset(result)


@dataclass(frozen=True, slots=True)
class Pointer:
    """An RFC 6901 pointer: `/errors/0/code`; the empty one is the whole document."""

    tokens: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Pointer":
        """Raises BadRule."""
        if text and not text.startswith("/"):
            raise BadRule(reason=f"The pointer {text!r} doesn't begin with /.")
        if re.search(r"~(?![01])", text):
            raise BadRule(reason=f"In the pointer {text!r}, write ~0 for a ~, and ~1 for a / in a name.")
        return cls(tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]))

    def find(self, document: Any, default: Any = None) -> Any:
        """Return what it points to in a JSON document, or `default` if that is nothing."""
        for token in self.tokens:
            if isinstance(document, Mapping) and token in document:
                document = document[token]
            elif isinstance(document, list) and _INDEX.fullmatch(token) and int(token) < len(document):
                document = document[int(token)]
            else:
                return default
        return document


@dataclass(frozen=True, slots=True)
class SuccessWhen:
    """A condition on the JSON of a response whose status says success.

    equals: compared as JSON; null also equals what isn't there. otherwise: RETRY or FAILED.
    """

    pointer: Pointer
    equals: Any
    otherwise: Verdict

    @classmethod
    def parse(cls, rule: Any) -> "SuccessWhen":
        """rule: {"pointer": "/errors", "equals": null, "otherwise": "fail"}. Raises BadRule."""
        if not isinstance(rule, Mapping):
            raise BadRule(reason="A condition is an object with pointer, equals and otherwise.")
        if unknown := sorted(set(rule) - {"pointer", "equals", "otherwise"}):
            raise BadRule(reason=f"A condition has no {unknown[0]!r}, only pointer, equals and otherwise.")
        if not isinstance(rule.get("pointer"), str):
            raise BadRule(reason="A condition needs a pointer, such as /errors.")
        otherwise = {"retry": Verdict.RETRY, "fail": Verdict.FAILED}.get(str(rule.get("otherwise", "fail")))
        if otherwise is None:
            raise BadRule(reason="otherwise must be retry or fail.")
        return cls(Pointer.parse(rule["pointer"]), rule.get("equals"), otherwise)

    def unmet_by(self, document: Any) -> str:
        """Return why a JSON document doesn't meet the condition; empty if it does."""
        value = self.pointer.find(document, _MISSING)
        if value is _MISSING:
            return "" if self.equals is None else f"the response has no {self._name}"
        if same_json(value, self.equals):
            return ""
        return f"{self._name} of the response is {_short(value)}, not {_short(self.equals)}"

    @property
    def _name(self) -> str:
        return "/" + "/".join(self.pointer.tokens) if self.pointer.tokens else "content"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the responses of a queue mean."""

    success: frozenset[int]
    retry: frozenset[int]
    when: SuccessWhen | None = None

    @classmethod
    def parse(cls, success: str = SUCCESS_STATUSES, retry: str = RETRY_STATUSES, when: Any = None) -> "Rules":
        """when: None for no condition. Raises BadRule."""
        rules = cls(statuses(success), statuses(retry), None if when is None else SuccessWhen.parse(when))
        if overlap := sorted(rules.success & rules.retry):
            raise BadRule(reason=f"{overlap[0]} can't both succeed and be retried.")
        return rules

    def verdict(self, status: int, body: bytes, *, complete: bool = True) -> tuple[Verdict, str]:
        """Return what a response means, and why if its status alone doesn't say.

        body: decompressed. complete: whether that is all of it.
        """
        if status not in self.success:
            retried = status in self.retry or status in REFUSED_TO_ANYONE
            return Verdict.RETRY if retried else Verdict.FAILED, ""
        if self.when is None:
            return Verdict.SUCCEEDED, ""
        reason = self._unmet(body, complete)
        return (self.when.otherwise, reason) if reason else (Verdict.SUCCEEDED, "")

    def _unmet(self, body: bytes, complete: bool) -> str:
        assert self.when is not None
        if not complete or len(body) > JSON_BYTES:
            return "the response is too long, or cut, to be read as JSON"
        try:
            document = read_json(body)
        except ValueError:
            return "the response is not JSON"
        return self.when.unmet_by(document)


def read_json(body: bytes, *, exact: bool = False) -> Any:
    """Read a JSON document of at most JSON_BYTES. exact: numbers stay as they are spelled. Raises ValueError."""
    if len(body) > JSON_BYTES:
        raise ValueError(f"longer than {JSON_BYTES} bytes")
    try:
        text = body.decode("utf-8-sig")
        return exact_json.read(text) if exact else json.loads(text, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _integer(digits: str) -> int | float:
    # Python refuses to read more than 4,300 digits, and takes long for many.
    return int(digits) if len(digits) < 1_000 else float(digits)


def same_json(first: Any, second: Any) -> bool:
    """Whether two JSON values are equal. Python's == takes true for 1; 1 and 1.0 are the same number."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same_json(first[name], second[name]) for name in first)
    if _is_list(first) and _is_list(second):
        return len(first) == len(second) and all(map(same_json, first, second))
    return bool(first == second)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= 60 else f"{text[:59]}…"
