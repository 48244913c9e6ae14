"""The client, with and without async. Both have the same methods."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from quarterdeck import requests
from quarterdeck.models import Accepted, Outcome, Task

Ids = Iterable[int | str] | str | os.PathLike[str]
Progress = Callable[[int], None]


def _ignore(count: int) -> None:
    """Ignore progress."""


class Client:
    """A client. url: of the service. token: with the scope `write` to submit, `read` to follow."""

    def __init__(
        self, url: str, token: str, *, timeout: float = 30.0, sleep: Callable[[float], None] = time.sleep
    ):
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Send any request of the API and return its JSON. Only GET is repeated. Raises ApiError."""
        attempts = requests.ATTEMPTS if method == "GET" else 1
        return requests.read_json(self._send(attempts, lambda: self._http.request(method, path, **options)))

    def submit(
        self,
        ids: Ids,
        *,
        task_name: str,
        queue: str | None = None,
        column: str | None = None,
        not_before: str | None = None,
        expires_at: str | None = None,
        deadline: str | None = None,
        max_failed_percent: float | None = None,
        min_finished: int | None = None,
        canary: tuple[int, float] | None = None,
        start: str | None = None,
        reference: str | None = None,
        on_error: str | None = None,
        expect: int | None = None,
        allow_peak: bool = False,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        progress: Progress = _ignore,
    ) -> Accepted:
        """Submit a list; a broken connection or a busy service is retried, and nothing is submitted twice.

        ids: numbers or strings of digits; a string or a path names a file, which is streamed (text, CSV or NDJSON,
        also `.gz`). canary: how many of the first IDs run alone, and which percentage of them has to succeed before the
        others continue. progress: is given the bytes sent so far. Raises ApiError.
        """
        submission = requests.submission(
            ids, task_name=task_name, queue=queue, column=column, not_before=not_before, expires_at=expires_at,
            deadline=deadline, max_failed_percent=max_failed_percent, min_finished=min_finished, canary=canary,
            start=start, reference=reference, on_error=on_error, expect=expect,
            allow_peak=allow_peak, dry_run=dry_run, idempotency_key=idempotency_key,
        )  # fmt: skip

        def send() -> httpx.Response:
            content = None if submission.path is None else _chunks(submission.path, progress)
            return self._http.post(
                "/celery_ids_tasks/",
                params=submission.params,
                headers=submission.headers,
                content=content,
                json=submission.json,
            )

        response = self._send(requests.ATTEMPTS, send)
        return Accepted.of(requests.read_json(response), replayed="Idempotent-Replayed" in response.headers)

    def task(self, task_id: int) -> Task:
        """Return a task and its progress. Raises ApiError."""
        return Task.of(self.request("GET", f"/celery_ids_tasks/{task_id}/"))

    def follow(self, task_id: int, *, every: float = 2.0) -> Iterator[Task]:
        """Yield the task now, whenever its progress has changed, and last when it has ended."""
        before = None
        while True:
            task = self.task(task_id)
            if task != before:
                yield task
            if task.has_ended:
                return
            before = task
            self._sleep(every)

    def cancel(self, task_id: int) -> dict[str, int]:
        """Cancel what has not been sent. Returns `cancelled`, `already_sent` and `in_flight`."""
        counts: dict[str, int] = self.request("DELETE", f"/celery_ids_tasks/{task_id}/")
        return counts

    def outcomes(
        self,
        *,
        after: str | None = None,
        queue: str | None = None,
        task: int | None = None,
        follow: bool = False,
    ) -> Iterator[Outcome]:
        """Yield the outcomes of IDs, oldest first: each at least once, and none is skipped.

        after: the cursor of the last one that you have handled. follow: wait for further ones and yield them, without
        end; a service that stays unreachable raises.
        """
        page, params = requests.outcomes(after, queue, task, follow=follow)
        is_over = False
        while not is_over:
            response = self._send(requests.ATTEMPTS, partial(self._http.get, page, params=params or None))
            rows = requests.read_json(response)
            yield from map(Outcome.of, rows)
            page, goes_on = requests.behind(response)
            params, is_over = {}, not (follow or rows or goes_on)

    def rows(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield all rows of a list, such as `/celery_ids_tasks/`, page by page."""
        page: str | None = path
        while page:
            response = self._send(requests.ATTEMPTS, partial(self._http.get, page, params=params or None))
            yield from requests.read_json(response)
            # The next address has the parameters in it.
            page, params = response.links.get("next", {}).get("url"), {}

    def _send(self, attempts: int, send: Callable[[], httpx.Response]) -> httpx.Response:
        for attempt in range(attempts):
            is_last = attempt == attempts - 1
            response = None
            try:
                response = send()
            except httpx.TransportError:
                if is_last:
                    raise
            if response is not None and (is_last or response.status_code not in requests.RETRIED):
                return response
            self._sleep(requests.delay(attempt, response))
        raise AssertionError("there is at least one attempt")


class AsyncClient:
    """The same with async. url: of the service."""

    def __init__(self, url: str, token: str, *, timeout: float = 30.0):
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def request(self, method: str, path: str, **options: Any) -> Any:
        """Send any request of the API and return its JSON. Only GET is repeated. Raises ApiError."""
        attempts = requests.ATTEMPTS if method == "GET" else 1
        response = await self._send(attempts, lambda: self._http.request(method, path, **options))
        return requests.read_json(response)

    async def submit(
        self,
        ids: Ids,
        *,
        task_name: str,
        queue: str | None = None,
        column: str | None = None,
        not_before: str | None = None,
        expires_at: str | None = None,
        deadline: str | None = None,
        max_failed_percent: float | None = None,
        min_finished: int | None = None,
        canary: tuple[int, float] | None = None,
        start: str | None = None,
        reference: str | None = None,
        on_error: str | None = None,
        expect: int | None = None,
        allow_peak: bool = False,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        progress: Progress = _ignore,
    ) -> Accepted:
        """Submit a list, as `Client.submit` does. Raises ApiError."""
        submission = requests.submission(
            ids, task_name=task_name, queue=queue, column=column, not_before=not_before, expires_at=expires_at,
            deadline=deadline, max_failed_percent=max_failed_percent, min_finished=min_finished, canary=canary,
            start=start, reference=reference, on_error=on_error, expect=expect,
            allow_peak=allow_peak, dry_run=dry_run, idempotency_key=idempotency_key,
        )  # fmt: skip

        def send() -> Any:
            content = None if submission.path is None else _async_chunks(submission.path, progress)
            return self._http.post(
                "/celery_ids_tasks/",
                params=submission.params,
                headers=submission.headers,
                content=content,
                json=submission.json,
            )

        response = await self._send(requests.ATTEMPTS, send)
        return Accepted.of(requests.read_json(response), replayed="Idempotent-Replayed" in response.headers)

    async def task(self, task_id: int) -> Task:
        """Return a task and its progress. Raises ApiError."""
        return Task.of(await self.request("GET", f"/celery_ids_tasks/{task_id}/"))

    async def follow(self, task_id: int, *, every: float = 2.0) -> AsyncIterator[Task]:
        """Yield the task now, whenever its progress has changed, and last when it has ended."""
        before = None
        while True:
            task = await self.task(task_id)
            if task != before:
                yield task
            if task.has_ended:
                return
            before = task
            await asyncio.sleep(every)

    async def cancel(self, task_id: int) -> dict[str, int]:
        """Cancel what has not been sent. Returns `cancelled`, `already_sent` and `in_flight`."""
        counts: dict[str, int] = await self.request("DELETE", f"/celery_ids_tasks/{task_id}/")
        return counts

    async def outcomes(
        self,
        *,
        after: str | None = None,
        queue: str | None = None,
        task: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[Outcome]:
        """Yield the outcomes of IDs, as `Client.outcomes` does."""
        page, params = requests.outcomes(after, queue, task, follow=follow)
        is_over = False
        while not is_over:
            response = await self._send(
                requests.ATTEMPTS, partial(self._http.get, page, params=params or None)
            )
            rows = requests.read_json(response)
            for row in rows:
                yield Outcome.of(row)
            page, goes_on = requests.behind(response)
            params, is_over = {}, not (follow or rows or goes_on)

    async def rows(self, path: str, **params: Any) -> AsyncIterator[dict[str, Any]]:
        """Yield all rows of a list, page by page."""
        page: str | None = path
        while page:
            response = await self._send(
                requests.ATTEMPTS, partial(self._http.get, page, params=params or None)
            )
            for row in requests.read_json(response):
                yield row
            page, params = response.links.get("next", {}).get("url"), {}

    async def _send(self, attempts: int, send: Callable[[], Any]) -> httpx.Response:
        for attempt in range(attempts):
            is_last = attempt == attempts - 1
            response: httpx.Response | None = None
            try:
                response = await send()
            except httpx.TransportError:
                if is_last:
                    raise
            if response is not None and (is_last or response.status_code not in requests.RETRIED):
                return response
            await asyncio.sleep(requests.delay(attempt, response))
        raise AssertionError("there is at least one attempt")


def _chunks(path: Path, progress: Progress) -> Iterator[bytes]:
    """Yield a file, opened anew for each attempt."""
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(requests.CHUNK_BYTES):
            yield chunk
            sent += len(chunk)
            progress(sent)


async def _async_chunks(path: Path, progress: Progress) -> AsyncIterator[bytes]:
    for chunk in _chunks(path, progress):
        yield chunk
