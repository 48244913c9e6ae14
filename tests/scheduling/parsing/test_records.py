"""Lists whose IDs are text, and lists whose IDs travel with data."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduling.core import id_tokens
from scheduling.parsing import Limits, errors
from scheduling.parsing.body import FIELDS
from tests.scheduling.parsing.bodies import CSV, FORM, JSON, MULTIPART, NDJSON, form
from tests.scheduling.parsing.sheets import MAIN, number, raw, shared, sheet_xml, text, workbook

ALLOWED = FIELDS | {"id_type", "data", "header"}
same_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


def records(reading):
    """The IDs, or pairs of ID and data."""
    result = []
    for block in reading.records.unique_records(7):
        result += (
            block.ids if block.data is None else zip(block.ids, map(json.loads, block.data), strict=True)
        )
    return result


def read_records(read, body, content_type="text/plain", **options):
    with read(body, content_type, allowed=ALLOWED, **options) as reading:
        assert reading.spool is None
        return records(reading)


# Text IDs

UUIDS = ["0b0e8f3c-1111-4222-8333-444455556666", "ann@example.com", "SKU 12/7", "\u00fcber"]


def every_format(ids, name="user_id"):
    rows = {1: {"A": text(name)}} | {at: {"A": text(item)} for at, item in enumerate(ids, 2)}
    lines = "\n".join(ids)
    return [
        ("text/plain", lines),
        (CSV, f"{name}\n{lines}\n"),
        (NDJSON, "\n".join(json.dumps(item) for item in ids)),
        (NDJSON, "\n".join(json.dumps({"id": item}) for item in ids)),
        (JSON, json.dumps({"payload": ids})),
        (JSON, json.dumps({"payload": [{"id": item} for item in ids]})),
        (JSON, json.dumps({"payload": lines})),
        (MULTIPART, form(("file", workbook({"List": sheet_xml(rows)}), "l.xlsx"))),
        (MULTIPART, form(("payload", lines))),
    ]


@pytest.mark.parametrize("number_of_format", range(9))
def test_text_ids_are_read_in_every_format(read, number_of_format):
    content_type, body = every_format(UUIDS)[number_of_format]
    for cut in (None, 5):
        assert read_records(read, body, content_type, id_type="text", cut=cut) == UUIDS


def test_text_ids_are_compared_after_normalization_and_exactly(read):
    lines = "e\u0301\n\u00e9\nE\u0301\n \u00e9 \nA\na\n"
    with read(lines, id_type="text") as reading:
        assert records(reading) == ["\u00e9", "\u00c9", "A", "a"]
        assert (reading.repeats_count, reading.warnings) == (2, {"trimmed": 1})


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("x" * 101, "more than 100 characters"),
        ("a\tb", "control character <U[+]0009>"),
        ("a\x7fb", "control character"),
    ],
)
def test_text_that_is_no_id_is_a_fault(read, token, words):
    with read(f"ok\n{token}\n", id_type="text", skip_faults=True) as reading:
        assert records(reading) == ["ok"]
        (fault,) = reading.faults
        assert fault.line == 2
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(fault.reason)
    with read(b"ok\n\xe9t\xe9\n", id_type="text", skip_faults=True) as reading:
        assert "0xE9 is not UTF-8" in reading.faults[0].reason


def test_text_ids_have_up_to_100_characters(read):
    ids = ["x" * 100, "\u00e9" * 100, "e\u0301" * 100]
    assert read_records(read, "\n".join(ids), id_type="text") == ids[:2]


def test_text_list_of_numbers_is_kept_as_text_with_a_warning(read):
    with read("1001\n007\n", id_type="text") as reading:
        assert records(reading) == ["1001", "007"]
        assert reading.warnings == {"only_numbers": 2}
    with read("1001\nx\n", id_type="text") as reading:
        assert reading.warnings == {}


def test_numbers_of_ndjson_are_text_ids_as_they_are_spelled(read):
    body = '1e5\n{"id": 1.50}\n{"id": 7}\n"007"\n-0\n'
    assert read_records(read, body, NDJSON, id_type="text") == ["1e5", "1.50", "7", "007", "-0"]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("null", "empty value"),
        ("true", "truth value"),
        ("ann@example.com", "text is written in quotes"),
        ("007", "text is written in quotes"),
        ("+49", "text is written in quotes"),
    ],
)
def test_bare_words_of_ndjson_are_no_text_ids(read, word, reason):
    with pytest.raises(errors.ListEmpty) as caught, read(word, NDJSON, id_type="text", skip_faults=True):
        pass
    assert reason in caught.value.facts["faults"][0].reason


@pytest.mark.parametrize("word", ["null", "true", "false"])
def test_literals_of_a_json_payload_are_no_text_ids(read, word):
    body = f'{{"payload": ["a", {word}], "id_type": "text"}}'
    with read(body, JSON, skip_faults=True) as reading:
        assert records(reading) == ["a"]
        assert [(fault.index, fault.token) for fault in reading.faults] == [(1, word)]


# As some systems write an umlaut: the letter, and a combining character.
DECOMPOSED = "Gro\u0308\u00dfe"
COMPOSED = "Gr\u00f6\u00dfe"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (CSV, f"{DECOMPOSED} 1,{DECOMPOSED}\na,5\n"),
        (NDJSON, f'{{"{DECOMPOSED} 1": "a", "{DECOMPOSED}": "5"}}'),
        (JSON, f'{{"payload": [{{"{DECOMPOSED} 1": "a", "{DECOMPOSED}": "5"}}]}}'),
    ],
)
def test_names_of_columns_are_compared_and_stored_after_normalization(read, content_type, body):
    for data in ("*", COMPOSED, DECOMPOSED):
        for column in (f"{COMPOSED} 1", f"{DECOMPOSED} 1"):
            with read(body, content_type, id_type="text", data=data, column=column) as reading:
                assert records(reading) == [("a", {COMPOSED: "5"})]
                assert reading.data_columns == (COMPOSED,)


def test_first_line_of_a_text_csv_is_a_header_unless_header_is_false(read):
    assert read_records(read, "a@b.c\nd@e.f\n", CSV, id_type="text") == ["d@e.f"]
    assert read_records(read, "a@b.c\nd@e.f\n", CSV, id_type="text", header=False) == ["a@b.c", "d@e.f"]
    with pytest.raises(errors.ColumnUnclear):
        read("mail,name\na@b.c,Ann\n", CSV, id_type="text")
    assert read_records(read, "mail,name\na@b.c,Ann\n", CSV, id_type="text", column="mail") == ["a@b.c"]


def test_id_type_and_data_may_come_anywhere_in_the_body(read):
    payload = [{"id": "a-1", "n": 1}, {"id": "a-2", "n": 2}]
    members = [("payload", payload), ("id_type", "text"), ("data", ["n"]), ("task_name", "x")]
    expected = [("a-1", {"n": 1}), ("a-2", {"n": 2})]
    for order in (members, members[::-1]):
        assert read_records(read, json.dumps(dict(order)), JSON, cut=9) == expected
    parts = [("file", "id,n\na-1,1\n", "l.csv"), ("id_type", "text"), ("data", "*")]
    for order in (parts, parts[::-1]):
        assert read_records(read, form(*order), MULTIPART) == [("a-1", {"n": "1"})]
    for order in ("payload=a%0Ab&id_type=text", "id_type=text&payload=a%0Ab"):
        assert read_records(read, order, FORM) == ["a", "b"]
    with pytest.raises(errors.DoubledField, match="id_type"):
        read('{"payload": ["a"], "id_type": "text"}', JSON, id_type="integer", allowed=ALLOWED)
    with pytest.raises(errors.IdTypeUnknown, match="uuid is not known"):
        read('{"payload": ["a"], "id_type": "uuid"}', JSON, allowed=ALLOWED)


def test_fields_that_are_not_allowed_change_nothing(read):
    body = '{"payload": [5], "id_type": "text", "data": "*"}'
    with read(body, JSON, allowed=FIELDS - {"id_type", "data"}) as reading:
        assert (reading.records, reading.spool.ids_count) == (None, 1)
        assert reading.fields.unknown == ("id_type", "data")


# Data

TABLE = "user_id,first_name,voucher\n1001,Ann,A-1\n1002,,\n1003,Zo\u00eb\n"


def test_data_of_csv_are_text_by_the_names_of_the_header(read):
    for data in ("*", "first_name,voucher", '["first_name", "voucher"]', "First Name, VOUCHER"):
        with read(TABLE, CSV, data=data) as reading:
            assert records(reading) == [
                ("1001", {"first_name": "Ann", "voucher": "A-1"}),
                ("1002", {"first_name": "", "voucher": ""}),
                ("1003", {"first_name": "Zo\u00eb", "voucher": ""}),
            ]
            assert (reading.data_columns, reading.columns_left_out) == (("first_name", "voucher"), ())
    with read(TABLE, CSV, data="voucher") as reading:
        assert records(reading)[0] == ("1001", {"voucher": "A-1"})
        assert (reading.data_columns, reading.columns_left_out) == (("voucher",), ("first_name",))
    with read(TABLE, CSV) as reading:
        assert (reading.spool.ids_count, reading.columns_left_out) == (3, ("first_name", "voucher"))


def test_quoted_cells_with_line_breaks_travel_unchanged(read):
    body = 'user_id,note\n1001,"two\r\nlines, ""quoted"""\n1002, x \n'
    assert read_records(read, body, CSV, data="*") == [
        ("1001", {"note": 'two\r\nlines, "quoted"'}),
        ("1002", {"note": " x "}),
    ]


