"""The handler of a queue, by its kind."""

from typing import Any

from .base import Handler
from .record import Record


def handler(queue: Any) -> Handler:
    """Make the handler of a queue: an object with the columns of one. In the thread of the event loop."""
    if queue.handler == "webhook":
        from .webhook import Webhook

        return Webhook.of(queue)
    if queue.handler == "python":
        from .python import Python

        return Python.of(queue)
    return Record()
