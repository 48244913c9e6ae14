"""A webhook's request as it is shown to people: what is secret in it is masked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from .message import Message
from .webhook import Webhook

# Shown in place of the values of a queue's own headers, which mostly are tokens.
MASK = "(not shown)"
SIGNATURE = "webhook-signature"


@dataclass(frozen=True)
class Sent:
    """An HTTP request; the values of the queue's own headers are masked."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str

    def without_data(self) -> "Sent":
        """Return the same for somebody who may not see the data of the ID, which may be a part of both."""
        parts = urlsplit(self.url)
        return replace(self, url=f"{parts.scheme}://{parts.netloc}/{MASK}", body=MASK)


def shown(handler: Webhook, message: Message, *, signature: bool = True) -> Sent:
    """Show a message of a handler. signature: whether to show what only the queue's secret can make."""
    # A header that both give is ours: Content-Type, and those of the signature.
    masked = {name.lower() for name in handler.headers} - {"content-type"}
    if not signature:
        masked.add(SIGNATURE)
    headers = {name: MASK if name.lower() in masked else value for name, value in message.headers.items()}
    if handler.oauth is not None:
        headers["Authorization"] = "Bearer ***"
    return Sent(handler.method, handler.url_of(message), headers, message.body.decode())
