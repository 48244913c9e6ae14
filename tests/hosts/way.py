"""A long way to a database, from within a host: `python -m tests.hosts.way PORT HOST PORT ONE_WAY_SECONDS`."""

import socket
import sys

from tests.far_database import Way


def main(port: str, host: str, to_port: str, one_way_seconds: str) -> None:
    way = Way((host, int(to_port)))
    way.one_way_seconds = float(one_way_seconds)
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        way.serve(listener)


if __name__ == "__main__":
    main(*sys.argv[1:])
