"""XLSX cells are read by their type, not by how they are displayed."""

import contextlib
import io
import time
import tracemalloc
import zipfile

import pytest

from scheduling.parsing import Limits, errors
from tests.scheduling.parsing.bodies import CSV, FORM, JSON, MULTIPART, form, ids_of
from tests.scheduling.parsing.sheets import archive, number, raw, shared, sheet_xml, text, workbook


def upload(content, name="list.xlsx"):
    return form(("task_name", "x"), ("file", content, name))


@pytest.fixture
def read_sheet(read):
    return lambda content, name="list.xlsx", **options: read(upload(content, name), MULTIPART, **options)


def one_column(cells, **options):
    return sheet_xml({at: {"A": cell} for at, cell in enumerate(cells, 1)}, **options)


MIXED = one_column(
    [
        shared(0),
        number(1001),
        number(1002, style=1),
        number(1003, style=2),
        text("1004"),
        number("1.2345678901234568E+17"),
        raw('t="b"', "<v>1</v>"),
        number(46350, style=3),
        raw("", "<f>A2+1</f><v></v>"),
        raw('t="e"', "<v>#N/A</v>"),
        number(1.5),
    ]
)


def test_every_type_of_non_id_cell_has_its_own_reason(read_sheet):
    with read_sheet(workbook({"List": MIXED}, texts=["user_id"]), skip_faults=True) as reading:
        assert ids_of(reading) == [1001, 1002, 1003, 1004]
        assert [(fault.cell, fault.sheet, fault.line, fault.column) for fault in reading.faults] == [
            (f"A{row}", "List", row, 1) for row in range(6, 12)
        ]
        words = ["15 digits", "truth value", "date", "formula without a stored result", "error", "fraction"]
        for word, fault in zip(words, reading.faults, strict=True):
            assert word in fault.reason
        assert [fault.token for fault in reading.faults[1:3]] == ["TRUE", "2026-11-24"]
        assert reading.column.name == "user_id"


def test_number_cells_with_16_digits_are_faults(read_sheet):
    cells = [shared(0), number(999_999_999_999_999), number(1_000_000_000_000_000), number("1E+14")]
    with read_sheet(workbook({"List": one_column(cells)}, texts=["id"]), skip_faults=True) as reading:
        assert ids_of(reading) == [999_999_999_999_999, 100_000_000_000_000]
        assert [fault.cell for fault in reading.faults] == ["A3"]


def test_custom_format_is_a_date_only_with_date_letters_outside_quotes(read_sheet):
    cells = [text("id"), number(46350, style=4), number(46351, style=5)]
    with read_sheet(workbook({"List": one_column(cells)}), skip_faults=True) as reading:
        assert ids_of(reading) == [46351]
        assert "date" in reading.faults[0].reason


def test_formula_with_a_stored_result_is_read_by_its_result(read_sheet):
    cells = [text("id"), raw("", "<f>1+1</f><v>7</v>"), raw('t="str"', '<f>"8"</f><v>8</v>')]
    with read_sheet(workbook({"List": one_column(cells)})) as reading:
        assert ids_of(reading) == [7, 8]


FILTERED = {
    1: {"A": text("user_id")},
    2: {"A": number(93001)},
    3: {"A": number(93002)},
    4: {"A": number(93003)},
}


def test_hidden_rows_are_counted_and_can_be_left_out(read_sheet):
    content = workbook({"Mine": sheet_xml(FILTERED, hidden=[3]), "Other": one_column([number(5)])})
    with read_sheet(content, sheet="Mine") as reading:
        assert ids_of(reading) == [93001, 93002, 93003]
        assert reading.sheet.hidden_rows_count == reading.warnings["hidden_rows"] == 1
        assert (reading.sheet.name, reading.sheet.others) == ("Mine", ("Other",))
    with read_sheet(content, sheet="Mine", leave_out_hidden=True) as reading:
        assert ids_of(reading) == [93001, 93003]
        assert reading.warnings["hidden_rows_left_out"] == 1
    with pytest.raises(errors.ListEmpty, match="hidden row, and hidden rows were left out"):
        read_sheet(workbook({"Mine": sheet_xml(FILTERED, hidden=[2, 3, 4])}), leave_out_hidden=True)


