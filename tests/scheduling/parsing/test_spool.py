"""Repeats are found exactly, in flat memory, and nothing is left on disk."""

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
from array import array
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduling.parsing import Limits, Spool, errors, spool
from tests.scheduling.parsing.bodies import JSON, MULTIPART, form

ROOT = Path(__file__).parents[3]


def filled(folder, ids, *, step=1000, in_memory=200_000):
    id_spool = Spool(folder, ids_in_memory=in_memory)
    for at in range(0, len(ids), step):
        id_spool.extend(array("q", ids[at : at + step]))
    id_spool.finish()
    return id_spool


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    ids=st.lists(st.one_of(st.integers(1, 50), st.integers(1, 2**63 - 1)), max_size=300),
    step=st.integers(1, 300),
    in_memory=st.sampled_from([0, 20, 1000]),
    size=st.integers(1, 400),
)
def test_spool_keeps_the_first_occurrence_of_each_id_in_list_order(tmp_path, ids, step, in_memory, size):
    expected = list(dict.fromkeys(ids))
    with filled(tmp_path, ids, step=step, in_memory=in_memory) as id_spool:
        blocks = list(id_spool.unique_blocks(size))
        assert [n for block in blocks for n in block] == expected
        assert all(len(block) == size for block in blocks[:-1])
        assert (id_spool.ids_count, id_spool.repeats_count) == (len(expected), len(ids) - len(expected))
        assert (id_spool.first(), id_spool.last()) == (tuple(expected[:3]), tuple(expected[-3:]))


@pytest.mark.parametrize(
    "ids",
    [
        list(range(1, 60_001)),
        list(range(64, 64 * 60_000, 64)),
        [n % 20_000 + 1 for n in range(60_000)],
        [7] * 60_000,
        [*range(1, 30_001), *range(30_000, 0, -1)],
    ],
    ids=["consecutive", "multiples of 64", "three times", "one ID", "there and back"],
)
def test_spool_drops_repeats_of_any_pattern_like_a_dict(tmp_path, ids):
    with filled(tmp_path, ids, in_memory=100) as id_spool:
        assert [n for block in id_spool.unique_blocks(999) for n in block] == list(dict.fromkeys(ids))


def test_digests_are_the_same_in_memory_and_on_disk(tmp_path):
    draw = random.Random(3)
    ids = [draw.randrange(1, 5000) for _ in range(9000)]
    turned = list(reversed(ids))
    with filled(tmp_path, ids) as short, filled(tmp_path, ids, in_memory=10) as long:
        assert (short.digest, short.same_as_digest) == (long.digest, long.same_as_digest)
        with filled(tmp_path, turned, in_memory=10) as other:
            assert other.same_as_digest == long.same_as_digest
            assert other.digest != long.digest
        with filled(tmp_path, [*ids, 5001]) as more, filled(tmp_path, [n + 1 for n in ids]) as beside:
            assert len({id_spool.same_as_digest for id_spool in (short, more, beside)}) == 3


def test_spool_files_never_have_a_name(tmp_path):
    id_spool = Spool(tmp_path, ids_in_memory=10)
    for _ in range(30):
        id_spool.extend(array("q", range(1, 5000)))
        assert list(tmp_path.iterdir()) == []
    id_spool.finish()
    assert list(tmp_path.iterdir()) == []
    assert id_spool.ids_count == 4999
    id_spool.close()
    id_spool.close()


