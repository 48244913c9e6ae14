"""The generated secret key. Standard library only."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from settings.env import BadSetting

# Shorter keys can be guessed.
SHORTEST = 16


def read_or_make_secret_key(path: Path) -> str:
    """Return the key stored in `path`, generating it with mode 600 if the file doesn't exist.

    Several processes may start at once in an empty directory: the key is written under another name and linked
    into place, so that all use the first one's key, and none reads half of one. Raises BadSetting if the file
    contains no valid key.
    """
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(50))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            os.unlink(draft)
    key = path.read_text(encoding="utf-8").strip()
    if len(key) < SHORTEST:
        raise BadSetting("SECRET_KEY", f"{SHORTEST} characters or more (in {path})", f"{len(key)} long")
    return key
