"""A way to PostgreSQL that counts round trips, and can be as long as between two cities."""

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Way:
    """Passes connections on to a database. one_way_seconds: how long each piece is on its way."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self.target, self.one_way_seconds = target, 0.0
        # How often somebody asked after an answer had come.
        self.round_trips = 0
        self._is_open = True

    def serve(self, listener: socket.socket) -> None:
        while self._is_open:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            kind = socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET
            server = socket.socket(kind)
            server.connect(self.target)
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def close(self) -> None:
        self._is_open = False

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        pieces: deque[tuple[float, socket.socket, bytes]] = deque()
        is_answered = True
        with selectors.DefaultSelector() as ready, client, server:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while self._is_open:
                wait = max(0.0, pieces[0][0] - time.monotonic()) if pieces else 0.2
                for key, _ in ready.select(wait):
                    if not (data := key.fileobj.recv(1 << 20)):
                        return
                    is_question = key.fileobj is client
                    self.round_trips += is_question and is_answered
                    is_answered = not is_question
                    pieces.append((time.monotonic() + self.one_way_seconds, key.data, data))
                while pieces and pieces[0][0] <= time.monotonic():
                    _, to, data = pieces.popleft()
                    to.sendall(data)


@contextmanager
def way_to(database: dict[str, Any], directory: Path) -> Iterator[Way]:
    """Lead the connections of a database's settings another way, by a UNIX socket in `directory`."""
    host, port = database["HOST"], database["PORT"] or "5432"
    way = Way(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, int(port)))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / f".s.PGSQL.{port}"))
        listener.listen()
        threading.Thread(target=way.serve, args=(listener,), daemon=True).start()
        database["HOST"] = str(directory)
        try:
            yield way
        finally:
            database["HOST"] = host
            way.close()
