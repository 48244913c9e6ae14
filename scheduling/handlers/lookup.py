"""Resolves host names without threads, so that a name server that is silent delays nobody else's requests.

The system's resolver blocks a thread for each look-up, up to half a minute, and can't be stopped: an event loop
gives all of its look-ups the same few threads. Here a look-up is a task: it ends with its time limit or its
caller. It reads /etc/hosts and /etc/resolv.conf (name servers, search domains, ndots, options), and no other
source that nsswitch.conf may name.

Measured for a name on a loopback name server: 0.9 ms of CPU; 0.8 ms with aiodns and a channel for each target (in
c-ares only a whole channel can be cancelled), and one more thread for each channel.
"""

import asyncio
import functools
import ipaddress
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# The longest that a result is used again; a shorter time to live of the name counts.
CACHE_SECONDS = 30.0
_CACHE_NAMES = 1_000
# Once one address family has answered, the other one is given this much longer (RFC 8305: 50 ms).
_OTHER_FAMILY_SECONDS = 0.25
# How long to wait for a name server before the next one is asked.
_SERVER_SECONDS = 1.5


class LookupFailed(OSError):
    """The name has no address, or no name server could say; the message says which."""


@dataclass(frozen=True)
class Sources:
    """Where names are looked up."""

    hosts: str = "/etc/hosts"
    resolv_conf: str = "/etc/resolv.conf"
    port: int = 53


SYSTEM = Sources()
# Name to when its result ends (monotonic), and the result.
_cache: dict[tuple[Sources, str], tuple[float, list[Address]]] = {}
# A person who saves a queue waits for its address to be looked up.
_NOW_SECONDS = 3.0


def cached(host: str, sources: Sources = SYSTEM) -> list[Address] | None:
    """Return the addresses that were kept for a name, if they are recent."""
    ends_at, addresses = _cache.get((sources, host), (0.0, []))
    return addresses if ends_at > time.monotonic() else None


def keep(host: str, addresses: list[Address], seconds: float, sources: Sources = SYSTEM) -> None:
    """Keep addresses that the SSRF guard accepted. seconds: the name's time to live."""
    if len(_cache) >= _CACHE_NAMES:
        _cache.clear()
    _cache[sources, host] = time.monotonic() + min(seconds, CACHE_SECONDS), addresses


async def resolve(host: str, sources: Sources = SYSTEM) -> tuple[list[Address], float]:
    """Return the addresses of a name, IPv6 first, and for how many seconds they hold. Raises LookupFailed.

    It takes as long as the caller lets it: give it a time limit.
    """
    if local := _hosts_file(sources.hosts).get(host.rstrip(".").lower()):
        return local, CACHE_SECONDS
    try:
        resolver = dns.asyncresolver.Resolver(filename=sources.resolv_conf)
    except (OSError, dns.exception.DNSException) as error:
        raise LookupFailed(f"{sources.resolv_conf} names no name server: {error}") from error
    resolver.port = sources.port
    # The caller's time limit ends it.
    resolver.timeout, resolver.lifetime = _SERVER_SECONDS, 60.0
    tasks = [
        asyncio.ensure_future(resolver.resolve(host, family, search=True, raise_on_no_answer=False))
        for family in (dns.rdatatype.AAAA, dns.rdatatype.A)
    ]
    try:
        return _result(host, await _both(tasks))
    finally:
        for task in tasks:
            task.cancel()


def addresses_now(host: str) -> list[Address] | None:
    """Return the addresses of a name, from a thread without an event loop; None if that fails or takes long."""
    try:
        return asyncio.run(asyncio.wait_for(resolve(host), _NOW_SECONDS))[0]
    except OSError:
        return None


async def _both(
    tasks: Sequence[asyncio.Task[dns.resolver.Answer]],
) -> list[dns.resolver.Answer | BaseException]:
    """Wait for both families, but for the second one only a moment once the first has an address."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    has_address = any(task.done() and not task.exception() and task.result().rrset for task in tasks)
    await asyncio.wait(tasks, timeout=_OTHER_FAMILY_SECONDS if has_address else None)
    return [task.exception() or task.result() for task in tasks if task.done()]


def _result(host: str, answers: Sequence[dns.resolver.Answer | BaseException]) -> tuple[list[Address], float]:
    sets = [answer.rrset for answer in answers if isinstance(answer, dns.resolver.Answer) and answer.rrset]
    addresses = [ipaddress.ip_address(record.address) for rrset in sets for record in rrset]
    if addresses:
        return addresses, float(min(rrset.ttl for rrset in sets))
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    for error in errors:
        if not isinstance(error, dns.exception.DNSException | OSError):
            raise error
    if not errors or isinstance(errors[0], dns.resolver.NXDOMAIN):
        raise LookupFailed(f"{host} has no address in the DNS")
    raise LookupFailed(f"the look-up of {host} failed: {errors[0]}")


def _hosts_file(path: str) -> dict[str, list[Address]]:
    try:
        status = os.stat(path)
    except OSError:
        return {}
    return _read_hosts(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _read_hosts(path: str, _changed_ns: int, _size: int) -> dict[str, list[Address]]:
    """Read a hosts file: name to addresses. The last two arguments tell versions of the file apart."""
    result: dict[str, list[Address]] = {}
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            text, *names = line.partition("#")[0].split() or [""]
            try:
                address = ipaddress.ip_address(text.partition("%")[0])
            except ValueError:
                continue
            for name in names:
                result.setdefault(name.lower(), []).append(address)
    return result
