"""Secrets at rest: encrypted in the database by keys that are derived from ENCRYPTION_KEYS, or from SECRET_KEY.

A copy of the database alone is then worth nothing: a backup, a replica, or rows in somebody's query.
"""

import base64
import binascii
import secrets
from collections.abc import Iterator
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

# Before the base64 of nonce and ciphertext: tells what is encrypted, and how.
PREFIX = "g1:"
NONCE_BYTES = 12


class Undecryptable(Exception):
    """It was encrypted by another key, or for something else."""


def is_encrypted(text: str) -> bool:
    return text.startswith(PREFIX)


def encrypt(secret: bytes, *, purpose: str) -> str:
    """Return `secret` encrypted, as text. purpose: the same has to be named to decrypt it."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = next(_ciphers()).encrypt(nonce, secret, purpose.encode())
    return PREFIX + base64.urlsafe_b64encode(nonce + sealed).decode()


def decrypt(text: str, *, purpose: str) -> bytes:
    """Return what was encrypted. Raises Undecryptable."""
    try:
        raw = base64.urlsafe_b64decode(text.removeprefix(PREFIX))
    except binascii.Error:
        raise Undecryptable from None
    for cipher in _ciphers():
        try:
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError):
            continue
    raise Undecryptable


def _ciphers() -> Iterator[AESGCM]:
    """By the key that encrypts, and by the earlier ones while these are kept."""
    for key in (*settings.ENCRYPTION_KEYS, settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        yield _cipher(key)


@lru_cache(maxsize=8)
def _cipher(key: str) -> AESGCM:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"quarterdeck secrets at rest")
    return AESGCM(derived.derive(key.encode()))
