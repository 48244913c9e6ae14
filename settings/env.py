"""Strict readers of environment variables. Standard library only.

Each reader takes the variable's name and returns a valid value, or raises BadSetting, whose text names the
variable, what it may be, and what it is. An empty variable counts as not set.
"""

import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})

# A host name, an IPv4 address, an IPv6 address in brackets, ".example.com" for a whole domain, or "*".
HOST = re.compile(r"\*|\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]")
DOTTED_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


class BadSetting(Exception):
    """An environment variable has an invalid value. The text names it."""

    def __init__(self, name: str, expected: str, value: str) -> None:
        super().__init__(f"{name} must be {expected}, not {value!r}.")
        self.name = name


@dataclass(frozen=True)
class Environment:
    """The variables of a process, read by name."""

    variables: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        value = self.variables.get(name, "").strip()
        if any(ord(character) < 32 for character in value):
            raise BadSetting(name, "text on one line", value)
        return value or default

    def roles(self, name: str, default: str) -> dict[str, str]:
        """Values of a claim and the roles that they stand for: `staff=operator,leads=admin`."""
        text = self.text(name, default=default)
        pairs = [pair.strip().partition("=") for pair in text.split(",")]
        for word, sign, role in pairs:
            if not (word and sign) or role not in ("viewer", "operator", "admin"):
                raise BadSetting(name, "pairs such as staff=operator,leads=admin", text)
        return {word: role for word, _, role in pairs}

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.text(name)
        if not value:
            return default
        if value.lower() in TRUE:
            return True
        if value.lower() in FALSE:
            return False
        raise BadSetting(name, "1 or 0 (true or false, yes or no, on or off)", value)

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        """A whole number from low to high; `10_000` is accepted."""
        value = self.text(name)
        if not value:
            return default
        # int() alone would also accept full-width digits, and is slow for thousands of digits.
        if re.fullmatch(r"[0-9][0-9_]{0,24}", value) and low <= int(value.replace("_", "")) <= high:
            return int(value.replace("_", ""))
        raise BadSetting(name, f"a whole number from {low} to {high}", value)

    def words(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The words between commas or blanks."""
        value = self.text(name)
        return tuple(re.split(r"[,\s]+", value.strip(", "))) if value.strip(", ") else default

    def keys(self, name: str, *, shortest: int) -> list[str]:
        """Secret keys, separated by commas."""
        keys = [key.strip() for key in self.text(name).split(",") if key.strip()]
        if any(len(key) < shortest for key in keys):
            raise BadSetting(
                name, f"keys of {shortest} characters or more, separated by commas", "shorter ones"
            )
        return keys

    def hosts(self, name: str, default: tuple[str, ...]) -> list[str]:
        hosts = self.words(name, default)
        for host in hosts:
            if not HOST.fullmatch(host):
                raise BadSetting(name, "host names without scheme or port, separated by commas", host)
        return list(hosts)

    def origins(self, name: str) -> list[str]:
        origins = self.words(name)
        for origin in origins:
            if not re.fullmatch(r"https?://[^/\s]+", origin):
                raise BadSetting(name, "origins such as https://example.com, separated by commas", origin)
        return list(origins)

    def networks(self, name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        networks = []
        for word in self.words(name):
            try:
                networks.append(ipaddress.ip_network(word))
            except ValueError:
                raise BadSetting(name, "networks such as 10.0.0.0/8, separated by commas", word) from None
        return networks

    def certificates(self, name: str) -> str:
        """The path of a file of certificates (PEM); empty if the variable isn't set."""
        value = self.text(name)
        if value:
            try:
                ssl.create_default_context().load_verify_locations(value)
            except OSError:
                raise BadSetting(name, "a file of certificates in PEM form", value) from None
        return value

    def dotted_paths(self, name: str) -> list[str]:
        paths = self.words(name)
        for path in paths:
            if not DOTTED_PATH.fullmatch(path):
                raise BadSetting(
                    name, "dotted paths such as package.module.function, separated by commas", path
                )
        return list(paths)

    def choice(self, name: str, *, default: str, among: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in among:
            raise BadSetting(name, f"one of {', '.join(among)}", value)
        return value

    def directory(self, name: str, *, default: Path) -> Path:
        """An absolute path to a directory that exists or can be created. It isn't created here."""
        value = self.text(name)
        path = Path(value).expanduser().absolute() if value else default
        existing = path
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            raise BadSetting(name, f"a directory ({existing} is not one)", value)
        return path
