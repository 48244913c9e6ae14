"""Responses as frozen dataclasses. `raw` has everything that the service sent."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

ENDED = ("done", "cancelled")


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True)
class Task:
    """A submitted list and its progress."""

    id: int
    name: str
    queue: str
    state: str
    counts: dict[str, int]
    first_at: datetime | None
    last_at: datetime | None
    finished_at: datetime | None
    raw: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Task":
        return cls(
            id=data["id"],
            name=data["task_name"],
            queue=data["queue"],
            state=data["state"],
            counts=data["counts"],
            first_at=_time(data["first_at"]),
            last_at=_time(data["last_at"]),
            finished_at=_time(data["finished_at"]),
            raw=data,
        )

    @property
    def has_ended(self) -> bool:
        """Whether nothing more of it will be sent."""
        return self.state in ENDED

    @property
    def finished_count(self) -> int:
        """How many IDs are neither waiting nor in flight."""
        return self.counts["ids"] - self.counts["waiting"] - self.counts["in_flight"]


@dataclass(frozen=True)
class PlannedWindow:
    """A quarter-hour of a plan: how many IDs each minute had before, and how many the list adds."""

    starts_at: datetime
    before: tuple[int, ...]
    added: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Which minutes the IDs of a list get."""

    first_at: datetime | None
    last_at: datetime | None
    peak_per_minute: int
    rpm: int
    windows: tuple[PlannedWindow, ...]

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Plan":
        return cls(
            first_at=_time(data["first_at"]),
            last_at=_time(data["last_at"]),
            peak_per_minute=data["peak_per_minute"],
            rpm=data["rpm"],
            windows=tuple(
                PlannedWindow(
                    datetime.fromisoformat(window["starts_at"]),
                    tuple(window["before"]),
                    tuple(window["added"]),
                )
                for window in data["windows"]
            ),
        )


@dataclass(frozen=True)
class Accepted:
    """The response to a list, or to its dry run. replayed: it is the response of an earlier request."""

    task: Task | None
    plan: Plan
    message: str
    warnings: tuple[str, ...]
    replayed: bool
    raw: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, data: dict[str, Any], *, replayed: bool) -> "Accepted":
        return cls(
            task=Task.of(data["task"]) if data["task"] else None,
            plan=Plan.of(data["plan"]),
            message=data["message"],
            warnings=tuple(warning["message"] for warning in data["warnings"]),
            replayed=replayed,
            raw=data,
        )


@dataclass(frozen=True)
class Outcome:
    """What became of an ID of a task. cursor: store it with what you do about it, and go on behind it."""

    cursor: str
    at: datetime
    task_id: int
    queue: str
    # As its owner wrote it: the digits of a number, or text.
    id: str | None
    status: str
    attempts: int
    http_status: int | None
    error: str
    answer: str
    raw: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Outcome":
        return cls(
            cursor=data["cursor"],
            at=datetime.fromisoformat(data["at"]),
            task_id=data["task_id"],
            queue=data["queue"],
            id=data["user_id_str"],
            status=data["status"],
            attempts=data["attempts"],
            http_status=data["http_status"],
            error=data["error"],
            answer=data["answer"],
            raw=data,
        )


@dataclass(frozen=True)
class Webhook:
    """A verified webhook. id: the same for every attempt; skip one that you have handled already."""

    id: str
    body: dict[str, Any]
