"""EMAIL_URL, read strictly. Standard library only."""

import re
from typing import Any
from urllib.parse import unquote

from settings.url import refusal_of, split

EXPECTED = (
    "smtp://USER:PASSWORD@HOST:PORT/?from=ADDRESS, or smtps:// for TLS from the first byte"
    " (smtp:// upgrades to TLS by STARTTLS unless &starttls=0)"
)
TIMEOUT_SECONDS = 10
_PORTS = {"smtp": 587, "smtps": 465}


def read_email_url(url: str) -> dict[str, Any]:
    """Parse `url` into Django's settings for e-mail. Raises BadSetting, whose text hides the password."""
    refusal = refusal_of("EMAIL_URL", EXPECTED, url)
    parts, port, query = split(url, refusal)
    sender, starttls = query.pop("from", ""), query.pop("starttls", "1")
    is_valid = parts.scheme in _PORTS and parts.hostname and parts.path in ("", "/") and not parts.fragment
    if not is_valid or query or starttls not in ("0", "1") or not re.fullmatch(r"[^@\s]+@[^@\s]+", sender):
        raise refusal
    is_tls = parts.scheme == "smtps"
    return {
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": port or _PORTS[parts.scheme],
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_SSL": is_tls,
        "EMAIL_USE_TLS": not is_tls and starttls == "1",
        "EMAIL_TIMEOUT": TIMEOUT_SECONDS,
        "DEFAULT_FROM_EMAIL": sender,
    }
