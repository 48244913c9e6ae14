"""Receipts as a signed file: JSON lines that say at most how many requests started in any 60 s, and prove it.

The lines: what the file is, the receipts in the order of their chains, the statement with the digest of all lines
before it, and its signature. docs/receipts.md says how to check them with openssl or Python alone.
"""

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import chain
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.db.models import Max, Min, QuerySet

from operators.encryption import Undecryptable
from scheduling import models, store
from scheduling.core import clock, keys, receipt_chain
from scheduling.core.errors import BadFields, NoSuchQueue, SigningKeyUnreadable
from scheduling.dispatch import targets
from scheduling.proof import chain as proof_chain
from scheduling.queues import secrets_at_rest

MEDIA_TYPE, FILE_NAME = "application/x-ndjson", "receipts.ndjson"
LONGEST = timedelta(days=31)
# Read and sorted together.
STARTS_AT_A_TIME = timedelta(hours=2)


def _private_key() -> Ed25519PrivateKey:
    """Return the installation's key, which is drawn when it is first needed. Raises SigningKeyUnreadable."""
    installation = models.Installation.current()
    if not installation.signing_key:
        with store.write():
            installation = models.Installation.objects.select_for_update().get(pk=installation.pk)
            if not installation.signing_key:
                key = Ed25519PrivateKey.generate().private_bytes_raw()
                installation.signing_key = secrets_at_rest.seal_signing_key(key)
                installation.save(update_fields=["signing_key"])
    try:
        raw = secrets_at_rest.signing_key(installation)
    except Undecryptable:
        raise SigningKeyUnreadable from None
    return Ed25519PrivateKey.from_private_bytes(raw)


def public_key() -> str:
    """Return the key that checks the installation's files, as PEM. Raises SigningKeyUnreadable."""
    return _pem(_private_key())


