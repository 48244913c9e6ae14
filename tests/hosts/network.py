"""Hosts as network namespaces on a bridge of their own, and ways to cut and lengthen the wires between them."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

PREFIX = "qdh"
NETWORK = "10.98.0"


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def why_not() -> str:
    """Why no namespaces can be made here; empty where they can."""
    if os.geteuid() != 0:
        return "it takes root to make network namespaces"
    if not shutil.which("ip"):
        return "there is no `ip` (iproute2)"
    name = f"{PREFIX}-probe"
    try:
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "add", "probe", "type", "bridge")
    except RuntimeError as error:
        return str(error)
    finally:
        run("ip", "netns", "del", name, check=False)
    return ""


class Network:
    """Namespaces by name, each with an address; names: in the order of their addresses, from .10 on."""

    def __init__(self, names: Sequence[str]) -> None:
        self.addresses = {name: f"{NETWORK}.{10 + number}" for number, name in enumerate(names)}

    def __enter__(self) -> "Network":
        self.remove()
        switch = _space("switch")
        run("ip", "netns", "add", switch)
        run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "bridge", "up")
        for name, address in self.addresses.items():
            space = _space(name)
            run("ip", "netns", "add", space)
            run(
                "ip",
                "-n",
                switch,
                "link",
                "add",
                f"to-{name}",
                "type",
                "veth",
                "peer",
                "name",
                "wire",
                "netns",
                space,
            )
            run("ip", "-n", switch, "link", "set", f"to-{name}", "master", "bridge", "up")
            run("ip", "-n", space, "address", "add", f"{address}/24", "dev", "wire")
            run("ip", "-n", space, "link", "set", "wire", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def remove(self) -> None:
        for name in ("switch", *self.addresses):
            run("ip", "netns", "del", _space(name), check=False)

    def start(self, name: str, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a process on a host, under a host name of its own, in a session of its own."""
        inside = ["ip", "netns", "exec", _space(name), "unshare", "--uts", "sh", "-c"]
        script = f'hostname {name} && exec "$@"'
        return subprocess.Popen([*inside, script, "sh", *command], start_new_session=True, **options)

    def cut(self, sender: str, receiver: str) -> None:
        """Let nothing of `sender` reach `receiver` any more."""
        run("ip", "-n", _space(sender), "route", "add", "blackhole", f"{self.addresses[receiver]}/32")

    def heal(self, sender: str, receiver: str) -> None:
        run(
            "ip",
            "-n",
            _space(sender),
            "route",
            "del",
            "blackhole",
            f"{self.addresses[receiver]}/32",
            check=False,
        )

    def lose(self, name: str, percent: float) -> bool:
        """Lose packets of a host; return whether this kernel can."""
        where = ("tc", "-n", _space(name), "qdisc")
        if not percent:
            run(*where, "del", "dev", "wire", "root", check=False)
            return True
        try:
            run(*where, "add", "dev", "wire", "root", "netem", "loss", f"{percent}%")
        except RuntimeError:
            return False
        return True


def _space(name: str) -> str:
    return f"{PREFIX}-{name}"