def test_hidden_sheet_is_not_read(read_sheet):
    content = workbook(
        {"Old": one_column([number(5)]), "New": one_column([number(6)])}, states={"Old": "hidden"}
    )
    with read_sheet(content) as reading:
        assert (ids_of(reading), reading.sheet.name) == ([6], "New")


def test_colour_in_the_last_cell_adds_no_rows(read_sheet):
    content = workbook({"List": sheet_xml(FILTERED, more='<row r="1048576"><c r="A1048576" s="1"/></row>')})
    with read_sheet(content) as reading:
        assert ids_of(reading) == [93001, 93002, 93003]
        assert "blank_rows" not in reading.warnings


def test_value_in_the_farthest_cell_costs_neither_time_nor_memory(read_sheet):
    far = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    content = workbook({"List": sheet_xml({1: {"A": text("user_id")}, 2: {"A": number(1)}}, more=far)})
    tracemalloc.start()
    began = time.process_time()
    with read_sheet(content, skip_faults=True) as reading:
        assert ids_of(reading) == [1]
        assert reading.faults[0].cell == "A1048576"
    assert time.process_time() - began < 2
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def test_blank_rows_in_a_sheet_are_counted_and_empty_id_cells_are_faults(read_sheet):
    rows = {1: {"A": text("user_id"), "B": text("name")}, 4: {"A": number(7)}, 5: {"B": text("Ann")}}
    with read_sheet(workbook({"List": sheet_xml(rows)}), skip_faults=True) as reading:
        assert ids_of(reading) == [7]
        assert reading.warnings["blank_rows"] == 2
        assert [(fault.cell, fault.reason) for fault in reading.faults] == [
            ("A5", "The column user_id is empty in this row.")
        ]


def test_sheet_column_is_found_by_the_rules_of_csv(read_sheet):
    rows = {1: {"A": text("no"), "C": text("Customer")}, 2: {"A": number(1), "C": number(90017)}}
    content = workbook({"List": sheet_xml(rows)})
    with pytest.raises(errors.ColumnUnclear) as refused:
        read_sheet(content)
    assert [tuple(choice) for choice in refused.value.choices] == [
        (1, "no", ("1",)),
        (3, "Customer", ("90017",)),
    ]
    with read_sheet(content, column="customer") as reading:
        assert ids_of(reading) == [90017]


def test_rich_text_is_joined_without_pronunciation_hints(read_sheet):
    pieces = "<is><r><t>10</t></r><r><rPr/><t>01</t></r><rPh sb='0' eb='1'><t>99</t></rPh></is>"
    content = workbook({"List": one_column([text("id"), raw('t="inlineStr"', pieces)])})
    with read_sheet(content) as reading:
        assert ids_of(reading) == [1001]
    content = workbook({"List": one_column([shared(0), shared(1)])}, texts=["id", "@"])
    inside = pieces.removeprefix("<is>").removesuffix("</is>")
    with read_sheet(changed_part(content, "xl/sharedStrings.xml", "<t>@</t>", inside)) as reading:
        assert ids_of(reading) == [1001]


def changed_part(content, path, old, new):
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        parts = {name: packed.read(name).decode() for name in packed.namelist()}
    return archive(parts | {path: parts[path].replace(old, new)})


def test_cells_without_references_are_adjacent(read_sheet):
    xml = sheet_xml({}, more="<row><c t='n'><v>5</v></c></row><row><c><v>6</v></c></row>")
    with read_sheet(workbook({"List": xml})) as reading:
        assert ids_of(reading) == [5, 6]


ODS_TYPE = "application/vnd.oasis.opendocument.spreadsheet"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600


