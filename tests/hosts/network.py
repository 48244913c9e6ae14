"""Hosts as network namespaces on a bridge of their own, and ways to cut and lengthen the wires between them."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

PREFIX = "qdh"
NETWORK = "10.98.0"
# The class of a host's packets that get lost.
LOST = "1:2"
# Of all that runs on a host: what else this machine does must not look like a fault.
NICE = "-15"


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
        switch = space("switch")
        run("ip", "netns", "add", switch)
        run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "bridge", "up")
        for name, address in self.addresses.items():
            own = space(name)
            run("ip", "netns", "add", own)
            ends = (f"to-{name}", "type", "veth", "peer", "name", "wire", "netns", own)
            run("ip", "-n", switch, "link", "add", *ends)
            run("ip", "-n", switch, "link", "set", f"to-{name}", "master", "bridge", "up")
            run("ip", "-n", own, "address", "add", f"{address}/24", "dev", "wire")
            run("ip", "-n", own, "link", "set", "wire", "up")
            run("ip", "-n", own, "link", "set", "lo", "up")
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def remove(self) -> None:
        for name in ("switch", *self.addresses):
            run("ip", "netns", "del", space(name), check=False)

    def start(self, name: str, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a process on a host, under a host name of its own, in a session of its own."""
        inside = ["nice", "-n", NICE, "ip", "netns", "exec", space(name), "unshare", "--uts", "sh", "-c"]
        script = f'hostname {name} && exec "$@"'
        return subprocess.Popen([*inside, script, "sh", *command], start_new_session=True, **options)

    def cut(self, sender: str, receiver: str) -> None:
        """Let nothing of `sender` reach `receiver` any more."""
        run("ip", "-n", space(sender), "route", "add", "blackhole", f"{self.addresses[receiver]}/32")

    def heal(self, sender: str, receiver: str) -> None:
        way = ("blackhole", f"{self.addresses[receiver]}/32")
        run("ip", "-n", space(sender), "route", "del", *way, check=False)

    def lose(self, name: str, percent: float) -> str:
        """Lose packets to and from a host; return why this kernel can't, if so."""
        for name_of_space, device in ((name, "wire"), ("switch", f"to-{name}")):
            tc = ("tc", "-n", space(name_of_space))
            run(*tc, "qdisc", "del", "dev", device, "root", check=False)
            if not percent:
                continue
            classes = [("1:1", "rate", "10gbit"), (LOST, "rate", "10gbit")]
            try:
                # Not netem, which few kernels of virtual machines have: a share of the packets goes into a queue
                # that has no room.
                run(*tc, "qdisc", "add", "dev", device, "root", "handle", "1:", "htb", "default", "1")
                for number, *rate in classes:
                    run(*tc, "class", "add", "dev", device, "parent", "1:", "classid", number, "htb", *rate)
                run(*tc, "qdisc", "add", "dev", device, "parent", LOST, "pfifo", "limit", "0")
                chosen = ("bpf", "bytecode", _at_random(percent), "flowid", LOST)
                run(*tc, "filter", "add", "dev", device, "parent", "1:", "protocol", "all", *chosen)
            except RuntimeError as error:
                self.lose(name, 0)
                return str(error)
        return ""

    def lost(self, name: str) -> int:
        """Return how many packets were lost since `lose`."""
        shown = [
            run("tc", "-n", space(name_of_space), "-s", "qdisc", "show", "dev", device)
            for name_of_space, device in ((name, "wire"), ("switch", f"to-{name}"))
        ]
        return sum(
            int(dropped) for text in shown for dropped in re.findall(r"qdisc pfifo.*\n.*dropped (\d+)", text)
        )


def _at_random(percent: float) -> str:
    """Return a classic BPF program that chooses this percentage of packets, by a random number."""
    load_random, jump_if_greater, leave, choose = "32 0 0 4294963256", "53 1 0", "6 0 0 0", "6 0 0 4294967295"
    limit = round(percent / 100 * 2**32)
    return f"4,{load_random},{jump_if_greater} {limit},{choose},{leave}"


def space(name: str) -> str:
    """Return the name of a host's namespace."""
    return f"{PREFIX}-{name}"
