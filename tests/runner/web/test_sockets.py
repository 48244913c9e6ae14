"""Connections whose reader doesn't read, with real sockets."""

import socket
import sys
from contextlib import closing

import pytest

from runner.web import sockets

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and the kernel's TCP counters")


@pytest.fixture
def listener():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener


@pytest.fixture
def connection(listener):
    """A listener's port, the accepted end and the client's end."""
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    with client, accepted:
        yield listener.getsockname()[1], accepted, client


def fill(accepted: socket.socket) -> None:
    accepted.setblocking(False)
    while True:
        try:
            accepted.send(b"x" * 65536)
        except BlockingIOError:
            return


def is_closed(accepted: socket.socket) -> bool:
    try:
        accepted.send(b"x")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def test_unread_connection_is_closed_after_a_while(connection):
    port, accepted, _ = connection
    fill(accepted)
    stalled = sockets.Stalled(port, 60)
    assert stalled.close(0) == 0
    assert stalled.close(59) == 0
    assert stalled.close(60) == 1
    assert is_closed(accepted)


def test_slow_reader_is_left_alone(connection):
    port, accepted, client = connection
    fill(accepted)
    stalled = sockets.Stalled(port, 60)
    for now in range(0, 600, 30):
        assert stalled.close(now) == 0
        # Enough for the kernel to announce room, and for the sender to fill it again.
        received = 0
        while received < 2_000_000:
            received += len(client.recv(65536))
            fill(accepted)
    assert not is_closed(accepted)


def test_connection_with_nothing_to_send_may_wait_forever(connection):
    port, accepted, _ = connection
    stalled = sockets.Stalled(port, 60)
    assert stalled.close(0) == stalled.close(1000) == 0
    assert not is_closed(accepted)


def test_closing_a_connection_leaves_other_peers_alone(connection):
    port, accepted, client = connection
    other = sockets.Stalled(port, 60)
    sockets.close(port, ("127.0.0.1", 1))
    assert not is_closed(accepted)
    sockets.close(port, client.getsockname())
    assert is_closed(accepted)
    assert other.close(0) == 0


def test_kernel_keeps_little_for_peers_that_read_nothing(listener, connection):
    port, earlier, _ = connection
    sockets.bound_buffers(port)
    with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as later:
        assert client
        for accepted in (earlier, later):
            fill(accepted)
            assert sockets.unsent_bytes(accepted) <= 4 * sockets.SEND_BUFFER
