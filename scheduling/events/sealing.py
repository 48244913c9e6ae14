"""What is secret of a channel: encrypted in the database, and read by nobody but deliveries."""

from operators import encryption
from scheduling.models import Channel

_PURPOSE = "channel"


def seal(secret: str) -> str:
    return encryption.encrypt(secret.encode(), purpose=_PURPOSE) if secret else ""


def unseal(channel: Channel) -> str:
    """Return a webhook's secret, or Slack's address. Raises Undecryptable after SECRET_KEY was replaced."""
    return encryption.decrypt(channel.sealed, purpose=_PURPOSE).decode() if channel.sealed else ""


def unreadable() -> list[str]:
    """Return the names of channels whose secrets no key decrypts."""
    names = []
    for channel in Channel.objects.exclude(sealed="").order_by("name"):
        try:
            unseal(channel)
        except encryption.Undecryptable:
            names.append(channel.name)
    return names


def reencrypt() -> None:
    """Encrypt the secrets of all channels with the current key. What no key decrypts stays as it is."""
    for channel in Channel.objects.exclude(sealed="").order_by("pk"):
        try:
            sealed = seal(unseal(channel))
        except encryption.Undecryptable:
            continue
        # Somebody may have entered another one meanwhile.
        Channel.objects.filter(pk=channel.pk, sealed=channel.sealed).update(sealed=sealed)
