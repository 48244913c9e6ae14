"""Which addresses a webhook may go to: public ones, and networks that the deployment allows.

Text says nothing: `2130706433`, `0x7f.1` and `127.1` are 127.0.0.1, and an IPv6 address can carry any IPv4
address. So it is the resolved address that is judged, with every IPv4 address in it, against a list of what
is public (Python's `is_global` calls NAT64, 6to4, `::127.0.0.1` and multicast global). And the connection
goes to just the address that was judged: see handlers.webhook.
"""

import ipaddress
import socket
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from urllib.parse import urlsplit

import yarl

from scheduling.core.retry import ADDRESS_NOT_ALLOWED

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

RESOLVE_SECONDS = 3.0
# Of names in the DNS.
LONGEST_HOST, LONGEST_LABEL = 253, 63

# What isn't the public internet, by the IANA registries of special-purpose addresses.
_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]
# Where DNS64 says that a public IPv4 address is reached through a translator.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressNotAllowed(ValueError):
    """The address may not be called; the text says why."""


def judge(address: Address, allowed: Iterable[Network]) -> None:
    """Raise AddressNotAllowed unless the address is public, or in a network that the settings allow."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        # The same place by another name.
        address = address.ipv4_mapped
    if any(address.version == network.version and address in network for network in allowed):
        return
    if not _is_public(address):
        raise AddressNotAllowed(f"{ADDRESS_NOT_ALLOWED}: {address} is not on the public internet")


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address in _NAT64:
        return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _PUBLIC_6 or any(address in network for network in _NOT_PUBLIC_6):
        return False
    # ISATAP carries an IPv4 address behind any prefix.
    return all(_is_public(inside) for inside in _isatap(address))


def _isatap(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    if int(address) >> 32 & 0xFDFFFFFF == 0x00005EFE:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def judged(found: Sequence[tuple], allowed: Sequence[Network]) -> tuple[str, int]:
    """Return the first of the addresses (as socket.getaddrinfo gives them) and its family; judge all of them.

    A name with one public address and one private could be either from one moment to the next.
    """
    if not found:
        raise AddressNotAllowed(f"{ADDRESS_NOT_ALLOWED}: the name has no address")
    for _, _, _, _, address in found:
        judge(ipaddress.ip_address(address[0].partition("%")[0]), allowed)
    family, _, _, _, address = found[0]
    return address[0], family


def literal(host: str) -> Address | None:
    """The address that a host *is*, in whatever form the resolver takes one; None for a name."""
    # Names of hosts may have other full stops, which all mean this one.
    host = unicodedata.normalize("NFKC", host).replace("\u3002", ".").strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        # Whatever a resolver says of it (RFC 6761).
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        # Decimal, octal, hexadecimal, and with fewer than four parts.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def called_host(url: str) -> str:
    """The host that a URL really leads to, as the client that calls it reads it, in ASCII.

    Raises AddressNotAllowed where that one reads none.
    """
    try:
        host = yarl.URL(url).raw_host
    except (ValueError, UnicodeError) as error:
        raise AddressNotAllowed(f"no web address: {error}") from None
    if not host:
        raise AddressNotAllowed("no web address: it has no host")
    return host


def check_url(url: str, allowed: Iterable[Network]) -> None:
    """Raise AddressNotAllowed for a URL that could never be called, as far as that can be known now.

    allowed: settings.WEBHOOK_ALLOWED_NETWORKS. A name that can't be resolved now may be later.
    """
    allowed = list(allowed)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressNotAllowed(f"no web address: {error}") from None
    if port == 0:
        raise AddressNotAllowed("no web address: nothing answers at port 0")
    if parts.scheme not in ("http", "https") or not host:
        raise AddressNotAllowed("a web address begins with http:// or https:// and has a host")
    if parts.username is not None or parts.password is not None:
        raise AddressNotAllowed("an address with a user or a password in it: use a header")
    if any(character.isspace() or ord(character) < 32 for character in url):
        raise AddressNotAllowed("a web address has no blanks")
    host = called_host(url)
    labels = host.removesuffix(".").split(".")
    if len(host) > LONGEST_HOST or any(len(label) > LONGEST_LABEL for label in labels):
        raise AddressNotAllowed("no host has so long a name")
    if not all(labels):
        raise AddressNotAllowed("a host's name has nothing between two of its dots")
    if (address := literal(host)) is not None:
        judge(address, allowed)
        return
    if (found := _resolve(host, port or 80)) is not None:
        judged(found, allowed)


def _resolve(host: str, port: int) -> list[tuple] | None:
    # In a thread: the system's resolver may take its time, and whoever saves a queue is waiting.
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM).result(RESOLVE_SECONDS)
    except (OSError, UnicodeError, TooLate):
        return None
    finally:
        pool.shutdown(wait=False)