def test_close_releases_all_files(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    id_spool = filled(tmp_path, list(range(1, 5000)) * 2, in_memory=10)
    assert len(os.listdir("/proc/self/fd")) > before
    id_spool.close()
    assert len(os.listdir("/proc/self/fd")) == before


BODIES = {
    "text": ("text/plain", b"1001\n" * 100_000),
    "broken at its end": (JSON, b'{"payload":[' + b"1001," * 100_000 + b"]}"),
    "faults": ("text/plain", b"x " * 5000 + b"1 " * 100_000),
    "file": (MULTIPART, form(("file", "a,b\n" + "1,2\n" * 50_000, "a.csv"))),
}


@pytest.mark.parametrize("kind", BODIES)
def test_refused_bodies_leave_no_file_and_no_descriptor(read, kind):
    content_type, body = BODIES[kind]
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.suppress(errors.ReadingError):
        read(body, content_type, limits=Limits(ids_in_memory=10)).close()
    assert len(os.listdir("/proc/self/fd")) == before


KILLED = """
    import os, pathlib, signal, sys
    from scheduling.parsing import Limits, read_body
    def chunks():
        for n in range(5):
            yield b"1001 x " * 10_000
        os.kill(os.getpid(), signal.SIGKILL)
    read_body(chunks(), content_type="text/plain", content_length=10**8, limits=Limits(ids_in_memory=10),
              spool_dir=pathlib.Path(sys.argv[1]), skip_faults=True)
"""


def test_killed_process_leaves_no_files(tmp_path):
    ended = run(KILLED, tmp_path)
    assert ended.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


# The largest file that a process may write stands for a full disk: both end a write.
FULL = """
    import pathlib, resource, signal, sys
    from scheduling.parsing import Limits, errors, read_body
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    body = sys.argv[2].encode() * 100_000
    head, tail = map(str.encode, sys.argv[4:6])
    try:
        read_body([head, body, tail], content_type=sys.argv[3], content_length=len(head + body + tail),
                  limits=Limits(ids_in_memory=10), spool_dir=pathlib.Path(sys.argv[1]), skip_faults=True)
    except errors.NoSpace as error:
        print("NoSpace", error)
"""


@pytest.mark.parametrize(
    ("token", "content_type", "head", "tail"),
    [
        ("1001\n", "text/plain", "", ""),
        ("x\n", "text/plain", "", ""),
        ("1,2\n", MULTIPART, *form(("file", "a,b\n@", "a.csv")).decode().split("@")),
    ],
    ids=["ids", "faults", "file"],
)
def test_full_disk_raises_no_space(tmp_path, token, content_type, head, tail):
    ended = run(FULL, tmp_path, token, content_type, head, tail)
    assert ended.stdout.startswith("NoSpace The disk has no room"), ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_full_device_raises_no_space(tmp_path, monkeypatch):
    """/dev/full refuses each write as a full disk does."""

    def full(**options):
        return open("/dev/full", "r+b", buffering=0)

    monkeypatch.setattr(spool.tempfile, "TemporaryFile", full)
    with pytest.raises(errors.NoSpace) as refused, Spool(tmp_path, ids_in_memory=0) as id_spool:
        id_spool.extend(array("q", [1]))
    assert refused.value.__cause__.errno == errno.ENOSPC


MEASURED = """
    import pathlib, random, sys
    from array import array
    from scheduling.parsing import Limits, read_body
    count = int(sys.argv[2])
    step = next(s for s in (7919, 104729, 1299709) if count % s)
    def chunks():
        # Shuffled well enough, and in no memory: the multiples of a prime, modulo a count it does not divide.
        for at in range(0, count, 8192):
            yield b"".join(b"%d\\n" % (10**9 + n * step % count) for n in range(at, min(at + 8192, count)))
    reading = read_body(chunks(), content_type="text/plain", content_length=11 * count, limits=Limits(),
                        spool_dir=pathlib.Path(sys.argv[1]))
    assert (reading.ids_count, reading.repeats_count) == (count, 0)
    assert sum(map(len, reading.spool.unique_blocks(10_000))) == count
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def test_memory_for_three_million_ids_is_that_for_one_million(tmp_path):
    peaks = [int(run(MEASURED, tmp_path, str(count)).stdout) / 1024 for count in (1_000_000, 3_000_000)]
    assert peaks[1] < 60
    assert peaks[1] < peaks[0] * 1.2


@pytest.mark.bench
def test_memory_for_ten_million_ids_is_that_for_one_million(tmp_path):
    peaks = [int(run(MEASURED, tmp_path, str(count)).stdout) / 1024 for count in (1_000_000, 10_000_000)]
    assert peaks[1] < peaks[0] * 1.2 < 60


def run(program, folder, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(program), str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