def _pem(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def check_range(since: datetime, until: datetime, *, at: datetime) -> None:
    """Raise BadFields unless there can be receipts of the whole time."""
    reasons = {}
    if not since < until <= since + LONGEST:
        reasons["until"] = f"It must be after the beginning, by at most {LONGEST.days} days."
    elif until > at:
        reasons["until"] = "It is in the future."
    if since < at - timedelta(days=settings.RETENTION_DAYS):
        reasons["since"] = f"Receipts are kept for {settings.RETENTION_DAYS} days."
    if reasons:
        raise BadFields(**reasons)


def write(
    queues: Sequence[models.Queue], since: datetime, until: datetime, *, at: datetime
) -> Iterator[bytes]:
    """Yield the lines of a file about some queues, for [since, until). Raises SigningKeyUnreadable at once."""
    return _write(_private_key(), queues, since, until, at=at)


def _write(
    key: Ed25519PrivateKey, queues: Sequence[models.Queue], since: datetime, until: datetime, *, at: datetime
) -> Iterator[bytes]:
    digest = sha256()
    spans = [span for queue in queues if (span := _span(queue, since, until))]
    header = {
        "format": receipt_chain.FORMAT,
        "installation": models.Installation.current().key_part,
        "public_key": _pem(key),
        "queues": [queue.name for queue in queues],
        "since": clock.iso(since),
        "until": clock.iso(until),
        "made_at": clock.iso(at, "seconds"),
    }
    counts = Counter(dict.fromkeys(("receipts", "possible_repeats", "requests_without_time"), 0))
    for value in chain((header,), _receipts(spans, counts)):
        line = receipt_chain.canonical(value) + b"\n"
        digest.update(line)
        yield line
    busiest = receipt_chain.Busiest()
    for time in _starts(spans, since, until):
        busiest.add(time)
    facts = {
        **{name: header[name] for name in ("queues", "since", "until", "made_at")},
        **counts,
        "requests": busiest.count,
        "most_in_60_seconds": busiest.most,
        "without_receipt": _without_receipt(queues, spans, since, until),
        "lines_sha256": digest.hexdigest(),
    }
    signed = receipt_chain.canonical({"statement": receipt_chain.sentence(facts), **facts})
    yield signed + b"\n"
    yield receipt_chain.canonical({"signature": base64.b64encode(key.sign(signed)).decode()}) + b"\n"


@dataclass(frozen=True)
class _Span:
    """The receipts of a queue that a file has: without a gap in its chain, and all that ran in the time."""

    queue: models.Queue
    windows: tuple[int, int]
    sequences: tuple[int, int]

    @property
    def rows(self) -> QuerySet[models.ChainedReceipt]:
        rows = models.ChainedReceipt.objects.filter(queue=self.queue, sequence__range=self.sequences)
        return rows.order_by("sequence")

    @property
    def rows_in_time(self) -> QuerySet[models.ChainedReceipt]:
        return self.rows.filter(pk__range=self.windows).order_by("pk")


def _span(queue: models.Queue, since: datetime, until: datetime) -> _Span | None:
    windows = _windows(queue, since, until)
    ends = models.ChainedReceipt.objects.filter(queue=queue, pk__range=windows).aggregate(
        first=Min("sequence"), last=Max("sequence")
    )
    return _Span(queue, windows, (ends["first"], ends["last"])) if ends["first"] else None


def _windows(queue: models.Queue, since: datetime, until: datetime) -> tuple[int, int]:
    """Return the first and the last window of a queue that have minutes in [since, until)."""
    first = clock.running_window_start(since)
    last = clock.running_window_start(until - timedelta(microseconds=1))
    return keys.window_id(queue.pk, first), keys.window_id(queue.pk, last)


def _receipts(spans: Iterable[_Span], counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield the receipts, queue by queue in the order of their chains, and count what those in the time say."""
    for span in spans:
        first, last = span.sequences
        for start in range(first, last + 1, proof_chain.RECEIPTS_AT_A_TIME):
            rows = list(span.rows.filter(sequence__gte=start)[: proof_chain.RECEIPTS_AT_A_TIME])
            for line in proof_chain.lines(span.queue, rows):
                receipt = line["receipt"]
                counts["receipts"] += 1
                counts["possible_repeats"] += receipt["possible_repeats"]
                timed = sum(1 for _ in receipt_chain.read_starts(line["starts"]))
                counts["requests_without_time"] += max(0, receipt["sent"] - timed)
                yield line


def _starts(spans: Sequence[_Span], since: datetime, until: datetime) -> Iterator[int]:
    """Yield when requests of any of the queues started, ascending, in milliseconds since 1970."""
    first, end = (clock.epoch_microseconds(at) // 1_000 for at in (since, until))
    pending: list[int] = []
    at = clock.running_window_start(since)
    while at < until:
        stop = at + STARTS_AT_A_TIME
        for span in spans:
            within = keys.window_id(span.queue.pk, at), keys.window_id(span.queue.pk, stop) - 1
            for row in span.rows_in_time.filter(pk__range=within):
                begins = clock.epoch_microseconds(clock.runs_at(keys.starts_at_of_window(row.pk))) // 1_000
                pending += (begins + after for after in receipt_chain.read_starts(row.starts))
        # A late start can lie in the time of the next window.
        complete = clock.epoch_microseconds(clock.runs_at(stop) - clock.MINUTE) // 1_000
        pending.sort()
        yield from (time for time in pending if first <= time < min(end, complete))
        pending = [time for time in pending if time >= complete]
        at = stop
    yield from (time for time in pending if first <= time < end)


def _without_receipt(
    queues: Sequence[models.Queue], spans: Sequence[_Span], since: datetime, until: datetime
) -> list[str]:
    """Return the quarter-hours with IDs that have no receipt in the file, as `queue time`."""
    missing = []
    window_ids = {pk for span in spans for pk in span.rows_in_time.values_list("pk", flat=True)}
    for queue in queues:
        windows = models.Window.objects.filter(pk__range=_windows(queue, since, until), version__gt=0)
        missing += [
            f"{queue.name} {clock.iso(clock.runs_at(keys.starts_at_of_window(pk)))}"
            for pk in windows.order_by("pk").values_list("pk", flat=True)
            if pk not in window_ids
        ]
    return missing


def chosen_queues(names: Sequence[str], *, target: str | None) -> list[models.Queue]:
    """Return the queues with these names, or those that send to a target now; all of them without both.

    Raises NoSuchQueue, and BadFields for a target that no queue sends to.
    """
    queues = {queue.name: queue for queue in models.Queue.objects.order_by("name")}
    for name in names:
        if name not in queues:
            raise NoSuchQueue(name=name)
    selected = [queue for queue in queues.values() if not names or queue.name in names]
    if target is not None:
        selected = [queue for queue in selected if targets.origin_of_queue(queue) == target]
        if not selected:
            raise BadFields(target=f"No queue sends to {target}.")
    return selected
