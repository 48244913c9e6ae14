"""Secrets that a target repeats in its responses: they are masked before anything is stored or shown."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

MASK = "***"
# Shorter texts are in too many responses by chance: the limits for a secret, and for a header that may be none.
SHORTEST, SHORTEST_HEADER = 4, 8
# Headers whose values are no credentials.
_PUBLIC = frozenset(
    {"accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "content-language"}
    | {"content-type", "origin", "referer", "user-agent", "x-requested-with"}
)
# What a value inserts for each ID is no secret of the queue.
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")
# Words that say what kind of credentials follows.
_SCHEMES = ("bearer", "basic", "token", "apikey", "digest")


@dataclass(frozen=True)
class Mask:
    """Masks some secrets in a text. secrets: the longest first, so that none is masked as a part of another."""

    secrets: tuple[str, ...] = ()

    @classmethod
    def of(cls, headers: Mapping[str, str], secrets: Iterable[str]) -> "Mask":
        """Return the mask of a queue: the fixed parts of its headers' values, and secrets that sign or fetch tokens."""
        values = [value for name, value in headers.items() if name.lower() not in _PUBLIC]
        parts = [part for value in values for part in _parts(value) if len(part) >= SHORTEST_HEADER]
        return cls(_longest_first([*parts, *secrets]))

    @lru_cache(maxsize=16)  # noqa: B019  Few queues have tokens, and few tokens are valid at once.
    def with_secret(self, secret: str) -> "Mask":
        """Return a mask that masks another secret too, such as a token."""
        return Mask(_longest_first([*self.secrets, secret])) if secret else self

    @property
    def longest(self) -> int:
        return len(self.secrets[0]) if self.secrets else 0

    def __call__(self, text: str, *, is_cut: bool = False) -> str:
        """Mask the secrets. is_cut: the text is the beginning of a longer one, so that it may end within a secret."""
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        return text[: max(0, len(text) - self.longest + 1)] if is_cut and self.secrets else text


def _longest_first(texts: Iterable[str]) -> tuple[str, ...]:
    forms = {form for text in texts if len(text) >= SHORTEST for form in _forms(text)}
    return tuple(sorted(forms, key=lambda text: (-len(text), text)))


def _forms(text: str) -> Iterator[str]:
    """Yield a text as it is, inside JSON, and inside an address."""
    yield text
    yield json.dumps(text)[1:-1]
    yield quote(text, safe="")


def _parts(value: str) -> Iterator[str]:
    """Yield what is fixed in a header's value, and the credentials alone where they follow the name of a scheme."""
    for part in _PLACEHOLDER.split(value):
        yield (part := part.strip())
        scheme, _, credentials = part.partition(" ")
        if scheme.lower() not in _SCHEMES:
            continue
        yield (credentials := credentials.strip())
        if scheme.lower() == "basic":
            with suppress(ValueError):
                pair = base64.b64decode(credentials, validate=True).decode()
                yield pair
                yield pair.partition(":")[2]