@pytest.mark.parametrize(
    ("content", "name", "error", "words"),
    [
        (OLE + "EncryptedPackage".encode("utf-16-le"), "a.xlsx", errors.FilePasswordProtected, "password"),
        (OLE, "a.xls", errors.FileNotAccepted, "old format"),
        (b"<html><table><tr><td>1001</td></tr></table></html>", "a.xls", errors.FileNotAccepted, "web page"),
        (
            b"user_id,name\n1001,Ann\n",
            "a.xlsx",
            errors.FileNotAccepted,
            "not an Excel workbook, although",
        ),
        (
            archive({"word/document.xml": "<x/>"}),
            "a.xlsx",
            errors.FileNotAccepted,
            "is a Word document",
        ),
        (archive({"xl/workbook.bin": "x"}), "a.xlsb", errors.FileNotAccepted, "binary Excel workbook"),
        (archive({"mimetype": ODS_TYPE}), "a.ods", errors.FileNotAccepted, "OpenDocument spreadsheet"),
        (archive({"mimetype": ODS_TYPE}), "a.xlsx", errors.FileNotAccepted, "OpenDocument spreadsheet"),
        (archive({"Index/Document.iwa": "x"}), "a.numbers", errors.FileNotAccepted, "Numbers spreadsheet"),
        (b"\x89PNG\r\n\x1a\n", "a.png", errors.FileNotAccepted, "PNG image"),
        (b"\x89PNG\r\n\x1a\n", "a.csv", errors.FileNotAccepted, "PNG image"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a.7z", errors.FileNotAccepted, "7z archive"),
        (archive({"a.csv": "1001"}), "a.zip", errors.FileNotAccepted, "without an Excel workbook"),
        (
            archive({"mimetype": ODS_TYPE})[:40],
            "a.ods",
            errors.FileNotAccepted,
            "a.ods is not a complete ZIP",
        ),
        (archive({"a.csv": "1001"})[:40], "a.zip", errors.FileNotAccepted, "a.zip is not a complete ZIP"),
        (archive({"a.csv": "1001"})[:40], "a.xlsx", errors.BrokenWorkbook, "workbook cannot be read"),
        (b"%PDF-1.4 1001", "a.pdf", errors.FileNotAccepted, "PDF"),
    ],
)
def test_files_that_are_not_workbooks_are_refused_by_their_type(read_sheet, content, name, error, words):
    with pytest.raises(error, match=words):
        read_sheet(content, name)


def test_damaged_workbook_is_refused_wherever_it_is_damaged(read_sheet):
    content = workbook({"List": MIXED}, texts=["user_id"])
    for cut in range(30, len(content) - 1, 97):
        with pytest.raises(errors.ReadingError):
            read_sheet(content[:cut])
    for at in range(4, len(content) - 1, 23):
        changed = content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
        with contextlib.suppress(errors.ReadingError):
            read_sheet(changed).close()


def test_workbook_that_unpacks_to_too_many_bytes_is_refused(read_sheet):
    limits = Limits(max_body_bytes=2_000_000)
    content = workbook({"List": sheet_xml({1: {"A": number(1)}}, more=" " * 5_000_000)})
    with pytest.raises(errors.BodyTooLarge):
        read_sheet(content, limits=limits)


def test_xml_with_a_document_type_is_refused(read_sheet):
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
        + sheet_xml({1: {"A": number(1)}})[22:]
    )
    with pytest.raises(errors.BrokenWorkbook, match="document type"):
        read_sheet(workbook({"List": bomb}))


def test_fast_blocks_give_the_same_result_as_single_cells(read_sheet):
    """Past the top of a sheet plain rows are read by the block; what is odd among them is not lost."""
    count = 12_000
    odd = {
        4000: number(1.5),
        4001: text("4001"),
        4002: number(46350, style=3),
        8000: raw('t="b"', "<v>1</v>"),
    }
    rows = {
        at: {"A": text("x"), "C": odd.get(at, number(at))} for at in range(2, count) if at not in (6000, 6001)
    }
    rows[9000] = {"A": text("nothing")}
    xml = sheet_xml({1: {"A": text("name"), "C": text("user_id")}, **rows}, hidden=[7000])
    with read_sheet(workbook({"List": xml}), skip_faults=True) as reading:
        faulty = [4000, 4002, 8000, 9000]
        assert ids_of(reading) == [at for at in rows if at not in faulty]
        assert [fault.line for fault in reading.faults] == faulty
        assert (reading.warnings["hidden_rows"], reading.warnings["blank_rows"]) == (1, 2)


def plain_rows(first, last):
    return "".join(f'<row r="{at}"><c r="A{at}"><v>{at}</v></c></row>' for at in range(first, last + 1))


def test_rows_inside_an_xml_comment_are_ignored(read_sheet):
    # The comment begins in one block and ends some blocks later.
    more = plain_rows(1, 4000) + f"<!-- {plain_rows(4001, 8_000)} -->" + plain_rows(4001, 4001)
    with read_sheet(workbook({"List": sheet_xml({}, more=more)})) as reading:
        assert (reading.ids_count, reading.repeats_count) == (4001, 0)
        assert reading.warnings == {}


