"""What is shown of a response: its body as text, where it redirects to, and how long it asks callers to wait."""

import codecs
import re
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

from scheduling.core import retry
from scheduling.core.limits import ANSWER_CHARACTERS, ERROR_CHARACTERS

from .base import truncate
from .http_response import BODY_BYTES, ResponseReader
from .masking import Mask

_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\"';\s]+)", re.IGNORECASE)


def redirect_words(
    response: ResponseReader, url: str, status: int, mask: Mask, *, is_filled: bool = False
) -> str:
    """Return where a redirect leads, as a whole address, since it may be relative; secrets in it are masked.

    is_filled: the address that was called contains values of one ID, which only some people may see. Then so may the
    path of the other one, and it is no address for the queue.
    """
    location = next(iter(response.headers.get("location", ())), "")
    if not location:
        return f"answers {status} to nowhere"
    try:
        address = urljoin(url, location)
        host = urlsplit(address).netloc
    except ValueError:
        return f"answers {status} to something that is no address"
    if is_filled:
        return truncate(f"answers {status} to an address at {mask(host)}", ERROR_CHARACTERS)
    advice = ": put this address into the queue"
    words = f"answers {status} to "
    return words + truncate(mask(address), ERROR_CHARACTERS - len(words + advice)) + advice


def longest_retry_after(values: Sequence[str], status: int) -> str | None:
    """Return the Retry-After that asks for the longest wait. Proxies may have joined several with commas."""
    if not values or (len(values) == 1 and "," not in values[0]):
        return values[0] if values else None
    at = datetime.now(UTC)
    # A date contains a comma too.
    candidates = [*values, *(part.strip() for value in values for part in value.split(","))]
    return max(candidates, key=lambda value: retry.retry_after_seconds(status, value, at=at) or -1.0)


def content_of(response: ResponseReader) -> bytes:
    """Return a body, decompressed up to BODY_BYTES."""
    data = bytes(response.body)
    codings = response.headers.get("content-encoding")
    if not data or codings is None:
        return data
    for coding in reversed(",".join(codings).lower().split(",")):
        data = _decompress(data, coding.strip())
    return data


def text_of(response: ResponseReader, content: bytes, mask: Mask) -> str:
    """Return the beginning of a body's content as text, decoded with its charset; secrets in it are masked."""
    if not content:
        return ""
    # Enough for each of the characters that are kept, in any encoding, and for a secret that begins in them.
    most = 4 * (ANSWER_CHARACTERS + mask.longest)
    content_types = response.headers.get("content-type")
    charset = _charset_of(content_types[0]) if content_types else "utf-8"
    text = content[:most].decode(charset, errors="replace")
    return truncate(mask(text, is_cut=len(content) > most))


def _decompress(data: bytes, coding: str) -> bytes:
    """Decompress up to BODY_BYTES. Bytes that aren't what the header says are returned as they are."""
    if coding not in ("gzip", "x-gzip", "deflate"):
        return data
    # 32: gzip or zlib, whichever the data begin with. Negative: deflate without a header, which some send.
    for window_bits in (32 + zlib.MAX_WBITS, -zlib.MAX_WBITS):
        try:
            return zlib.decompressobj(window_bits).decompress(data, BODY_BYTES)
        except zlib.error:
            continue
    return data


@lru_cache(maxsize=16)
def _charset_of(content_type: str) -> str:
    match = _CHARSET.search(content_type)
    if match is None:
        return "utf-8"
    try:
        info = codecs.lookup(match[1])
    except (LookupError, ValueError):
        return "utf-8"
    # Some codecs turn bytes into bytes.
    return info.name if info._is_text_encoding else "utf-8"
