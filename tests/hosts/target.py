"""Answers every webhook, and writes down when it came, from whom, and for which ID: `python -m tests.hosts.target`."""

import asyncio
import json
import sys
import time
from pathlib import Path


async def serve(address: str, port: int, path: Path) -> None:
    with path.open("a", buffering=1) as record:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            host = writer.get_extra_info("peername")[0]
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    at = time.time()
                    lengths = [
                        line
                        for line in head.decode().splitlines()
                        if line.lower().startswith("content-length:")
                    ]
                    body = await reader.readexactly(int(lengths[0].split(":")[1]) if lengths else 0)
                    record.write(json.dumps([at, host, json.loads(body)["user_id"]]) + "\n")
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(answer, address, port, backlog=1024)
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
