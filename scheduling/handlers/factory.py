"""Makes the handler that a queue names."""

from collections.abc import Callable, Mapping
from typing import Any

from scheduling.core.errors import UnknownHandler

from .base import Handler
from .python import Python
from .record import Record
from .webhook import Webhook

_MAKERS: Mapping[str, Callable[[Any], Handler]] = {
    "record": lambda _: Record(),
    "webhook": Webhook.of,
    "python": Python.of,
}


def make_handler(queue: Any) -> Handler:
    """Return a new handler for `queue` (an object with a queue's columns). Call it in the event loop's thread.

    Raises UnknownHandler for a word that this version doesn't know: a newer version may have stored it.
    """
    try:
        make = _MAKERS[queue.handler]
    except KeyError:
        raise UnknownHandler(handler=queue.handler, queue=queue.name) from None
    return make(queue)
