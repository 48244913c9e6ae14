"""The data columns of a table: many rows at once are packed as each one alone."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.parsing.columns import Table
from scheduling.parsing.data_columns import DataProblem, DataRequest, TableData

a_cell = st.one_of(
    st.sampled_from(
        ["", "a", "50 %", "%s", 'say "x"', "a\\b", "Z\u00fcrich", "\x7f", "\x1f", "\u00a0", "\n", "'"]
    ),
    st.text(max_size=5),
)


def table_data(names, request="*"):
    return TableData(Table(["id", *names], [["1"] * (len(names) + 1)]), 0, DataRequest.parse(request))


@given(
    names=st.lists(st.sampled_from(["a", "%", "%s", 'x"y', "\u00fc", "b c"]), min_size=1, unique=True),
    rows=st.lists(st.lists(a_cell, max_size=8), min_size=1, max_size=20),
)
def test_rows_are_packed_together_as_each_one_alone(names, rows):
    data = table_data(names)
    rows = [["1", *row] for row in rows]
    assert data.pack_all(rows) == [data.pack(row) for row in rows]


@pytest.mark.parametrize("cell", ["Ann", 'say "x"', "50 %", "a\\b"])
def test_packed_rows_are_compact_json(cell):
    rows = [["1", cell, "x"], ["2", "", "y"]]
    assert table_data(["a%", "b"]).pack_all(rows) == [
        orjson.dumps({"a%": cell, "b": "x"}),
        b'{"a%":"","b":"y"}',
    ]
    assert table_data(["a", "b"], "b").pack_all(rows) == [b'{"b":"x"}', b'{"b":"y"}']


def test_bytes_that_are_not_utf8_are_refused_in_any_row():
    with pytest.raises(DataProblem, match="not UTF-8"):
        table_data(["a"]).pack_all([["1", "x"], ["2", "\udce9"]])
