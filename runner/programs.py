"""What the children of the runner run. It is loaded once, and shared by the processes that are forked."""

import gc
import os
import resource
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.urls import get_resolver
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server

from runner import cluster
from runner.names import name_process
from runner.supervisor import Program
from settings.place import Place

WEB_WORKERS = 2
APPLICATION = "runner.web.application:application"
# What the processes of a part would otherwise each load.
MODULES = {
    "web": (APPLICATION.partition(":")[0],),
    "quarterdeck": ("scheduling.jobs",),
    "minutes": ("scheduling.jobs",),
}
# Python looks for garbage after 700 new objects. Thirty webhooks on their way are as many, and none of it is garbage.
OBJECTS_COLLECTED = 10_000


def load(parts: Sequence[str], place: Place) -> list[Program]:
    """Load what the parts need, and return them. No connection to the database may be open afterwards."""
    for part in parts:
        for module in MODULES.get(part, ()):
            import_module(module)
    if "web" in parts:
        # Django compiles the addresses for the first one that it builds.
        assert get_resolver().reverse_dict
    spare_garbage_collector()
    return [_program(part, place) for part in parts]


def spare_garbage_collector() -> None:
    """Let it pass over what is loaded, and look less often at the rest."""
    gc.collect()
    # A look by the garbage collector would copy it all into each process.
    gc.freeze()
    gc.set_threshold(OBJECTS_COLLECTED)


def _program(part: str, place: Place) -> Program:
    if part == "web":
        return Program("web", partial(serve, place), address=place.address)
    if part == "demo":
        return Program("demo", partial(call_command, "demo", "--generate"))
    return Program(part, partial(cluster.run, part), signs=True)


def serve(place: Place) -> None:
    """Run the web server until SIGTERM."""
    name_process("web")
    if settings.DATABASE_VENDOR == "sqlite" and "SQLITE_CACHE_MIB" not in os.environ:
        # Each thread has a connection to the database: a large page cache for each would add up.
        connections.settings["default"]["OPTIONS"]["init_command"] += " PRAGMA cache_size=-2048;"
    Server(
        APPLICATION,
        address=place.listen,
        port=place.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        workers=WEB_WORKERS,
        # Of each process: connections that are open at once. Each needs a file descriptor.
        backpressure=max_connections(),
        backlog=4096,
        http1_settings=HTTP1Settings(header_read_timeout=20_000),
        respawn_failed_workers=True,
        respawn_interval=0.2,
        workers_kill_timeout=10,
        log_level=LogLevels.error,
    ).serve()


def max_connections() -> int:
    """How many connections a web process accepts: as many as it may have files, less what else it opens."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 16_384 if most == resource.RLIM_INFINITY else max(256, min(16_384, most - 512))
