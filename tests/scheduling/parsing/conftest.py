"""A fixture that reads one body and checks that nothing is left on disk."""

import gzip
from pathlib import Path

import pytest

from scheduling.parsing import Limits, read_body
from tests.scheduling.parsing.bodies import ids_of


class Reader:
    """Reads bodies in chunks, as requests deliver them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, body, content_type="text/plain", *, cut=None, limits=None, packed=False, **options):
        """cut: the size of the pieces in which the body comes; None: in one piece."""
        if isinstance(body, str):
            body = body.encode()
        if packed:
            body = gzip.compress(body)
            options["content_encoding"] = "gzip"
        chunks = [body[at : at + cut] for at in range(0, len(body), cut)] if cut else [body]
        options.setdefault("content_length", len(body))
        return read_body(
            options.pop("chunks", chunks),
            content_type=content_type,
            limits=limits or Limits(),
            spool_dir=self.folder,
            **options,
        )

    def ids(self, body, content_type="text/plain", **options):
        """The IDs of a body without faults, in order, repeats left out."""
        with self(body, content_type, **options) as reading:
            assert reading.faults == ()
            return ids_of(reading)

    def faults(self, body, content_type="text/plain", **options):
        with self(body, content_type, **options) as reading:
            assert reading.fault_count == len(reading.faults)
            return list(reading.faults)


@pytest.fixture
def read(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    yield Reader(folder)
    assert list(folder.iterdir()) == []
