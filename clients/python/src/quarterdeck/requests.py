"""What is sent and how responses are read: shared by both clients, without any I/O."""

import email.utils
import json
import os
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from quarterdeck.errors import ApiError

ATTEMPTS = 5
FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 60.0
# Of a request for outcomes while there are none.
WAIT_SECONDS = 20
CHUNK_BYTES = 64 * 1024
RETRIED = (408, 429, 502, 503, 504)
_TYPES = {
    ".csv": "text/csv",
    ".tsv": "text/csv",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
}


@dataclass(frozen=True)
class Submission:
    """A list to submit: either `path` or `payload`."""

    params: dict[str, Any]
    headers: dict[str, str]
    path: Path | None
    payload: list[int | str] | None

    @property
    def json(self) -> dict[str, Any] | None:
        return None if self.payload is None else {"payload": self.payload}


def submission(
    ids: Iterable[int | str] | str | os.PathLike[str],
    *,
    task_name: str,
    queue: str | None,
    column: str | None,
    not_before: str | None,
    expires_at: str | None,
    deadline: str | None,
    max_failed_percent: float | None,
    min_finished: int | None,
    canary: tuple[int, float] | None,
    start: str | None,
    reference: str | None,
    on_error: str | None,
    expect: int | None,
    allow_peak: bool,
    dry_run: bool,
    idempotency_key: str | None,
) -> Submission:
    """Describe a submission. ids: numbers or strings of digits; a string or a path names a file."""
    params = {
        "task_name": task_name,
        "queue": queue,
        "column": column,
        "not_before": not_before,
        "expires_at": expires_at,
        "deadline": deadline,
        "max_failed_percent": max_failed_percent,
        "min_finished": min_finished,
        "canary": None
        if canary is None
        else json.dumps({"ids": canary[0], "min_succeeded_percent": canary[1]}),
        "start": start,
        "reference": reference,
        "on_error": on_error,
        "expect": expect,
        "allow_peak": "true" if allow_peak else None,
        "dry_run": "true" if dry_run else None,
    }
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    path: Path | None = None
    payload: list[int | str] | None = None
    if isinstance(ids, str | os.PathLike):
        path = Path(ids)
        headers |= _file_headers(path)
    else:
        payload = [_id(item) for item in ids]
    return Submission(
        {name: value for name, value in params.items() if value is not None}, headers, path, payload
    )


def _id(value: Any) -> int | str:
    # Numbers from 2^53 on would be rounded by anything written in JavaScript on the way.
    return str(value) if isinstance(value, int) and value >= 2**53 else value


def _file_headers(path: Path) -> dict[str, str]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    headers = {"Content-Length": str(path.stat().st_size)}
    if suffixes and suffixes[-1] == ".gz":
        headers["Content-Encoding"] = "gzip"
        suffixes.pop()
    headers["Content-Type"] = _TYPES.get(suffixes[-1] if suffixes else "", "text/plain")
    return headers


def outcomes(
    after: str | None, queue: str | None, task: int | None, *, follow: bool
) -> tuple[str, dict[str, Any]]:
    """Return the address of outcomes, and its parameters."""
    params = {"after": after, "queue": queue, "task": task, "wait": WAIT_SECONDS if follow else None}
    return "/outcomes/", {name: value for name, value in params.items() if value is not None}


def behind(response: httpx.Response) -> tuple[str, bool]:
    """Return the address of the outcomes behind a page, and whether it is another one."""
    address = response.links["next"]["url"]
    return address, httpx.URL(address).params.get("after") != response.request.url.params.get("after")


def delay(attempt: int, response: httpx.Response | None) -> float:
    """Return how long to wait before the next attempt: what the service asks for, else longer each time."""
    retry_after = response.headers.get("Retry-After", "") if response is not None else ""
    if retry_after.isdigit():
        return min(float(retry_after), MAX_DELAY_SECONDS)
    if retry_after and (date := email.utils.parsedate_to_datetime(retry_after)):
        return min(max(0.0, date.timestamp() - time.time()), MAX_DELAY_SECONDS)
    return min(FIRST_DELAY_SECONDS * 2.0**attempt, MAX_DELAY_SECONDS)


def read_json(response: httpx.Response) -> Any:
    """Return the JSON of a response. Raises ApiError for a problem."""
    if response.is_success:
        return response.json() if response.content else None
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    raise ApiError(response.status_code, problem if isinstance(problem, dict) else {})
