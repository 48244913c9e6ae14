"""Checks a signed file of receipts from its first line to its last: what docs/receipts.md describes."""

import base64
import json
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from scheduling.core import clock, receipt_chain
from scheduling.core.receipt_chain import Broken


def verify(lines: Iterable[bytes]) -> tuple[dict[str, Any], str]:
    """Return the statement of a file that holds, and its public key. Raises Broken."""
    header: dict[str, Any] = {}
    follower, digest, starts = receipt_chain.Follower(), sha256(), list[int]()
    last_two: deque[bytes] = deque(maxlen=2)
    for line in lines:
        if len(last_two) == 2:
            digest.update(last_two[0])
            value = _read(last_two[0])
            if header:
                follower.check(value)
                begins = _milliseconds(value["runs_from"])
                starts += (begins + after for after in receipt_chain.read_starts(value["starts"]))
            header = header or value
        last_two.append(line)
    if header.get("format") != receipt_chain.FORMAT:
        raise Broken("The file does not contain receipts, or its first line is missing.")
    statement = _signed(header["public_key"], *last_two)
    if statement["lines_sha256"] != digest.hexdigest():
        raise Broken("The lines before the statement have been changed since they were signed.")
    _count(header, starts, statement)
    return statement, header["public_key"]


def _read(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Broken("The file is incomplete: one of its lines is not a JSON object.")
    return value


def _milliseconds(text: str) -> int:
    return clock.epoch_microseconds(datetime.fromisoformat(text)) // 1_000


def _signed(public_key: str, statement: bytes, signature: bytes) -> dict[str, Any]:
    try:
        key = load_pem_public_key(public_key.encode())
        if isinstance(key, Ed25519PublicKey):
            key.verify(base64.b64decode(_read(signature)["signature"]), statement.rstrip(b"\n"))
            return _read(statement)
    except (InvalidSignature, KeyError, ValueError):
        pass
    raise Broken("The signature does not match the statement and the key in the file.")


def _count(header: Mapping[str, Any], starts: list[int], statement: Mapping[str, Any]) -> None:
    """Count the starts once more. Raises Broken."""
    since, until = _milliseconds(header["since"]), _milliseconds(header["until"])
    busiest = receipt_chain.Busiest()
    for time in sorted(starts):
        if since <= time < until:
            busiest.add(time)
    if busiest.most != statement["most_in_60_seconds"]:
        claim = statement["most_in_60_seconds"]
        raise Broken(f"The statement says {claim} in 60 seconds, but the starts add up to {busiest.most}.")