def test_data_of_xlsx_are_the_sheets_own_digits_and_iso_dates(read):
    heads = ["user_id", "amount", "day", "name", "ok"]
    true = raw('t="b"', "<v>1</v>")
    rows = {
        1: dict(zip("ABCDE", map(text, heads), strict=True)),
        2: {"A": number(1001), "B": number("12.50"), "C": number(46350, style=3), "D": shared(0), "E": true},
        3: {"A": number(1002), "C": number("46350.5", style=3), "D": text("_x0041_nn")},
    }
    body = form(("file", workbook({"List": sheet_xml(rows)}, texts=["y" * 500]), "l.xlsx"))
    assert read_records(read, body, MULTIPART, data="*") == [
        ("1001", {"amount": "12.50", "day": "2026-11-24", "name": "y" * 500, "ok": "TRUE"}),
        ("1002", {"amount": "", "day": "2026-11-24T12:00:00", "name": "Ann", "ok": ""}),
    ]


# Style 1 is a date and time, 2 a time, 3 a duration, 4 a date.
TIMES = (
    f'<styleSheet xmlns="{MAIN}"><numFmts count="1"><numFmt numFmtId="164" formatCode="[mm]:ss"/></numFmts>'
    '<cellXfs count="5"><xf numFmtId="0"/><xf numFmtId="22"/><xf numFmtId="21"/><xf numFmtId="164"/>'
    '<xf numFmtId="14"/></cellXfs></styleSheet>'
)