def test_blank_rows_between_two_blocks_are_counted(read_sheet):
    head = len(sheet_xml({}).partition("</sheetData>")[0])
    more, number, gaps = "", 10_000, 0
    while number < 20_000:
        row = plain_rows(number, number)
        if (head + len(more)) // 65_536 != (head + len(more + row)) // 65_536:
            # The next row begins a block.
            number, gaps = number + 5, gaps + 1
            row = plain_rows(number, number)
        more, number = more + row, number + 1
    with read_sheet(workbook({"List": sheet_xml({}, more=more)})) as reading:
        assert gaps > 5
        assert reading.warnings == {"blank_rows": 9999 + 5 * gaps}


def test_date_among_plain_numbers_is_a_fault(read_sheet):
    rows = {at: {"A": number(at, style=3 if at == 9000 else 1)} for at in range(1, 10_001)}
    with read_sheet(workbook({"List": sheet_xml(rows)})) as reading:
        assert [fault.cell for fault in reading.faults] == ["A9000"]


def test_empty_sheet_is_an_empty_list(read_sheet):
    with pytest.raises(errors.ListEmpty):
        read_sheet(workbook({"List": sheet_xml({})}))


def test_empty_sheet_is_named_with_the_other_sheets(read_sheet):
    content = workbook({"Front": sheet_xml({}), "List": one_column([number(5)]), "More": sheet_xml({})})
    with pytest.raises(
        errors.ListEmpty, match=r"The sheet Front contains no IDs.*other sheets are: List, More"
    ):
        read_sheet(content, sheet="Front")
    with read_sheet(content) as reading:
        assert (ids_of(reading), reading.sheet.name, reading.sheet.others) == ([5], "List", ("Front", "More"))


# Which sheet is read


IDS = one_column([text("user_id"), number(1001), number(1002)])
YEAR = sheet_xml({1: {"A": text("Report year"), "B": number(2026)}})
WORDS = one_column([text("Customers"), text("exported for you")])
DAMAGED = one_column([text("Kunde"), text("'1001"), text("1,002")])


def test_sheets_that_could_hold_the_list_are_asked_about(read_sheet):
    for sheets in (
        {"Cover": YEAR, "Data": IDS},
        {"Data": IDS, "Cover": YEAR},
        {"Data": DAMAGED, "Cover": YEAR},
    ):
        with pytest.raises(errors.SheetUnclear) as refused:
            read_sheet(workbook(sheets))
        assert [choice.name for choice in refused.value.choices] == list(sheets)
        assert refused.value.parameter == "sheet"
    content = workbook({"Cover": YEAR, "Data": IDS})
    with pytest.raises(
        errors.SheetUnclear, match=r"1 Cover \(Report year, 2026\), 2 Data \(user_id, 1001, 1002\)"
    ):
        read_sheet(content)
    for requested in ("Data", "data", " Data ", "2"):
        with read_sheet(content, sheet=requested) as reading:
            assert (ids_of(reading), reading.sheet.name) == ([1001, 1002], "Data")
    with pytest.raises(errors.SheetUnknown, match=r"no sheet Dat\. The sheets are: 1 Cover"):
        read_sheet(content, sheet="Dat")


def test_sheets_of_words_are_not_asked_about(read_sheet):
    with read_sheet(workbook({"Cover": WORDS, "Data": IDS, "Notes": WORDS})) as reading:
        assert (ids_of(reading), reading.sheet.name) == ([1001, 1002], "Data")
        assert reading.sheet.others == ("Cover", "Notes")
    with pytest.raises(errors.SheetUnclear):
        read_sheet(workbook({"Cover": WORDS, "More": WORDS}))


def test_form_may_name_the_sheet_before_or_after_the_file(read):
    parts = [("file", workbook({"Cover": YEAR, "Data": IDS}), "list.xlsx"), ("sheet", "Data")]
    for order in (parts, parts[::-1]):
        assert read.ids(form(*order), MULTIPART) == [1001, 1002]
        with pytest.raises(errors.DoubledField, match="sheet"):
            read(form(*order), MULTIPART, sheet="Cover")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [("1001", "text/plain"), ("user_id\n1001\n", CSV), ('{"payload": [1]}', JSON), ("payload=1", FORM)],
)
def test_sheet_requested_for_another_format_is_never_ignored(read, body, content_type):
    with pytest.raises(errors.NoSheets):
        read(body, content_type, sheet="Data")


