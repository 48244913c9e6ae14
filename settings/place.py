"""Where a process stores its data and listens: needed before Django is loaded. Standard library only."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from settings.database import read_database_url
from settings.env import BadSetting, Environment

BASE_DIR = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Place:
    data_dir: Path
    spool_dir: Path
    listen: str
    port: int
    web_threads: int
    database: Mapping[str, Any]

    @classmethod
    def of(cls, environment: Environment) -> "Place":
        """Read DATA_DIR, SPOOL_DIR, DATABASE_URL, LISTEN, PORT and WEB_THREADS. Raises BadSetting."""
        listen = environment.text("LISTEN", "127.0.0.1")
        try:
            ipaddress.ip_address(listen)
        except ValueError:
            raise BadSetting("LISTEN", "an address such as 127.0.0.1 or 0.0.0.0", listen) from None
        data_dir = environment.directory("DATA_DIR", default=BASE_DIR / "var")
        url = environment.text("DATABASE_URL")
        embedded = {"vendor": "sqlite", "NAME": str(data_dir / "quarterdeck.sqlite3")}
        return cls(
            data_dir=data_dir,
            spool_dir=environment.directory("SPOOL_DIR", default=data_dir / "spool"),
            database=read_database_url(url) if url else embedded,
            listen=listen,
            port=environment.integer("PORT", default=8000, low=1, high=65535),
            # In each of the two web processes. Each may have a connection to the database, of which PostgreSQL
            # allows 100 by default.
            web_threads=environment.integer("WEB_THREADS", default=8, low=4, high=512),
        )

    @property
    def sqlite_file(self) -> Path | None:
        return Path(str(self.database["NAME"])) if self.database["vendor"] == "sqlite" else None

    @property
    def address(self) -> tuple[str, int]:
        """The address and the port by which a program on this machine reaches the web server."""
        address = ipaddress.ip_address(self.listen)
        if address.is_unspecified:
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        return str(address), self.port

    @property
    def url(self) -> str:
        """The address for a browser on this machine."""
        host, port = self.address
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def make_directory(name: str, path: Path) -> None:
    """Create the directory that the variable `name` names, for its owner only. Raises BadSetting."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BadSetting(name, f"a directory that can be made ({error.strerror})", str(path)) from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise BadSetting(name, "a directory that can be written", str(path))
