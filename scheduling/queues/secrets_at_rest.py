"""Secrets as they are stored: encrypted, or those of queues as plain text while hosts may run an earlier release."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from operators import encryption, second_factor
from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.events import sealing
from scheduling.models.fields import PlainSecret, UnreadableSecret
from scheduling.placement import reservations

# Of the key that signs files of receipts.
_SIGNING = "receipts"


@dataclass(frozen=True)
class State:
    """What has secrets that no key decrypts, and the names of queues whose secrets are plain text."""

    unreadable: tuple[str, ...]
    plain: tuple[str, ...]


def state() -> State:
    """Return what can't be read, and what isn't encrypted."""
    queues = list(models.Queue.objects.order_by("name"))
    unreadable = [queue.name for queue in queues if queue.unreadable_secrets]
    unreadable += [f"the channel {name}" for name in sealing.unreadable()]
    unreadable += [f"the authenticator app of {name}" for name in second_factor.unreadable()]
    try:
        signing_key(models.Installation.current())
    except encryption.Undecryptable:
        unreadable.append("the receipts (their signing key)")
    return State(tuple(unreadable), tuple(queue.name for queue in queues if queue.has_plain_secrets))


def signing_key(installation: models.Installation) -> bytes:
    """Return the private key that signs files of receipts; empty before it is drawn. Raises Undecryptable."""
    stored = installation.signing_key
    return encryption.decrypt(stored, purpose=_SIGNING) if stored else b""


def seal_signing_key(key: bytes) -> str:
    return encryption.encrypt(key, purpose=_SIGNING)


def as_stored(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a queue with their secrets in the form in which this installation stores them now.

    Call it in the transaction that stores them, once the queue is locked.
    """
    encrypts = models.Installation.current().encrypts_secrets

    def form(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: form(text) for name, text in value.items()}
        if not isinstance(value, str) or isinstance(value, UnreadableSecret):
            return value
        return str(value) if encrypts else PlainSecret(value)

    secret = {name: form(fields[name]) for name in models.SECRET_FIELDS if name in fields}
    return {**fields, **secret}


def reencrypt(*, by: Actor, at: datetime) -> State:
    """Encrypt all secrets with the current key; from now on they are stored so. Return what remains as it was.

    What no key decrypts stays as it is. Releases before this one can't read what is encrypted.
    """
    with store.write():
        installation = models.Installation.current()
        models.Installation.objects.filter(pk=installation.pk).update(encrypts_secrets=True)
        activity.record(by, "reencrypted", installation, at=at)
    for number in models.Queue.objects.order_by("pk").values_list("pk", flat=True):
        with store.write():
            queue = reservations.lock_queue(number)
            # What a worker, a page or a program has read of the queue stays true: it gets no other version.
            models.Queue.objects.filter(pk=number).update(
                **as_stored({name: getattr(queue, name) for name in models.SECRET_FIELDS})
            )
    sealing.reencrypt()
    second_factor.reencrypt()
    _reencrypt_signing_key()
    return state()


def forget_earlier(*, at: datetime) -> int:
    """Delete the secrets of queues that no longer sign. Returns of how many queues."""
    count = 0
    for number in models.Queue.objects.order_by("pk").values_list("pk", flat=True):
        with store.write():
            queue = reservations.lock_queue(number)
            older = {
                until: text
                for until, text in queue.webhook_older_secrets.items()
                if datetime.fromisoformat(until) > at
            }
            ends_at = queue.webhook_previous_secret_until
            is_over = ends_at is not None and ends_at <= at
            if not is_over and len(older) == len(queue.webhook_older_secrets):
                continue
            # A queue gets no other version: nobody sees these.
            changed = as_stored({"webhook_older_secrets": older})
            if is_over:
                changed |= {"webhook_previous_secret": "", "webhook_previous_secret_until": None}
            models.Queue.objects.filter(pk=number).update(**changed)
            count += 1
    return count


def _reencrypt_signing_key() -> None:
    with store.write(), suppress(encryption.Undecryptable):
        installation = models.Installation.objects.select_for_update().get()
        if key := signing_key(installation):
            installation.signing_key = seal_signing_key(key)
            installation.save(update_fields=["signing_key"])
