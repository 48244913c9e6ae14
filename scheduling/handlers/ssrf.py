"""The SSRF guard: which addresses a webhook may be sent to.

Public addresses are allowed, and networks that the deployment opens. The text of a URL proves nothing:
`2130706433`, `0x7f.1` and `127.1` are all 127.0.0.1, and an IPv6 address can carry any IPv4 address. So the
guard checks the resolved address, and every IPv4 address inside it, against a list of what is public (Python's
`is_global` accepts NAT64, 6to4, `::127.0.0.1` and multicast). The client then connects to exactly the address
that was checked.
"""

import ipaddress
import socket
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import yarl

from scheduling.core.retry import ADDRESS_NOT_ALLOWED

from . import lookup
from .lookup import Address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS = {"http": 80, "https": 443}

# The limits of DNS names.
LONGEST_HOST, LONGEST_LABEL = 253, 63

# Not on the public internet, according to the IANA registries of special-purpose addresses.
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
# DNS64 gives these addresses to public IPv4 hosts that are reached through a translator.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressNotAllowed(ValueError):
    """The address must not be called; the message says why."""


def check_address(address: Address, allowed: Iterable[Network]) -> None:
    """Raise AddressNotAllowed unless the address is public, or in a network that the settings allow."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        # Another notation of the same IPv4 address.
        address = address.ipv4_mapped
    if _is_in(address, allowed):
        return
    if not _is_public(address):
        raise AddressNotAllowed(f"{ADDRESS_NOT_ALLOWED}: {address} is not on the public internet")


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address in _NAT64:
        return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _PUBLIC_6 or any(address in network for network in _NOT_PUBLIC_6):
        return False
    # An ISATAP address carries an IPv4 address after any prefix.
    return all(_is_public(inside) for inside in _isatap(address))


def _isatap(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    if int(address) >> 32 & 0xFDFFFFFF == 0x00005EFE:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def check_addresses(addresses: Sequence[Address], allowed: Sequence[Network]) -> None:
    """Raise AddressNotAllowed unless there are addresses and all of them are allowed.

    One private address refuses the name, since the next look-up could return that one alone.
    """
    if not addresses:
        raise AddressNotAllowed(f"{ADDRESS_NOT_ALLOWED}: the name has no address")
    for address in addresses:
        check_address(address, allowed)


def allowed_literals(host: str, allowed: Sequence[Network]) -> list[Address]:
    """Return the addresses that a host is written as: one, for localhost up to two, for a name none.

    Raises AddressNotAllowed if none of them is allowed.
    """
    address = literal_address(host)
    if address is None:
        return []
    if not is_localhost(host):
        check_address(address, allowed)
        return [address]
    literals = [loopback for loopback in (address, ipaddress.IPv6Address("::1")) if _is_in(loopback, allowed)]
    if not literals:
        check_address(address, allowed)
    return literals


def literal_address(host: str) -> Address | None:
    """Return the address that a host is written as, in any notation that resolvers accept; None for a name."""
    if is_localhost(host):
        return ipaddress.IPv4Address("127.0.0.1")
    host = _plain(host)
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        # Decimal, octal or hexadecimal, with one to four parts.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def is_localhost(host: str) -> bool:
    """Whether a host is always loopback, whatever a resolver returns (RFC 6761)."""
    host = _plain(host)
    return host == "localhost" or host.endswith(".localhost")


def _plain(host: str) -> str:
    # Host names may contain other full stops, which are equivalent to this one.
    return unicodedata.normalize("NFKC", host).replace("\u3002", ".").strip("[]").rstrip(".").lower()


def host_of(url: str) -> str:
    """Return the host of a URL in ASCII, exactly as the HTTP client reads it.

    Raises AddressNotAllowed if the client finds none.
    """
    try:
        host = yarl.URL(url).raw_host
    except (ValueError, UnicodeError) as error:
        raise AddressNotAllowed(f"not a web address: {error}") from None
    if not host:
        raise AddressNotAllowed("not a web address: it has no host")
    return host


def check_url(url: str, allowed: Iterable[Network]) -> None:
    """Raise AddressNotAllowed for a URL that could never be called, as far as that is known now.

    allowed: settings.WEBHOOK_ALLOWED_NETWORKS. A name that doesn't resolve now passes: it may resolve later.
    """
    allowed = list(allowed)
    check_form(url)
    host = host_of(url)
    if not allowed_literals(host, allowed) and (addresses := lookup.addresses_now(host)) is not None:
        check_addresses(addresses, allowed)


def check_form(url: str) -> None:
    """Raise AddressNotAllowed unless the URL is a plain http or https address, whose host could be in DNS."""
    _check_parts(url)
    host = host_of(url)
    labels = host.removesuffix(".").split(".")
    if len(host) > LONGEST_HOST or any(len(label) > LONGEST_LABEL for label in labels):
        raise AddressNotAllowed("the host name is longer than DNS allows")
    if not all(labels):
        raise AddressNotAllowed("the host name has two dots in a row")


def _check_parts(url: str) -> None:
    """Raise AddressNotAllowed unless the URL is a plain http or https address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressNotAllowed(f"not a web address: {error}") from None
    if port == 0:
        raise AddressNotAllowed("port 0 can't be called")
    if parts.scheme not in ("http", "https") or not host:
        raise AddressNotAllowed("a web address begins with http:// or https:// and has a host")
    if "@" in parts.netloc:
        raise AddressNotAllowed("the address contains a user name or a password: put them into a header")
    if any(character <= " " or character.isspace() for character in url):
        raise AddressNotAllowed("the address contains a blank or a control character")


@lru_cache(maxsize=256)
def origin_of(url: str) -> str:
    """Scheme, host and port of a URL: `https://hook.test:443`. ValueError for what is none."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError(url)
    # One target, whatever spelling of it a queue has.
    host = host_of(url)
    host = str(literal_address(host) or host.rstrip("."))
    host = f"[{host}]" if ":" in host else host
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    return f"{parts.scheme}://{host}:{port}"


def is_same_origin(url: str, other_url: str) -> bool:
    """Whether two URLs lead to the same scheme, host and port, however they are spelled."""
    try:
        return origin_of(url) == origin_of(other_url)
    except ValueError:
        return False