# Rows that are not data


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        ("SUM(A2:A4)", "SUM(A2:A4)"),
        ("SUBTOTAL(109,A2:A4)", "SUBTOTAL(109,A2:A4)"),
        ("_xlfn.AGGREGATE(9,5,A2:A4)", "_xlfn.AGGREGATE(9,5,A2:A4)"),
        ("A2+A3+A4", "A2+A3+A4"),
        ("$A$2 + A3", "$A$2 + A3"),
        ("IF(TRUE,COUNT(A2:A4),0)", "IF(TRUE,COUNT(A2:A4),0)"),
    ],
)
def test_formula_that_adds_up_rows_is_a_fault_that_names_it(read_sheet, formula, shown):
    rows = [text("id"), number(1001), number(1002), number(1003), raw("", f"<f>{formula}</f><v>3006</v>")]
    with read_sheet(workbook({"List": one_column(rows)}), skip_faults=True) as reading:
        assert ids_of(reading) == [1001, 1002, 1003]
        (fault,) = reading.faults
        assert (fault.cell, fault.token) == ("A5", "3006")
        assert fault.reason == f"It is the result of the formula {shown}, not an ID."


def test_formula_that_adds_up_rows_is_found_where_the_text_is_shared(read_sheet):
    rows = {
        1: {"A": text("total"), "B": text("user_id")},
        2: {"A": raw("", '<f t="shared" ref="A2:B2" si="0">SUM(A3:A9)</f><v>5</v>'), "B": number(7)},
        3: {"B": raw("", '<f t="shared" si="0"/><v>12</v>')},
    }
    with read_sheet(workbook({"List": sheet_xml(rows)}), skip_faults=True) as reading:
        assert ids_of(reading) == [7]
        assert "SUM(A3:A9)" in reading.faults[0].reason


@pytest.mark.parametrize("formula", ["A1+1", "VALUE(B2)", "SUMMARY", "A2", 'B2&amp;"1"'])
def test_other_formulas_are_read_by_their_result_and_counted(read_sheet, formula):
    rows = [text("id"), number(1001), raw("", f"<f>{formula}</f><v>1002</v>")]
    with read_sheet(workbook({"List": one_column(rows)})) as reading:
        assert ids_of(reading) == [1001, 1002]
        assert reading.warnings == {"formulas": 1}


def test_note_under_a_table_is_a_fault(read_sheet):
    rows = [text("id"), number(1001), text(""), text("Exported on 2026-11-24")]
    with read_sheet(workbook({"List": one_column(rows)}), skip_faults=True) as reading:
        assert ids_of(reading) == [1001]
        assert [fault.cell for fault in reading.faults] == ["A4"]


# What the standard allows


def test_escaped_characters_are_read_as_excel_reads_them(read_sheet):
    cells = [text("user_x005F_id"), text("1001_x000D_"), shared(0), text("_x0031_002")]
    with read_sheet(workbook({"List": one_column(cells)}, texts=["1003_x000d__x000A_"])) as reading:
        assert ids_of(reading) == [1001, 1003, 1002]
        assert reading.column.name == "user_id"
        assert reading.warnings == {"trimmed": 2}
    with read_sheet(workbook({"List": one_column([text("id"), text("_xD83D_"), text("7")])})) as reading:
        assert [fault.cell for fault in reading.faults] == ["A2"]


def renamed(content, rename):
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        return archive({rename(name): packed.read(name) for name in packed.namelist()})


@pytest.mark.parametrize("rename", [str.upper, str.title, str.lower, lambda name: name.replace("/", "\\")])
def test_part_names_are_found_in_any_case(read_sheet, rename):
    content = workbook({"List": one_column([shared(0), number(1001)])}, texts=["user_id"])
    with read_sheet(renamed(content, rename)) as reading:
        assert (ids_of(reading), reading.column.name) == ([1001], "user_id")


@pytest.mark.parametrize("folder", ["", "book/", "a/b c/"])
def test_workbook_may_be_in_any_folder(read_sheet, folder):
    content = workbook({"List": one_column([shared(0), number(1001)])}, texts=["user_id"])
    content = renamed(content, lambda name: name.replace("xl/", folder))
    target = f"/{folder}workbook.xml".replace(" ", "%20")
    with read_sheet(changed_part(content, "_rels/.rels", "xl/workbook.xml", target)) as reading:
        assert (ids_of(reading), reading.column.name) == ([1001], "user_id")
