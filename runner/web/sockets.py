"""Closes connections whose reader does not read: nothing else ends a socket with a full buffer."""

import fcntl
import os
import socket
import stat
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress

Address = tuple[str, int]


# Of the kernel's struct tcp_info: tcpi_bytes_acked, a 64-bit number, and what has to be there to contain it.
ACKED_AT, INFO_BYTES = 120, 128
# In bytes. The kernel doubles it.
SEND_BUFFER = 256 * 1024


def on_port(port: int) -> Iterator[socket.socket]:
    """Yield what listens on `port` and the connections accepted there, each as a duplicate that is closed again."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as connection:
                    is_tcp = connection.family in (socket.AF_INET, socket.AF_INET6)
                    if is_tcp and connection.getsockname()[1] == port:
                        yield connection


def unsent_bytes(connection: socket.socket) -> int:
    """How many bytes the peer has not taken yet."""
    return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])


def acknowledged_bytes(connection: socket.socket) -> int:
    """How many bytes the peer has taken since the connection began."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < INFO_BYTES:
        raise OSError("this kernel does not count acknowledged bytes")
    return int(struct.unpack_from("Q", info, ACKED_AT)[0])


def of_peer(port: int, peer: Address) -> Iterator[socket.socket]:
    """Yield the connection of `peer`, if it is still there."""
    for connection in on_port(port) if sys.platform == "linux" else ():
        with suppress(OSError):
            if connection.getpeername()[:2] == peer:
                yield connection
                return


def close(port: int, peer: Address) -> None:
    """Cut the connection of `peer`: a response that ends can't say that it is incomplete, one that breaks does."""
    for connection in of_peer(port, peer):
        connection.shutdown(socket.SHUT_RDWR)


def bound_buffers(port: int) -> None:
    """Let the kernel keep no more than SEND_BUFFER of what a peer doesn't read, instead of some megabytes.

    Connections inherit it from the socket that listens.
    """
    for each in on_port(port) if sys.platform == "linux" else ():
        with suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


class Stalled:
    """Finds connections on `port` whose peer doesn't read what is sent, and closes them."""

    def __init__(self, port: int, seconds: float) -> None:
        self.port = port
        self.seconds = seconds
        # For each peer with unsent bytes: how many it had taken, and since when that number is the same.
        self.progress: dict[Address, tuple[int, float]] = {}

    def close(self, now: float) -> int:
        """Look at all connections, and return how many were closed. Call it every few seconds."""
        if sys.platform != "linux":
            return 0
        peers: dict[Address, tuple[int, float]] = {}
        closed = 0
        for connection in on_port(self.port):
            with suppress(OSError):
                if not unsent_bytes(connection):
                    continue
                peer, count = connection.getpeername()[:2], acknowledged_bytes(connection)
                before, since = self.progress.get(peer, (count, now))
                peers[peer] = (count, since if count == before else now)
                if now - peers[peer][1] >= self.seconds:
                    connection.shutdown(socket.SHUT_RDWR)
                    closed += 1
        self.progress = peers
        return closed
