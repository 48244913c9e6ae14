"""Lists that broke other importers, and bodies as ordinary clients send them."""

import contextlib
import gzip
import json
import random
import time
import tracemalloc

import pytest

from scheduling.parsing import errors
from tests.scheduling.parsing.bodies import CSV, FORM, JSON, MULTIPART, NDJSON, form, ids_of

MARK = "\ufeff"


# 1: a line for Excel, semicolons, a header in another language


GERMAN = 'Benutzer-Nr.;Vorname\r\n70001;Zoë\r\n70002;"Müller; Jan"\r\n'


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (MARK + "sep=;\r\n" + GERMAN, 3),
        (MARK + "sep=\t\r\n" + GERMAN.replace('"Müller; Jan"', "Müller").replace(";", "\t"), 3),
        (MARK + GERMAN, 2),
        (GERMAN, 2),
        ('"sep=;"\r\n' + GERMAN, 3),
        ("SEP=;\n" + GERMAN.replace("\r\n", "\n"), 3),
    ],
)
def test_csv_sep_line_and_header_are_not_data_and_faults_name_physical_lines(read, body, line):
    with pytest.raises(errors.ColumnUnclear, match=r"1 Benutzer-Nr\. \(70001, 70002\), 2 Vorname"):
        read(body, CSV)
    with read(body, CSV, column="benutzer-nr.") as reading:
        assert ids_of(reading) == [70001, 70002]
        assert (reading.column.number, reading.column.name) == (1, "Benutzer-Nr.")
    (fault,) = read.faults(body.replace("70001", "7000x"), CSV, column="1")
    assert (fault.line, fault.column, fault.token) == (line, 1, "7000x")


def test_csv_faults_count_line_breaks_in_quoted_cells(read):
    body = 'note,user_id\n"two\nlines",1\n"three\r\n\r\nlines",x2\nplain,"x3\n"\n"a\nb",x4\n'
    faults = read.faults(body, CSV)
    assert [(fault.line, fault.column, fault.token) for fault in faults] == [
        (6, 2, "x2"),
        (7, 2, "x3<U+000A>"),
        (10, 2, "x4"),
    ]


# 5: which column holds the IDs


@pytest.mark.parametrize(
    ("body", "ids", "name"),
    [
        (",user_id\n1,90017\n2,90018\n", [90017, 90018], "user_id"),
        ("ID;Name\n90017;A\n", [90017], "ID"),
        ("User ID,x\n90017,A\n", [90017], "User ID"),
        ("x,USER-ID\n5,90017\n", [90017], "USER-ID"),
        ("customer\n90017\n", [90017], "customer"),
        ("90017\n90018\n", [90017, 90018], None),
        ("90017;;\n90018;;\n", [90017, 90018], None),
    ],
)
def test_column_is_found_in_any_spelling(read, body, ids, name):
    with read(body, CSV) as reading:
        assert (ids_of(reading), reading.column.name) == (ids, name)


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        (
            "id,user_id,total\n1,90017,5\n2,90018,7\n",
            [(1, "id", ("1", "2")), (2, "user_id", ("90017", "90018")), (3, "total", ("5", "7"))],
        ),
        ("user_id,user_id\n1,2\n", [(1, "user_id", ("1",)), (2, "user_id", ("2",))]),
        (",customer\n1,90017\n2,90018\n", [(1, "", ("1", "2")), (2, "customer", ("90017", "90018"))]),
        ("1,90017\n2,90018\n", [(1, "", ("1", "2")), (2, "", ("90017", "90018"))]),
        (",name\n1,Ann\n2,Bob\n3,Cy\n", [(1, "", ("1", "2", "3")), (2, "name", ("Ann", "Bob", "Cy"))]),
        ("name,city\nAnn,Rome\n", [(1, "name", ("Ann",)), (2, "city", ("Rome",))]),
        # The only column of numbers need not be that of the IDs.
        ("name,amount\nAnn,12\nBob,13\n", [(1, "name", ("Ann", "Bob")), (2, "amount", ("12", "13"))]),
        ("Ann,90017\nBob,90018\n", [(1, "", ("Ann", "Bob")), (2, "", ("90017", "90018"))]),
        ("name,\tcustomer\nAnn,90017\n", [(1, "name", ("Ann",)), (2, "customer", ("90017",))]),
        ("kunde,total\n1001x,5\n", [(1, "kunde", ("1001x",)), (2, "total", ("5",))]),
        ("kunde,total\n'1001,5\n", [(1, "kunde", ("'1001",)), (2, "total", ("5",))]),
    ],
)
def test_unclear_column_is_asked_about_and_never_guessed(read, body, choices):
    with pytest.raises(errors.ColumnUnclear) as refused:
        read(body, CSV)
    assert [tuple(choice) for choice in refused.value.choices] == choices
    assert refused.value.parameter == "column"
    for number, _, values in choices:
        if values[0].isdigit():
            assert read.ids(body, CSV, column=str(number))[0] == int(values[0])


