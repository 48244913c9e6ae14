"""The columns that a queue's request needs of each list."""

from collections.abc import Sequence
from typing import Any

from scheduling.core.errors import BadTemplate, ColumnsMissing
from scheduling.core.templates import RequestTemplate


def template_of(queue: Any) -> RequestTemplate | None:
    """Return the templates of a queue (an object with a queue's columns); None if its request has none."""
    texts = (queue.webhook_url, *queue.webhook_headers.values(), queue.webhook_body or "")
    if queue.handler != "webhook" or not any("{{" in text for text in texts):
        return None
    return RequestTemplate.parse(
        url=queue.webhook_url,
        headers=queue.webhook_headers,
        body=queue.webhook_body,
        content_type=queue.webhook_content_type,
    )


def needed(queue: Any) -> list[str]:
    """Return the columns that a list must have for a queue, in the order of its templates."""
    try:
        template = template_of(queue)
    except BadTemplate:
        # Stored by another version: each ID fails with the reason.
        return []
    return template.required_columns if template is not None else []


def check(queue: Any, columns: Sequence[str] | None) -> None:
    """Raise ColumnsMissing unless a list with these columns has all that the queue's request needs."""
    missing = [name for name in needed(queue) if name not in (columns or ())]
    if missing:
        raise ColumnsMissing(queue=queue.name, names=missing)
