"""DATABASE_URL, read strictly. Standard library only."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote

from settings.env import BadSetting
from settings.url import refusal_of, split

EXPECTED = (
    "postgres://USER:PASSWORD@HOST:PORT/NAME (?host=/socket/directory and sslmode are accepted) "
    "or sqlite:///path/to/file"
)
# The options of libpq that a deployment needs; anything else is more likely a mistake.
POSTGRESQL_OPTIONS = frozenset({
    "host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "application_name",
    "target_session_attrs", "options", "passfile", "service",
})  # fmt: skip


def read_database_url(url: str) -> dict[str, Any]:
    """Parse `url` into the keys of Django's DATABASES, without tuning.

    The keys: "vendor" ("postgresql" or "sqlite"), "NAME", and for PostgreSQL "USER", "PASSWORD", "HOST",
    "PORT" and "OPTIONS". Raises BadSetting for any other scheme, form or option; its text hides the password.
    """
    refusal = refusal_of("DATABASE_URL", EXPECTED, url)
    parts, port, query = split(url, refusal)
    if parts.fragment or re.search(r"%(?![0-9A-Fa-f]{2})", url):
        raise refusal
    if parts.scheme == "sqlite":
        return _sqlite(parts.netloc, unquote(parts.path), query, refusal)
    if parts.scheme in {"postgres", "postgresql"}:
        return _postgresql(parts, port, query, refusal)
    raise refusal


def _sqlite(netloc: str, path: str, query: Mapping[str, str], refusal: BadSetting) -> dict[str, Any]:
    # sqlite:///relative and sqlite:////absolute, as is usual.
    if netloc or query or len(path) < 2 or path.endswith(("/", ":memory:")):
        raise refusal
    return {"vendor": "sqlite", "NAME": path[1:]}


def _postgresql(
    parts: SplitResult, port: int | None, query: dict[str, str], refusal: BadSetting
) -> dict[str, Any]:
    name = unquote(parts.path[1:])
    is_valid = name and "/" not in name
    if not is_valid or not query.keys() <= POSTGRESQL_OPTIONS or "" in query.values():
        raise refusal
    host = query.pop("host", "") or unquote(parts.hostname or "")
    return {
        "vendor": "postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": query.pop("port", "") or str(port or ""),
        "OPTIONS": query,
    }