@pytest.mark.parametrize("requested", ["order", "Order", "ORDER ", "or-der", "2"])
def test_requested_column_is_read(read, requested):
    assert read.ids("user_id,order\n1,90017\n", CSV, column=requested) == [90017]


def test_unknown_column_is_refused_with_the_columns_there_are(read):
    with pytest.raises(errors.ColumnUnknown, match=r"no column ordr\. The columns are: 1 user_id"):
        read("user_id,order\n1,90017\n", CSV, column="ordr")


def test_form_may_name_the_column_after_the_file(read):
    for parts in ([0, 1], [1, 0]):
        both = [("file", "a,b\n1,2\n", "x.csv"), ("column", "b")]
        assert read.ids(form(*[both[n] for n in parts]), MULTIPART) == [2]


# 7: characters nobody sees


def test_invisible_characters_are_trimmed_at_the_ends_and_shown_inside(read):
    rows = '\ufeff"user_id"\u00a0;name\r\n\u200b91001\u00a0;Ann\r\n91002\u200e;10 \u2013 20\r\n'
    (fault,) = read.faults(rows + "9100\u200b3;x\r\n", CSV)
    assert (fault.line, fault.token) == (4, "9100<U+200B>3")
    with read(rows, CSV) as reading:
        assert ids_of(reading) == [91001, 91002]
        assert reading.column.name == "user_id"
        assert reading.warnings == {"trimmed": 3}


def test_bytes_of_a_code_page_are_faults_only_in_the_id_column(read):
    with read(b"user_id;name\r\n91001;Ann\r\n91002;10 \x96 20\r\n", CSV) as reading:
        assert ids_of(reading) == [91001, 91002]
        assert reading.warnings == {"not_utf8": 1}
    (fault,) = read.faults(b"user_id;name\r\n91001;Ann\r\n91\x96002;B\r\n", CSV)
    assert (fault.line, fault.token) == (3, "91<0x96>002")
    assert "Windows-1252" in fault.reason
    (fault,) = read.faults(b"91001\n91\x96002\n")
    assert (fault.line, fault.column, fault.token) == (2, 1, "91<0x96>002")


@pytest.mark.parametrize(
    ("body", "name", "column"),
    [
        (b"Num\xe9ro;Nom\r\n1001;Ann\r\n", "Num<0xE9>ro", "Num<0xE9>ro"),
        (b"Num\xe9ro;Nom\r\n1001;Ann\r\n", "Num<0xE9>ro", "1"),
        (b"Num\xe9ro\r\n1001\r\n", "Num<0xE9>ro", None),
        (b"user_id;Pr\xe9nom\r\n1001;Ann\r\n", "user_id", None),
    ],
)
def test_bytes_of_a_code_page_in_the_header_are_counted(read, body, name, column):
    for content_type, sent in ((CSV, body), (MULTIPART, form(("file", body, "list.csv")))):
        with read(sent, content_type, column=column) as reading:
            assert (ids_of(reading), reading.column.name) == ([1001], name)
            assert reading.warnings == {"not_utf8": 1}
    if column:
        with pytest.raises(errors.ColumnUnclear, match="1 Num<0xE9>ro"):
            read(body, CSV)


