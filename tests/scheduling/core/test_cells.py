"""Cells of CSV files."""

from scheduling.core.cells import data_cells


def test_data_cells_show_whatever_is_stored():
    stored = '{"a": 1e400, "b": 123456789012345678901234567890, "c": "x", "d": null, "e": [1, null]}'
    assert data_cells(stored, ["a", "b", "c", "d", "e", "f"]) == [
        "1e400",
        "123456789012345678901234567890",
        "x",
        "",
        "[1,null]",
        "",
    ]
