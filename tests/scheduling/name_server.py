"""A name server on loopback that answers, or stays silent, as a test wants."""

import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from scheduling.handlers.lookup import Sources

SILENT = None
REFUSED = "refused"
NO_ADDRESS: Sequence[str] = ()


@dataclass
class NameServer:
    """names: name to its addresses; SILENT: no reply at all. Names that are not there don't exist.

    silent_types: of record types (`AAAA`) that get no reply.
    """

    names: dict[str, Sequence[str] | str | None]
    silent_types: frozenset[str] = frozenset()
    questions: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> "NameServer":
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        # An empty datagram ends it.
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join(120)
        self._socket.close()

    def sources(self, directory: Path, hosts: Mapping[str, str] | None = None) -> Sources:
        """What a look-up reads to ask this server. hosts: name to address, for the hosts file."""
        (directory / "resolv.conf").write_text("nameserver 127.0.0.1\nsearch internal.test\n")
        lines = [f"{address} {name}  # a comment\n" for name, address in (hosts or {}).items()]
        (directory / "hosts").write_text("".join(["# hosts\n", *lines]))
        return Sources(
            str(directory / "hosts"), str(directory / "resolv.conf"), self._socket.getsockname()[1]
        )

    def _serve(self) -> None:
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            query = dns.message.from_wire(data)
            [question] = query.question
            name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
            self.questions.append((name, kind))
            result = self.names.get(name, "missing")
            if result is SILENT or kind in self.silent_types:
                continue
            reply = dns.message.make_response(query)
            reply.flags |= dns.flags.RA
            if result == "missing":
                reply.set_rcode(dns.rcode.NXDOMAIN)
            elif result == REFUSED:
                reply.set_rcode(dns.rcode.REFUSED)
            elif addresses := [item for item in result if (":" in item) == (kind == "AAAA")]:
                reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *addresses))
            self._socket.sendto(reply.to_wire(), client)