@pytest.mark.parametrize(
    ("count", "style", "shown"),
    [
        # With 15 digits, as LibreOffice writes them, two o'clock is 3 microseconds early.
        ("45000.0833333333", 1, "2023-03-15T02:00:00"),
        ("45000.9999999999", 1, "2023-03-16"),
        ("0.25", 2, "06:00:00"),
        ("0", 2, "00:00:00"),
        ("1.5", 3, "1.5"),
        ("1", 4, "1900-01-01"),
        ("59", 4, "1900-02-28"),
        ("60", 4, "60"),
        ("61", 4, "1900-03-01"),
        ("2958465", 4, "9999-12-31"),
        ("2958465.9999999999", 1, "2958465.9999999999"),
        ("-1", 4, "-1"),
    ],
)
def test_dates_and_times_of_xlsx_are_those_that_excel_shows(read, count, style, shown):
    rows = {1: {"A": text("id"), "B": text("at")}, 2: {"A": number(1001), "B": number(count, style=style)}}
    body = form(("file", workbook({"List": sheet_xml(rows)}, styles=TIMES), "l.xlsx"))
    assert read_records(read, body, MULTIPART, data="*") == [("1001", {"at": shown})]


@pytest.mark.parametrize(
    ("count", "shown"), [("0", "1904-01-01"), ("43538", "2023-03-15"), ("2957003", "9999-12-31")]
)
def test_dates_of_a_workbook_from_1904_are_those_that_excel_shows(read, count, shown):
    rows = {1: {"A": text("id"), "B": text("at")}, 2: {"A": number(1001), "B": number(count, style=4)}}
    sheets = {"List": sheet_xml(rows)}
    body = form(("file", workbook(sheets, styles=TIMES, facts='<workbookPr date1904="1"/>'), "l.xlsx"))
    assert read_records(read, body, MULTIPART, data="*") == [("1001", {"at": shown})]