@pytest.mark.parametrize("content_type", ["text/plain", CSV, NDJSON])
@pytest.mark.parametrize(
    ("start", "words"),
    [
        (gzip.compress(b"1001\n", mtime=0), "is a gzip file.*Content-Encoding: gzip"),
        (b"PK\x03\x04" + b"\0" * 40, "workbook as a file in multipart/form-data"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a PNG image.*CSV"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "is a JPEG image"),
    ],
)
def test_file_sent_as_text_is_refused_by_its_type(read, content_type, start, words):
    with pytest.raises(errors.BinaryNotAccepted, match=words):
        read(start + bytes(range(256)), content_type)


@pytest.mark.parametrize("content_type", ["text/plain", CSV, NDJSON, FORM])
def test_any_bytes_give_faults_or_a_refusal_that_can_be_sent(read, content_type):
    """No text that leaves the reader contains a byte that is not UTF-8, which would end a response in a 500."""
    draw = random.Random(7)
    for _ in range(200):
        body = draw.randbytes(draw.randrange(1, 60)) + b"\n" + draw.choice([b"", b"1001\n", b"a,b\n1,2\n"])
        try:
            with read(body, content_type, skip_faults=True) as reading:
                text = [reading.column, list(reading.all_faults()), reading.payload_as_sent, reading.fields]
        except errors.ReadingError as error:
            text = [str(error), error.facts, error.fields_read]
        json.dumps(text, default=str, ensure_ascii=False).encode()


# 9: rows of delimiters


def test_blank_rows_are_counted_but_are_not_faults(read):
    with read("user_id;a;b\r\n93001;x;\r\n\r\n93003;;\r\n;;\r\n ; ;\r\n\r\n", CSV) as reading:
        assert ids_of(reading) == [93001, 93003]
        assert reading.warnings == {"blank_rows": 4}
    with read("93001\n\n\n93003\n\n", CSV) as reading:
        assert ids_of(reading) == [93001, 93003]
        assert reading.warnings == {"blank_rows": 3}


def test_empty_id_cell_in_a_row_with_other_cells_is_a_fault(read):
    faults = read.faults("user_id;name\n;Ann\n \u00a0;Bob\n5;C\nx;\n", CSV)
    assert [(fault.line, fault.reason) for fault in faults[:2]] == [
        (2, "The column user_id is empty in this row."),
        (3, "The column user_id is empty in this row."),
    ]
    assert faults[2].line == 5


def test_row_with_more_cells_than_the_header_is_a_fault(read):
    """A comma in a name that is not quoted would put another cell into the place of the ID."""
    (fault,) = read.faults("order,name,user_id\n5,Ann,9001\n5,Smith, Jo,9002\n7,Bob,9003,\n", CSV)
    assert (fault.line, "4 cells" in fault.reason) == (3, True)
    (fault,) = read.faults("user_id\n1001\n1,234\n", CSV)
    assert fault.line == 3


def test_spaces_before_a_quote_are_ignored(read):
    body = 'user_id, name\n1001, "Smith, John"\n 1002 ,  "two\nlines, one cell"\n'
    assert read.ids(body, CSV) == [1001, 1002]
    # Also far below the part of the file that is examined first.
    rows = "".join(f"{n},x\n" for n in range(1, 20_001))
    assert read.ids(f'user_id,name\n{rows}30000, "a, b"\n30001,"c, ""d"""\n', CSV)[-2:] == [30000, 30001]
    assert read.ids('name, user_id\n"Smith, John", "1001"\n', CSV) == [1001]


def test_closed_quoted_cell_may_be_long(read):
    for length in (140_000, 900_000):
        for between in ("x", "x\n"):
            cell = (between * length)[:length]
            assert read.ids(f'user_id,note\n1001,"{cell}"\n1002,y\n', CSV, cut=65536) == [1001, 1002]
    with pytest.raises(errors.QuotedCellTooLong, match="line 2 has more than 1,048,576 bytes"):
        read('user_id,note\n1001,"' + "x\n" * 1_000_000 + '"\n', CSV, cut=65536)


# 42: types as ordinary clients write them


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ('Application/JSON; charset="UTF-8"', '{"payload": "5"}'),
        ("application/json;charset=utf8", '{"payload": [5]}'),
        ("application/json ; Charset=UTF-8 ; q=1", '{"payload": 5}'),
        ("application/merge-patch+json", '{"payload": 5}'),
        ("text/csv; header=present", "user_id\n5\n"),
        ("text/csv;header=present;charset=Utf-8", "user_id\n5\n"),
        ("TEXT/PLAIN", "5"),
        ("application/x-www-form-urlencoded; charset=UTF-8", "payload=5"),
    ],
)
def test_utf8_charset_is_accepted_in_any_spelling(read, content_type, body):
    assert read.ids(body, content_type) == [5]


