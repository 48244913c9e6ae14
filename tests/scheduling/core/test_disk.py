"""What counts as a full disk: numbers alone."""

import pytest

from scheduling.core.disk import BYTES_PER_ID, LOW_BYTES, Volume, volume

GB = 1024**3


@pytest.mark.parametrize(
    ("free", "total", "is_low"),
    [
        (LOW_BYTES, 500 * GB, False),
        (LOW_BYTES - 1, 500 * GB, True),
        (6_000, 60_000, False),
        (5_999, 60_000, True),
    ],
)
def test_disk_is_low_below_a_gigabyte_or_a_tenth(free, total, is_low):
    assert Volume("DATA_DIR", free, total).is_low is is_low


def test_list_fits_where_its_rows_do():
    assert Volume("DATA_DIR", 10_000_000 * BYTES_PER_ID + GB, 500 * GB).fits(10_000_000)
    assert not Volume("DATA_DIR", 10_000_000 * BYTES_PER_ID, 500 * GB).fits(10_000_000)
    assert not Volume("DATA_DIR", 55_000_000, 60_000_000).fits(300_000)
    assert Volume("DATA_DIR", 3_000_000, 60_000_000).fits(100)


def test_volume_of_a_directory_is_its_disk(tmp_path):
    result = volume("SPOOL_DIR", tmp_path)
    assert 0 <= result.free_bytes <= result.total_bytes