@pytest.mark.parametrize("content_type", [NDJSON, JSON])
def test_data_of_objects_keep_their_type(read, content_type):
    items = [
        '{"id": 1001, "n": 1.50, "big": 12345678901234567890123, "on": true, "none": null, '
        '"list": [1, {"a": "\u00fc"}]}',
        '{"id": "1002", "n": "1"}',
    ]
    body = "\n".join(items) if content_type == NDJSON else f'{{"payload": [{",".join(items)}]}}'
    with read(body, content_type, data="*") as reading:
        packed = [data for block in reading.records.unique_records(9) for data in block.data]
        assert packed == [
            '{"n":1.50,"big":12345678901234567890123,"on":true,"none":null,"list":[1,{"a":"\u00fc"}]}'.encode(),
            b'{"n":"1"}',
        ]
        assert reading.data_columns == ("n", "big", "on", "none", "list")
    with read(body, content_type, data="n,missing") as reading:
        assert [data for _, data in records(reading)] == [{"n": 1.5}, {"n": "1"}]
        assert reading.columns_left_out == ("big", "on", "none", "list")


def test_json_array_of_objects_is_accepted_without_data(read):
    body = '{"payload": [{"id": 1001, "x": 1}, {"user_id": "1002"}, 1003, {"id": {"id": 5}}, {"x": 5}, {"ID": 1004}]}'
    with read(body, JSON, skip_faults=True) as reading:
        assert list(next(reading.spool.unique_blocks(9))) == [1001, 1002, 1003, 1004]
        assert [fault.index for fault in reading.faults] == [3, 4]
        assert reading.columns_left_out == ("x",)
    assert read.ids('{"payload": [{"customer": 5}], "column": "customer"}', JSON) == [5]
    with pytest.raises(errors.ColumnUnclear, match="the object in item 1 has more than one"):
        read('{"payload": [1, {"id": 5, "user_id": 6}]}', JSON)


def test_data_over_the_limit_are_a_fault_with_their_place(read):
    fits, over = "x" * (4096 - len('{"note":""}')), "x" * (4097 - len('{"note":""}'))
    for body, content_type in (
        (f"id,note\n1,{fits}\n2,{over}\n", CSV),
        ("\n".join(json.dumps({"id": n, "note": note}) for n, note in ((1, fits), (2, over))), NDJSON),
    ):
        with read(body, content_type, data="*", skip_faults=True) as reading:
            assert [item for item, _ in records(reading)] == ["1"]
            assert "4,097 bytes, but at most 4,096" in reading.faults[0].reason
            assert reading.faults[0].line in (2, 3)
    with read(b"id,note\n1,ok\n2,\xe9\n", CSV, data="*", skip_faults=True) as reading:
        assert "note contains bytes that are not UTF-8" in reading.faults[0].reason


CELLS = st.text(st.sampled_from(list('ab"\r\n,;\tü  \x85\u2028')), max_size=9)