@pytest.mark.parametrize(
    "content_type", ["text/csv; charset=windows-1252", 'text/plain; charset="ISO-8859-1"']
)
def test_other_charsets_are_refused_with_those_accepted(read, content_type):
    with pytest.raises(errors.CharsetNotAccepted, match="UTF-8, or UTF-16"):
        read("5", content_type)


@pytest.mark.parametrize(
    "content_type", [None, "", "nonsense", "application/xml", "application/octet-stream"]
)
def test_other_types_are_refused_with_those_accepted(read, content_type):
    with pytest.raises(errors.TypeNotAccepted, match="application/json, text/plain, text/csv"):
        read("5", content_type)


def test_utf16_is_accepted_only_with_a_byte_order_mark(read):
    assert read.ids("5\n6".encode("utf-16"), "text/plain; charset=utf-16") == [5, 6]
    with pytest.raises(errors.CharsetNotAccepted, match="byte-order mark"):
        read("5\n6".encode("utf-16-le"), "text/plain; charset=utf-16le")


# 44: past 2^53


def test_numeric_strings_cover_the_whole_range_of_ids(read):
    large = ["9007199254740993", "154284075601887489", "9223372036854775807"]
    with read(json.dumps({"payload": large}), JSON) as reading:
        assert ids_of(reading) == list(map(int, large))
        assert reading.warnings == {}
        assert reading.payload_as_sent == large


@pytest.mark.parametrize("one_by_one", [False, True])
def test_numbers_from_2_53_on_are_accepted_with_a_warning(read, one_by_one):
    numbers = [2**53 - 1, 2**53, 2**53 + 1, 5]
    payload = json.dumps(numbers + (["007"] if one_by_one else []))
    with read('{"payload": ' + payload + "}", JSON) as reading:
        assert ids_of(reading)[:4] == numbers
        assert reading.warnings["past_2_53"] == 2
    with read("\n".join(map(str, numbers)) + ('\n"8"' if one_by_one else ""), NDJSON) as reading:
        assert reading.warnings == {"past_2_53": 2}
    with read('{"payload": 9007199254740993}', JSON) as reading:
        assert ids_of(reading) == [9007199254740993]
        assert reading.warnings == {"past_2_53": 1}


# 46: twelve bytes that stop a server


