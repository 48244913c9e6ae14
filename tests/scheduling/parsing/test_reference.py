"""On generated files, every reader returns what a plain parser of the same format returns."""

import json
from urllib.parse import quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduling.parsing import Limits, errors
from scheduling.parsing.media import is_table
from tests.scheduling.parsing import reference
from tests.scheduling.parsing.bodies import CSV, FORM, JSON, MULTIPART, NDJSON, form, ids_of
from tests.scheduling.parsing.sheets import number, raw, shared, sheet_xml, text, workbook

generated = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100
)
an_id = st.one_of(st.integers(1, 99), st.integers(1, 2**63 - 1)).map(str)
odd = st.text(st.sampled_from("0123456789.eE+-x_'\u00a0\u200b\uff11\u00e9"), min_size=1, max_size=8)
token = st.one_of(an_id, an_id, an_id.map("00{}".format), odd)
sizes = st.tuples(st.integers(1, 40), st.sampled_from([Limits(), Limits(block_bytes=5, ids_in_memory=3)]))


def check(read, body, content_type, expected, size, **options):
    """Compare IDs, order, repeats and the number of faults."""
    cut, limits = size
    ids = [item for item in expected if isinstance(item, int)]
    if not ids:
        with pytest.raises(errors.ListEmpty):
            read(body, content_type, skip_faults=True, cut=cut, limits=limits, **options)
        return
    with read(body, content_type, skip_faults=True, cut=cut, limits=limits, **options) as reading:
        assert ids_of(reading) == list(dict.fromkeys(ids))
        assert reading.repeats_count == len(ids) - len(set(ids))
        assert reading.fault_count == len(expected) - len(ids), list(reading.all_faults())


@generated
@given(
    parts=st.lists(st.one_of(token, st.sampled_from([",", ";", " ", "\t", "\n", "\r\n", "\r"]))), size=sizes
)
def test_text_is_read_as_by_splitting(read, parts, size):
    body = "1 " + "".join(parts)
    check(read, body, "text/plain", reference.text(body), size)
    # A form's payload may also be a table: its first line would be a header.
    if not is_table(body.encode()):
        check(read, "task_name=x&payload=" + quote_plus(body), FORM, reference.text(body), size)
    check(read, json.dumps({"payload": body}), JSON, reference.json_body(json.dumps({"payload": body})), size)


cell = st.one_of(
    token,
    st.sampled_from(["", " ", "Ann", '"a, b; c"', '"two\nlines"', '"say ""hi"""', '"7"', "\u00fc"]),
)


@generated
@given(
    rows=st.lists(st.lists(cell, min_size=1, max_size=4), max_size=12),
    delimiter=st.sampled_from([",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    column=st.sampled_from(["user_id", "name", "more"]),
    size=sizes,
)
def test_csv_is_read_as_by_the_standard_library(read, rows, delimiter, end, column, size):
    # The Excel line names the delimiter, so that only the rows are compared.
    lines = [["name", "user_id", "more"], *rows]
    body = end.join(delimiter.join(row) for row in lines) + end
    expected = reference.table(body, delimiter, column)
    check(read, f"sep={delimiter}{end}{body}", CSV, expected, size, column=column)


value = st.one_of(
    st.integers(-3, 2**64),
    st.sampled_from([1.0, 1e3, 1.5, True, False, None, [1], {"a": 5}]),
    st.text(max_size=5),
    token,
)


@generated
@given(items=st.lists(value, max_size=12), indent=st.sampled_from([None, 1]), size=sizes)
def test_json_is_read_as_by_the_standard_library(read, items, indent, size):
    body = json.dumps({"x": [items], "payload": items, "task_name": "n"}, indent=indent)
    expected = reference.json_body(body)
    if expected:
        check(read, body, JSON, expected, size)


line = st.one_of(
    value.map(json.dumps),
    value.map(lambda item: json.dumps({"name": "x", "user_id": item})),
    value.map(lambda item: json.dumps({"id": item, "more": {"user_id": 5}})),
    st.just('{"name": 5}'),
    st.sampled_from(["", "  ", "{", "[1,", "nul", '"x']),
    an_id,
)


@generated
@given(lines=st.lists(line, max_size=12), end=st.sampled_from(["\n", "\r\n", "\r"]), size=sizes)
def test_ndjson_is_read_line_by_line(read, lines, end, size):
    body = end.join(lines) + end
    if body.strip():
        check(read, body, NDJSON, reference.ndjson(body), size)


@generated
@given(
    before=st.lists(st.text(max_size=20), max_size=3),
    parts=st.lists(
        st.one_of(token, st.sampled_from(["\n", "\r\n", "\r\n--", "--frontie", "\r\n--frontie", "\r"]))
    ),
    size=sizes,
)
def test_multipart_is_read_as_by_the_standard_library(read, before, parts, size):
    payload = "1\n" + "".join(parts)
    body = form(*[(f"f{n}", value) for n, value in enumerate(before)], ("payload", payload))
    # The module email changes line ends, which separate entries anyway.
    check(read, body, MULTIPART, reference.multipart(body, MULTIPART), size)


sheet_cell = st.one_of(
    st.integers(1, 10**15 - 1).map(number),
    st.sampled_from(["1.5", "0", "-4", "1000000000000000"]).map(number),
    token.map(text),
    st.integers(0, 3).map(shared),
    st.just(raw('t="b"', "<v>1</v>")),
    st.just(raw('t="e"', "<v>#N/A</v>")),
)


@generated
@given(cells=st.lists(sheet_cell, max_size=15), wide=st.booleans())
def test_xlsx_is_read_as_by_elementtree(read, cells, wide):
    rows = {1: {"A": text("user_id")}}
    rows |= {at: {"A": cell} | ({"C": text("Ann")} if wide else {}) for at, cell in enumerate(cells, 2)}
    content = workbook({"List": sheet_xml(rows)}, texts=["1001", "Ann", "  7 ", "1e5"])
    check(read, form(("file", content, "l.xlsx")), MULTIPART, reference.workbook(content), (4096, Limits()))