@same_folder
@given(
    cells=st.lists(CELLS, min_size=1, max_size=20),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    block=st.integers(5, 90),
)
def test_cells_of_csv_keep_their_blanks_and_line_ends(read, cells, end, block):
    doubled = [cell.replace('"', '""') for cell in cells]
    written = [f'"{cell}"' if set('"\r\n,;\t') & set(cell) else cell for cell in doubled]
    body = end.join(["note,id", *(f"{cell},{n}" for n, cell in enumerate(written, 1)), ""])
    with read(body, CSV, data="*", limits=Limits(block_bytes=block)) as reading:
        assert records(reading) == [(str(n), {"note": cell}) for n, cell in enumerate(cells, 1)]


@pytest.mark.parametrize("block", [6, 25, 1_000])
def test_spaces_before_quotes_are_no_part_of_a_cell_and_others_are(read, block):
    body = 'id, a, b\n1,  "x, y",  z\n2,"p, ", "q\n, ""r"" "\n3, s"t, 5"\n'
    with read(body, CSV, data="*", limits=Limits(block_bytes=block)) as reading:
        assert records(reading) == [
            ("1", {"a": "x, y", "b": "  z"}),
            ("2", {"a": "p, ", "b": 'q\n, "r" '}),
            ("3", {"a": ' s"t', "b": ' 5"'}),
        ]


def test_faults_below_cells_with_line_ends_name_their_line(read):
    body = 'note,id\r\n"a\r\nb\rc\nd",1\r\n"e\r\n",x\r\n'
    with read(body, CSV, data="*", skip_faults=True) as reading:
        assert records(reading) == [("1", {"note": "a\r\nb\rc\nd"})]
        assert [(fault.line, fault.token) for fault in reading.faults] == [(7, "x")]
    with (
        pytest.raises(errors.QuoteNeverClosed) as caught,
        read('id,n\r\n1,"a\r\nb"\r\n2,"c\r\n', CSV, data="*"),
    ):
        pass
    assert caught.value.facts["line"] == 4


@pytest.mark.parametrize("content_type", [NDJSON, JSON])
@pytest.mark.parametrize("value", ["1e400", "-1e999", '[1, {"a": 1e400}]', "9" * 4_301])
def test_numbers_that_nobody_can_read_are_faults(read, content_type, value):
    items = ['{"id": 1}', f'{{"id": 1001, "x": {value}}}']
    body = "\n".join(items) if content_type == NDJSON else f'{{"payload": [{",".join(items)}]}}'
    with read(body, content_type, data="*", skip_faults=True, limits=Limits(data_max_bytes=9_000)) as reading:
        assert [fault.token for fault in reading.faults] == ["1001"]
        assert reading.faults[0].reason.startswith("Its data contain a number that is too large")


def test_repeats_whose_data_differ_are_counted(read):
    with read("id,n\n1,a\n1,a\n1,b\n2,c\n", CSV, data="*") as reading:
        assert records(reading) == [("1", {"n": "a"}), ("2", {"n": "c"})]
        assert (reading.repeats_count, reading.warnings) == (2, {"repeats_differ": 1})


@pytest.mark.parametrize(
    ("body", "data", "error", "words"),
    [
        ("id,a,a\n1,2,3\n", "a", errors.DoubledColumn, "a is requested as data, but it appears twice"),
        ("id,a,a\n1,2,3\n", "*", errors.DoubledColumn, "twice"),
        ("id,a\n1,2\n", "b", errors.DataUnknown, "no column b for data"),
        (
            "User ID,a\n1,2\n",
            "a,user_id",
            errors.DataIsId,
            "it has the IDs, which are always there: as {{id}}",
        ),
        ("id\n1\n", '["a"', errors.DataUnclear, "not a JSON array"),
        ("1,2\n", "*", errors.DataUnclear, "no header"),
        (
            "id," + ",".join(f"c{n}" for n in range(101)) + "\n1\n",
            "*",
            errors.DataUnclear,
            "more than 100 columns",
        ),
    ],
)
def test_data_that_can_not_be_taken_are_refused(read, body, data, error, words):
    with pytest.raises(error, match=words):
        read(body, CSV, data=data, column="1")