HOSTILE = {
    "brackets": ('{"payload":' + "[" * 60_000, errors.JsonTooDeep),
    "brackets elsewhere": ('{"x":' + "[" * 60_000 + "]" * 60_000 + ',"payload":[1]}', errors.JsonTooDeep),
    "braces": ('{"x":' + '{"a":' * 60_000, errors.JsonTooDeep),
    "no object": ("[" * 60_000, errors.NotAnObject),
    "doubled": ('{"task_name":"x","payload":[1,2],"payload":[3]}', errors.DoubledField),
    "doubled in spelling": ('{"task_name":"x","pay\\u006coad":[1,2],"payload":[3]}', errors.DoubledField),
    "doubled name": ('{"task_name":"x","task_name":"y","payload":[1,2]}', errors.DoubledField),
    "doubled inside": ('{"x":{"a":1,"a":2},"payload":[1,2]}', errors.DoubledField),
    "comma at the end": ('{"task_name":"x","payload":[1,2,]}', errors.BrokenJson),
    "comma at the end of all": ('{"task_name":"x","payload":[1,2],}', errors.BrokenJson),
    "comma first": ('{"payload":[,1]}', errors.BrokenJson),
    "two commas": ('{"payload":[1, ,2]}', errors.BrokenJson),
    "no comma": ('{"payload":[1 2]}', errors.BrokenJson),
    "rubbish behind": ('{"payload":[1]} x', errors.BrokenJson),
    "two documents": ('{"payload":[1]}{"payload":[2]}', errors.BrokenJson),
    "cut": ('{"payload":[1,2', errors.BrokenJson),
    "cut in a string": ('{"payload":"1,2', errors.BrokenJson),
    "cut in an escape": ('{"payload":"1,2\\u00', errors.BrokenJson),
    "leading zero": ('{"payload":[01]}', errors.BrokenJson),
    "plus": ('{"payload":[+1]}', errors.BrokenJson),
    "not a number": ('{"payload":[NaN]}', errors.BrokenJson),
    "single quotes": ("{'payload':[1]}", errors.BrokenJson),
    "comment": ('{"payload":[1]/**/}', errors.BrokenJson),
    "line end in a string": ('{"task_name":"a\nb","payload":[1]}', errors.BrokenJson),
    "line end in the list": ('{"payload":"1\n2"}', errors.BrokenJson),
    "wrong escape": ('{"payload":"1\\x2"}', errors.BrokenJson),
    "half a character": ('{"task_name":"\\ud800","payload":[1]}', errors.BrokenJson),
    "half a character in the list": ('{"payload":"1,\\ud800"}', errors.BrokenJson),
    "no UTF-8": (b'{"task_name":"\xff","payload":[1]}', errors.BrokenJson),
    "no UTF-8 in the list": (b'{"payload":"1,\xff"}', errors.BrokenJson),
    "array": ("[1,2]", errors.NotAnObject),
    "string": ('"1,2"', errors.NotAnObject),
    "null": ("null", errors.NotAnObject),
    "no JSON": ("payload=1,2", errors.BrokenJson),
    "payload is an object": ('{"payload":{"a":1}}', errors.PayloadNotAList),
    "payload is true": ('{"payload":true}', errors.PayloadNotAList),
    "payload is null": ('{"payload":null}', errors.PayloadNotAList),
    "no payload": ('{"task_name":"x"}', errors.PayloadMissing),
    "nothing in it": ("{}", errors.PayloadMissing),
    "empty list": ('{"payload":[]}', errors.ListEmpty),
    "empty string": ('{"payload":" , ;"}', errors.ListEmpty),
    "blank": ("  ", errors.BodyEmpty),
    "endless digits": ('{"payload":[' + "9" * 2_000_000 + "]}", errors.BrokenJson),
    "endless name": ('{"' + "a" * 2_000_000 + '":1}', errors.BrokenJson),
    "endless field": ('{"x":"' + "a" * 2_000_000 + '","payload":[1]}', errors.BrokenJson),
    "endless token": ('{"payload":"' + "1" * 2_000_000 + '"}', errors.LineTooLong),
    "many fields": (json.dumps({f"f{n}": 1 for n in range(5000)}), errors.TooManyFields),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("skip", [False, True])
def test_broken_bodies_are_refused_quickly_in_little_memory(read, kind, skip):
    body, error = HOSTILE[kind]
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(error) as refused:
        read(body, JSON, cut=65536, skip_faults=skip)
    assert time.process_time() - began < 1
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("item", "token"),
    [
        ("9" * 4301, "9" * 40),
        ("1e1000000", "1e1000000"),
        ("1E999999999999999999999", "1E999999999999999999999"),
        ("1001.0", "1001.0"),
        ("1e3", "1e3"),
        ("-5", "-5"),
        ("0", "0"),
        ("9223372036854775808", "9223372036854775808"),
        ("true", "true"),
        ("null", "null"),
        ('"1,2"', "1,2"),
        ('"\uff11"', "\uff11"),
        ("[1]", "[1]"),
        ('{"x": 1}', '{"x": 1}'),
        ('""', ""),
    ],
)
@pytest.mark.parametrize("before", [0, 30_000])
def test_json_fault_names_the_index_of_its_item(read, item, token, before):
    body = '{"payload": [' + "7," * before + item + ", 8]}"
    (fault,) = read.faults(body, JSON, cut=65536)
    assert (fault.index, fault.token, fault.line) == (before, token, None)
    with read(body, JSON, skip_faults=True) as reading:
        assert ids_of(reading) == ([7, 8] if before else [8])


