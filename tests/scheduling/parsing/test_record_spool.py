"""A spool of records keeps text IDs and data in list order, and finds repeats exactly in flat memory."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduling.parsing.record_spool import Records, RecordSpool

ROOT = Path(__file__).parents[3]
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
an_id = st.one_of(
    st.sampled_from("abcdefgh"), st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=9)
)


def filled(folder, ids, data=None, *, step=50):
    it = RecordSpool(folder, has_data=data is not None)
    for at in range(0, len(ids), step):
        it.extend(Records(ids[at : at + step], None if data is None else data[at : at + step]))
    it.finish()
    return it


@same_folder
@given(
    pairs=st.lists(st.tuples(an_id, st.sampled_from([b'{"a":1}', b'{"a":2}', b"{}"])), max_size=300),
    step=st.integers(1, 100),
    size=st.integers(1, 100),
    has_data=st.booleans(),
)
def test_spool_keeps_the_first_record_of_each_id_in_list_order(tmp_path, pairs, step, size, has_data):
    first = {}
    for record_id, data in pairs:
        first.setdefault(record_id, data)
    with filled(
        tmp_path, [pair for pair, _ in pairs], [data for _, data in pairs] if has_data else None, step=step
    ) as it:
        blocks = list(it.unique_records(size))
        assert [pair for block in blocks for pair in block.ids] == list(first)
        assert all(len(block.ids) == size for block in blocks[:-1])
        assert list(it.unique_ids(size)) == [block.ids for block in blocks]
        assert (it.ids_count, it.repeats_count) == (len(first), len(pairs) - len(first))
        assert (it.first(), it.last()) == (tuple(first)[:3], tuple(first)[-3:])
        if has_data:
            assert [data for block in blocks for data in block.data] == list(first.values())
            assert it.repeats_differ_count == sum(data != first[pair] for pair, data in pairs)
        else:
            assert it.repeats_differ_count == 0


def test_same_as_digest_stays_what_it_was(tmp_path):
    # Stored with each task: another one would not recognize yesterday's lists.
    ids = ["ann@example.com", "b", "\u00fcber", "007"]
    expected = "6307b980b81705138653ae9e23d2ba2dbeec62630017527b3890efbd8f7b2322"
    for in_order in (ids, ids[::-1]):
        with filled(tmp_path, in_order) as it:
            assert it.same_as_digest == expected


@pytest.mark.parametrize("has_data", [False, True])
def test_long_lists_go_to_disk_and_come_back_the_same(tmp_path, has_data):
    ids = [f"customer-{n * 7919 % 50_000:06}" for n in range(60_000)]
    data = [b'{"n":"%d"}' % (n % 50_000) for n in range(60_000)] if has_data else None
    with filled(tmp_path, ids, data, step=999) as it:
        assert [record_id for block in it.unique_records(4000) for record_id in block.ids] == list(
            dict.fromkeys(ids)
        )
        assert (it.repeats_count, it.repeats_differ_count) == (10_000, 0)
    assert list(tmp_path.iterdir()) == []


def test_digests_do_not_depend_on_blocks_and_only_one_on_the_order(tmp_path):
    ids = [f"id-{n}" for n in range(9_000)]
    with filled(tmp_path, ids, step=7) as item, filled(tmp_path, ids, step=4_321) as other:
        assert (item.digest, item.same_as_digest) == (other.digest, other.same_as_digest)
    with filled(tmp_path, ids[::-1]) as turned, filled(tmp_path, ids[1:]) as fewer:
        assert turned.same_as_digest == item.same_as_digest
        assert turned.digest != item.digest
        assert fewer.same_as_digest != item.same_as_digest
    data = [b"{}"] * 9_000
    with filled(tmp_path, ids, data) as with_data, filled(tmp_path, ids, [b'{"a":1}', *data[1:]]) as changed:
        assert len({with_data.digest, changed.digest, item.digest}) == 3
        assert with_data.same_as_digest == changed.same_as_digest == item.same_as_digest


def test_numbers_with_data_are_read_as_numbers(tmp_path):
    with filled(tmp_path, ["7", "5", "7"], [b"{}"] * 3) as it:
        assert [list(block) for block in it.unique_blocks(10)] == [[7, 5]]


MEASURED = """
    import pathlib, sys
    from scheduling.parsing.record_spool import Records, RecordSpool
    count = int(sys.argv[2])
    spool = RecordSpool(pathlib.Path(sys.argv[1]), has_data=True)
    for at in range(0, count, 4096):
        ids = [f"{n * 7919 % count:08}-1111-4222-8333-{n:012}" for n in range(at, min(at + 4096, count))]
        spool.extend(Records(ids, [b'{"first_name":"Ann","voucher":"%d"}' % n for n in range(at, at + len(ids))]))
    spool.finish()
    assert spool.ids_count == count
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def test_memory_for_records_does_not_grow_with_their_number(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(MEASURED), str(tmp_path)]
    peaks = [
        int(
            subprocess.run(
                [*command, str(count)], cwd=ROOT, capture_output=True, text=True, timeout=200
            ).stdout
        )
        for count in (250_000, 1_000_000)
    ]
    assert peaks[1] < 120 * 1024
    assert peaks[1] < 1.3 * peaks[0]