def test_data_of_plain_text_are_refused(read):
    for body, content_type in (("1001", "text/plain"), ('{"payload": "1001"}', JSON), ("payload=1001", FORM)):
        with pytest.raises(errors.DataUnclear, match="plain text has no columns"):
            read(body, content_type, data="*")


def test_header_of_plain_text_is_refused(read):
    for body, content_type in (("1001", "text/plain"), ('{"payload": "1001"}', JSON)):
        with pytest.raises(errors.HeaderOfText, match="plain text has no header"):
            read(body, content_type, header=True)
        with read(body, content_type, header=False) as reading:
            assert reading.ids_count == 1


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ('{"id": 1, "name": "Ann"}\n{"id": 2, "name": "Bo", "city": "Ulm"}', "application/x-ndjson"),
        ('{"payload": [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bo", "city": "Ulm"}]}', JSON),
    ],
)
def test_requested_columns_that_no_object_has_are_counted(read, body, content_type):
    with read(body, content_type, data="city,vouchr,x") as reading:
        assert (reading.warnings, reading.data_columns) == ({"data_missing": 2}, ("city",))
        assert reading.columns_left_out == ("name",)
    # One that only some of them have is missing for the others.
    with read(body, content_type, data="city") as reading:
        assert records(reading) == [("1", {}), ("2", {"city": "Ulm"})]
        assert not reading.warnings


def test_digest_covers_ids_data_and_type(read):
    def digest(*arguments, **options):
        with read(*arguments, **options) as reading:
            return reading.digest

    digests = [
        digest("id,n\n1,a\n", CSV),
        digest("id,n\n1,a\n", CSV, data="*"),
        digest("id,n\n1,b\n", CSV, data="*"),
        digest("id,n\n1,a\n", CSV, id_type="text"),
    ]
    assert len(set(digests)) == 4
    assert digest("id;n\r\n1;a\r\n", CSV, data="*", packed=True) == digests[1]


cell = st.text(st.sampled_from('abc ,;"\n\u00e9{}\\'), max_size=6)
word = st.text(st.sampled_from("abcXYZ019-@. \u00e9"), min_size=1, max_size=8).filter(
    lambda item: item.strip(id_tokens.TRIMMED)
)


@same_folder
@given(
    rows=st.lists(st.tuples(word, cell, cell), min_size=1, max_size=20),
    small=st.booleans(),
    cut=st.integers(1, 30),
)
def test_every_format_gives_the_records_that_were_written(read, rows, small, cut):
    expected = {}
    for item, remaining, right in rows:
        expected.setdefault(id_tokens.read_text(item)[0], {"left": remaining, "right": right})

    def quoted(value):
        return '"' + value.replace('"', '""') + '"'

    table = "id,left,right\n" + "".join(",".join(map(quoted, row)) + "\n" for row in rows)
    objects = [{"right": right, "id": item, "left": remaining} for item, remaining, right in rows]
    limits = Limits(block_bytes=6) if small else Limits()
    for content_type, body in (
        (CSV, table),
        (NDJSON, "\n".join(map(json.dumps, objects))),
        (JSON, json.dumps({"payload": objects})),
    ):
        result = read_records(
            read, body, content_type, id_type="text", data="left,right", cut=cut, limits=limits
        )
        assert result == list(expected.items())


def test_data_nested_deeper_than_what_shows_them_are_faults(read):
    levels = Limits.max_json_depth
    lines = [f'{{"id": 1, "x": {"[" * count}{{}}{"]" * count}}}' for count in (levels - 1, levels)]
    with read("\n".join(lines), NDJSON, data="*", skip_faults=True) as reading:
        assert [fault.line for fault in reading.faults] == [2]
        assert reading.faults[0].reason == "Its data have more than 32 levels of arrays and objects."
        assert len(records(reading)) == 1