def test_only_the_top_level_payload_is_read(read):
    with read('{"x":{"payload":[9]},"task_name":"x","payload":[1]}', JSON) as reading:
        assert ids_of(reading) == [1]
        assert reading.fields.unknown == ("x",)
        assert reading.warnings == {"unknown_fields": 1}


def test_json_may_begin_with_a_byte_order_mark(read):
    assert read.ids(MARK + '{"payload": [1]}', JSON) == [1]


# NDJSON


def test_ndjson_lines_may_have_different_forms(read):
    body = '1001\n"1002"\n{"id":1003}\r\n\n{"user_id":"1004"}\n 00042 \n{"User-ID": 7}'
    with read(body, NDJSON) as reading:
        assert ids_of(reading) == [1001, 1002, 1003, 1004, 42, 7]
        assert reading.warnings == {"leading_zeros": 1, "blank_rows": 1}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1e5", "scientific"),
        ("12.0", "decimal"),
        ("[1]", "a list"),
        ("[" * 60_000, "not JSON"),
        ('{"id":1', "not JSON"),
        ('{"id":1,"id":2}', "twice"),
        ('{"name":1}', "no field id or user_id"),
        ('{"id":null}', "null"),
        ('{"id":true}', "truth"),
        ('{"id":""}', "field id is empty"),
        ('{"id":[1]}', "a list"),
        ('{"id":{"id":1}}', "an object"),
        ('{"id":1e400}', "scientific"),
        ('{"id":' + "9" * 5000 + "}", "largest"),
        ('"1001,1002"', "several"),
        ("1001,1002", "several"),
        ("{'id':1}", "not JSON"),
        ("null", "null"),
    ],
)
def test_bad_ndjson_line_is_one_fault(read, line, words):
    (fault,) = read.faults(f'{{"id":5}}\n{line}\n{{"id":6}}\n', NDJSON)
    assert fault.line == 2
    assert words in fault.reason


def test_object_with_both_id_and_user_id_is_asked_about(read):
    body = '{"id":1,"user_id":90017}\n{"id":2,"user_id":90018}\n'
    with pytest.raises(errors.ColumnUnclear, match="the object in line 1 has more"):
        read(body, NDJSON)
    with read(body, NDJSON, column="user_id") as reading:
        assert ids_of(reading) == [90017, 90018]
        assert reading.column.name == "user_id"


# forms


def test_form_of_the_previous_service_is_read(read):
    with read("task_name=Spring%20mail+2&payload=1001%2C1002%0D%0A1003+1004", FORM) as reading:
        assert ids_of(reading) == [1001, 1002, 1003, 1004]
        assert reading.fields.values == {"task_name": "Spring mail 2"}
        assert reading.payload_as_sent == "1001,1002\r\n1003 1004"


def test_empty_file_or_text_field_beside_a_list_is_ignored(read):
    empty_file = ("file", "", "", "application/octet-stream")
    assert read.ids(form(empty_file, ("payload", "5, 6")), MULTIPART) == [5, 6]
    with read(form(("payload", ""), ("file", "7\n", "a.csv")), MULTIPART) as reading:
        assert ids_of(reading) == [7]
        assert reading.file_name == "a.csv"
    with pytest.raises(errors.PayloadMissing):
        read(form(("task_name", "x"), empty_file), MULTIPART)


def test_two_lists_in_one_form_are_refused(read):
    for name in ("a.txt", "a.csv"):
        with pytest.raises(errors.BrokenForm, match="both"):
            read(form(("payload", "5"), ("file", "7\n", name)), MULTIPART)
        with pytest.raises(errors.BrokenForm, match="both"):
            read(form(("file", "7\n", name), ("payload", "5")), MULTIPART)


