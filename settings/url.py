"""URLs in settings, split strictly. Standard library only."""

import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

from settings.env import BadSetting


class Url(NamedTuple):
    """A URL with its port and its query read."""

    parts: SplitResult
    port: int | None
    query: dict[str, str]


def refusal_of(name: str, expected: str, url: str) -> BadSetting:
    """Return the error for a setting whose URL is not as expected; everything up to the last @ is hidden."""
    return BadSetting(name, expected, re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url))


def split(url: str, refusal: BadSetting) -> Url:
    """Split a URL. Raises `refusal` where its port or its query is none."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        return Url(parts, parts.port, dict(query))
    except ValueError:
        raise refusal from None
