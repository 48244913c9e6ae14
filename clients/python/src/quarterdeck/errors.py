"""What can go wrong."""

from typing import Any


class ApiError(Exception):
    """The service refused a request. kind: the end of the problem's type, such as `past-peak`."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.kind = str(problem.get("type", "")).rpartition(":")[2]
        self.errors: list[dict[str, Any]] = problem.get("errors", [])
        super().__init__(problem.get("detail") or f"The service responded with {status}.")


class InvalidWebhook(Exception):
    """The signature of a webhook is missing or wrong, or it is too old."""