def test_file_format_is_judged_by_content_before_name(read):
    packed = gzip.compress(b"name,user_id\nAnn,5\n")
    assert read.ids(form(("file", packed, "list.csv.gz")), MULTIPART) == [5]
    assert read.ids(form(("file", packed, "list.csv")), MULTIPART) == [5]
    assert read.ids(form(("file", b"name,user_id\nAnn,5\n", "list")), MULTIPART) == [5]
    assert read.ids(form(("file", b"5 6", "list.dat")), MULTIPART) == [5, 6]
    assert read.ids(form(("file", b'{"id": 5}', "list")), MULTIPART) == [5]
    assert read.ids(form(("file", b"user_id\n5\n", "l.csv", "application/vnd.ms-excel")), MULTIPART) == [5]


@pytest.mark.parametrize(
    "line",
    [
        "{};12,50",
        "12,50;{}",
        "{}\t12,50",
        "{};1.234,56",
        "{};Doe, 3",
        "{},a;1",
        "{};Main St 1, 12345, Berlin",
        "Kunde;preis, netto\n{};12,50",
        "user_id;preis, netto\n{};12,50",
        "id;Adresse, PLZ, Ort\n{};Main St 1, 12345, Berlin",
        "name, first;user_id\nDoe, 3;{}",
    ],
)
def test_commas_in_numbers_and_texts_are_not_delimiters(read, line):
    """`90001;12,50` gave the ID 50."""
    head, _, row = line.rpartition("\n")
    body = "\n".join([*head.splitlines(), row.format(90017), row.format(90018)])
    with contextlib.suppress(errors.ColumnUnclear):
        assert read.ids(body + "\n", CSV) == [90017, 90018]
    row_before_id = row.partition("{}")[0]
    number = 1 + row_before_id.count(";") + row_before_id.count("\t")
    assert read.ids(body + "\n", CSV, column=str(number)) == [90017, 90018]


TABLE = "user_id\tamount\r\n90012\t5\r\n90013\t7\r\n"


@pytest.mark.parametrize(
    "list_part",
    [
        ("payload", TABLE),
        ("payload", "\r\n" + TABLE),
        ("payload", TABLE.replace("\t", ";")),
        ("file", TABLE, "list.txt"),
        ("file", TABLE.encode("utf-16"), "unicode text.txt"),
        ("file", TABLE, "list", "text/plain"),
        ("payload", "user_id\n90012\n90013"),
    ],
)
def test_table_sent_as_text_is_read_by_its_id_column(read, list_part):
    """Out of a sheet by copy and paste, or by Excel's "Unicode text": never the amounts as IDs."""
    with read(form(list_part, ("column", "")), MULTIPART) as reading:
        assert (ids_of(reading), reading.fault_count) == ([90012, 90013], 0)
        assert (reading.format, reading.column.name) == ("csv", "user_id")


def test_table_sent_as_text_without_a_known_column_is_asked_about(read):
    pasted = TABLE.replace("user_id", "Kunde")
    with pytest.raises(errors.ColumnUnclear):
        read(form(("payload", pasted)), MULTIPART)
    assert read.ids(form(("payload", pasted), ("column", "kunde")), MULTIPART) == [90012, 90013]


@pytest.mark.parametrize(
    "pasted", ["name,amount\nAnn,12\nBob,13", "Name;Betrag\r\nAnn;12\r\n", "name\tamount\nAnn\t12"]
)
def test_pasted_table_without_a_known_column_never_gives_its_numbers(read, pasted):
    for part in (("payload", pasted), ("file", pasted, "list.txt")):
        with pytest.raises(errors.ColumnUnclear):
            read(form(part), MULTIPART, skip_faults=True)


def test_column_requested_for_text_is_never_ignored(read):
    body = form(("column", "2"), ("file", "1\t90012\n2\t90013\n", "list.txt"))
    assert read.ids(body, MULTIPART) == [90012, 90013]


def test_word_before_ids_does_not_make_a_table(read):
    (fault,) = read.faults(form(("payload", "x\n5, 6")), MULTIPART)
    assert len(read.faults(form(("payload", "x, y\n5\n6")), MULTIPART)) == 2
    assert (fault.token, fault.line) == ("x", 1)


