"""A pooler that works by transaction, for where no PgBouncer is installed: each transaction may get another session.

As with PgBouncer, a client isn't told the process that serves it, and what a session sets stays on that session.
"""

import os
import queue
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
# Messages of a client that are answered by ReadyForQuery.
ANSWERED = (b"Q", b"S", b"F")
WAIT_SECONDS = 30.0


class Message(NamedTuple):
    """kind: the first byte; empty for the first message of a connection."""

    kind: bytes
    body: bytes

    def encode(self) -> bytes:
        return self.kind + struct.pack("!I", len(self.body) + 4) + self.body


class Wire:
    """One connection, read message by message."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket, self._buffer = connected, b""

    def read(self, *, with_kind: bool = True) -> Message:
        """Read one message. Raises ConnectionError at the end."""
        head = 5 if with_kind else 4
        while (message := self._take(head)) is None:
            if not (data := self.socket.recv(1 << 16)):
                raise ConnectionError("closed")
            self._buffer += data
        return message

    def has_message(self) -> bool:
        return len(self._buffer) >= 5 and len(self._buffer) > struct.unpack("!I", self._buffer[1:5])[0]

    def _take(self, head: int) -> Message | None:
        if len(self._buffer) < head:
            return None
        (length,) = struct.unpack("!I", self._buffer[head - 4 : head])
        end = head - 4 + length
        if len(self._buffer) < end:
            return None
        message = Message(self._buffer[: head - 4], self._buffer[head:end])
        self._buffer = self._buffer[end:]
        return message


class Pool:
    """Sessions of one user and one database, which transactions take in turn."""

    def __init__(self, server: str, names: dict[str, str], size: int) -> None:
        self.server, self.names = server, names
        # What a session says of itself at its start: its clients are told the same.
        self.greeting = b""
        # First in, first out: a client gets the same session twice only by chance.
        self._idle: queue.Queue[Wire | None] = queue.Queue()
        for _ in range(size):
            self._idle.put(None)

    def take(self) -> Wire:
        wire = self._idle.get(timeout=WAIT_SECONDS)
        try:
            return wire or self._connect()
        except BaseException:
            self._idle.put(None)
            raise

    def give_back(self, wire: Wire | None) -> None:
        self._idle.put(wire)

    def _connect(self) -> Wire:
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(self.server)
        wire = Wire(connected)
        pairs = {**self.names, "client_encoding": "UTF8", "TimeZone": "UTC"}
        text = b"".join(f"{name}\0{value}\0".encode() for name, value in pairs.items())
        connected.sendall(Message(b"", struct.pack("!I", 196608) + text + b"\0").encode())
        greeting = b""
        while (message := wire.read()).kind != b"Z":
            if message.kind == b"E":
                connected.close()
                raise PermissionError(message.encode())
            # Everything but the process and its key.
            greeting += b"" if message.kind == b"K" else message.encode()
        self.greeting = greeting
        return wire


class Pooler:
    """Serves clients, each in a thread of its own. server: the path of PostgreSQL's socket."""

    def __init__(self, server: str, pool_size: int) -> None:
        self.server, self.pool_size = server, pool_size
        self._pools: dict[tuple[str, str], Pool] = {}
        self._lock = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_client, args=(client,), daemon=True).start()

    def _serve_client(self, connected: socket.socket) -> None:
        with connected, suppress(OSError, queue.Empty):
            client = Wire(connected)
            pool = self._greet(client)
            while pool is not None:
                message = client.read()
                if message.kind == b"X":
                    return
                server = pool.take()
                try:
                    is_sound = _relay_transaction(client, server, message)
                except OSError:
                    is_sound = False
                if not is_sound:
                    # Whatever it was in the middle of ends with it.
                    server.socket.close()
                pool.give_back(server if is_sound else None)
                if not is_sound:
                    return

    def _greet(self, client: Wire) -> Pool | None:
        """Answer a client's first message; return the pool that it asks for."""
        while True:
            body = client.read(with_kind=False).body
            (code,) = struct.unpack("!I", body[:4])
            if code == CANCEL_REQUEST:
                return None
            if code not in (SSL_REQUEST, GSS_REQUEST):
                break
            client.socket.sendall(b"N")
        words = body[4:].split(b"\0")
        parameters = {
            name.decode(): value.decode() for name, value in zip(words[::2], words[1::2], strict=False)
        }
        names = {"user": parameters["user"], "database": parameters.get("database", parameters["user"])}
        with self._lock:
            pool = self._pools.setdefault(
                (names["user"], names["database"]), Pool(self.server, names, self.pool_size)
            )
        try:
            pool.give_back(pool.take())
        except PermissionError as error:
            client.socket.sendall(error.args[0])
            return None
        key = Message(b"K", os.urandom(8))
        client.socket.sendall(pool.greeting + key.encode() + Message(b"Z", b"I").encode())
        return pool


def _relay_transaction(client: Wire, server: Wire, message: Message) -> bool:
    """Pass messages on until a transaction is over; return whether the session can be used again."""
    unanswered = message.kind in ANSWERED
    server.socket.sendall(message.encode())
    while True:
        for wire in _readable(client, server):
            if wire is server:
                message = server.read()
                client.socket.sendall(message.encode())
                unanswered -= message.kind == b"Z"
                if message == Message(b"Z", b"I") and not unanswered:
                    return True
            else:
                message = client.read()
                if message.kind == b"X":
                    return False
                unanswered += message.kind in ANSWERED
                server.socket.sendall(message.encode())


def _readable(client: Wire, server: Wire) -> list[Wire]:
    wires = [wire for wire in (server, client) if wire.has_message()]
    if not wires:
        sockets, _, _ = select.select([server.socket, client.socket], [], [])
        wires = [wire for wire in (server, client) if wire.socket in sockets]
    # One at a time: after the server's last message the session may be somebody else's.
    return wires[:1]


@contextmanager
def pooler(server: str, directory: Path, *, pool_size: int) -> Iterator[None]:
    """Serve in a directory for sockets, as long as this is open."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / ".s.PGSQL.5432"))
        listener.listen(128)
        threading.Thread(target=Pooler(server, pool_size).serve, args=(listener,), daemon=True).start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