def test_bytes_read_excludes_the_form_around_the_list(read):
    with read(form(("task_name", "x" * 100), ("file", "5\n6\n", "a.csv")), MULTIPART) as reading:
        assert reading.bytes_read == 4


@pytest.mark.parametrize(
    ("token", "words"),
    [("'90018", "It begins with an apostrophe"), ('="90018"', "It is a formula"), ("=A1", "It is a formula")],
)
def test_text_marks_of_spreadsheets_are_explained(read, token, words):
    (fault,) = read.faults(f"5\n{token}\n")
    assert fault.reason.startswith(words)


def test_fields_beside_an_empty_list_are_kept_for_the_page(read):
    with pytest.raises(errors.ListEmpty) as refused:
        read(form(("queue", "slow"), ("payload", "x")), MULTIPART, skip_faults=True)
    assert refused.value.fields_read == {"queue": "slow", "payload": "x"}
    with pytest.raises(errors.ColumnUnclear) as refused:
        read(form(("payload", "a\tb\n1\t2\n"), ("queue", "slow")), MULTIPART)
    assert refused.value.fields_read == {"queue": "slow", "payload": "a\tb\n1\t2\n"}
    with pytest.raises(errors.ListEmpty) as refused:
        read(form(("payload", "x " * 200_000)), MULTIPART, skip_faults=True)
    assert refused.value.fields_read == {}


# what GET gave may come back


def test_read_only_fields_are_ignored_and_null_payload_is_no_list(read):
    body = '{"id": 7, "task_name": "x", "payload": null, "counts": {"ids": 3}, "state": "done", "typo": 1}'
    with read(body, JSON, payload_optional=True, ignorable=frozenset({"counts", "state"})) as reading:
        assert reading.spool is None
        assert reading.fields.values == {"id": 7, "task_name": "x"}
        assert (reading.fields.payload_given, reading.fields.payload_null) == (True, True)
        assert (reading.fields.ignored, reading.fields.unknown) == (("counts", "state"), ("typo",))
    with read('{"task_name": "y"}', JSON, payload_optional=True) as reading:
        assert (reading.spool, reading.fields.payload_given) == (None, False)
    with pytest.raises(errors.ListEmpty):
        read('{"payload": []}', JSON, payload_optional=True)


# what is told of a list


def test_payload_as_sent_is_kept_up_to_1000_tokens(read):
    for payload in ([1, "2", 2, "007"], "1, 2;2", 5, list(range(1, 1001)), "1," * 1000):
        with read(json.dumps({"payload": payload}), JSON) as reading:
            assert reading.payload_as_sent == payload
    for payload in (list(range(1, 1002)), "1," * 1001):
        with read(json.dumps({"payload": payload}), JSON) as reading:
            assert reading.payload_as_sent is None
    with read('{"payload": "1,x"}', JSON, skip_faults=True) as reading:
        assert reading.payload_as_sent is None


def test_digest_depends_on_content_and_not_on_packing(read):
    def digest(*arguments, **options):
        with read(*arguments, **options) as reading:
            return reading.digest

    same = {
        digest("1,2,2,3"),
        digest("1\n2\n2\n3", packed=True),
        digest('{"payload":[1,"2",2,3]}', JSON),
        digest(form(("payload", "1 2 2 3")), MULTIPART),
        digest(form(("payload", "1 2 2 3"), boundary="other"), "multipart/form-data; boundary=other", cut=3),
    }
    assert len(same) == 1
    assert digest("1,2,3") not in same
    assert digest("2,1,2,3") not in same
    assert digest("1,2,2,3,x", skip_faults=True) not in same


def test_all_faults_are_counted_and_kept(read):
    body = "\n".join(f"{n}x" for n in range(3000))
    with read(body) as reading:
        assert reading.fault_count == 3000
        assert len(reading.faults) == 20
        assert [fault.line for fault in reading.all_faults()] == list(range(1, 3001))
        assert [fault.token for fault in reading.all_faults()] == body.split("\n")
