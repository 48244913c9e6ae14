"""Time and memory of every reader are linear in the unpacked size of its input, whatever somebody sends."""

import contextlib
import gzip
import io
import os
import struct
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduling.parsing import errors
from tests.scheduling.parsing.bodies import CSV, FORM, JSON, MULTIPART, NDJSON, form
from tests.scheduling.parsing.sheets import archive, number, sheet_xml, text, workbook

ROOT = Path(__file__).parents[3]
MEGABYTE = 1024 * 1024


def with_parts(**parts):
    """A workbook with some of its parts replaced; `__` stands for `/` in their names."""
    plain = workbook({"List": sheet_xml({1: {"A": text("id")}, 2: {"A": number(5)}})})
    with zipfile.ZipFile(io.BytesIO(plain)) as packed:
        old = {name: packed.read(name) for name in packed.namelist()}
    new = {name.replace("__", "/") + ".xml": content for name, content in parts.items()}
    return form(("file", archive(old | new), "list.xlsx"))


def with_sheet(inside):
    return with_parts(
        xl__worksheets__sheet1=sheet_xml({1: {"A": text("id")}, 2: {"A": number(5)}}, more=inside)
    )


def with_styles(inside):
    return with_parts(xl__styles=f"<styleSheet>{inside}</styleSheet>")


def with_texts(inside):
    return with_parts(xl__sharedStrings=f"<sst>{inside}</sst>")


def zip64(entries):
    """An archive whose usual end record says 100 bytes, while its ZIP64 record has all entries."""
    entry = (
        struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    )
    directory = entry * entries
    end64 = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, entries, entries, len(directory), 0)
    locator = struct.pack("<IIQI", 0x07064B50, 0, len(directory), 1)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, 100, 0, 0)
    return form(("file", b"PK\x03\x04" + directory + end64 + locator + end, "list.xlsx"))


# Each was found to be quadratic, or to take memory without end, or is a relative of one that was.
REFUSED = {
    "empty pairs": lambda: (FORM, b"&" * 4 * MEGABYTE + b"payload=1", errors.TooManyFields),
    "pairs without a name": lambda: (FORM, b"&=" * MEGABYTE + b"payload=1", errors.TooManyFields),
    "endless name": lambda: (FORM, b"a" * MEGABYTE, errors.BrokenForm),
    "headers": lambda: (MULTIPART, b"--frontier\r\n" + b"a: b\r\n" * 200_000, errors.BrokenForm),
    "endless header": lambda: (MULTIPART, b"--frontier\r\n" + b"a" * MEGABYTE, errors.BrokenForm),
    "parts": lambda: (MULTIPART, form(*[(str(n), "") for n in range(20_000)]), errors.TooManyFields),
    "long fields": lambda: (
        MULTIPART,
        form(*[(str(n), "x" * 200_000) for n in range(20)]),
        errors.FieldsTooLong,
    ),
    "long JSON fields": lambda: (
        JSON,
        b"{" + b",".join(b'"%d":[%s1]' % (n, b"[]," * 60_000) for n in range(20)) + b',"payload":[1]}',
        errors.FieldsTooLong,
    ),
    "attribute": lambda: (MULTIPART, with_styles(f"<xf a='{'x' * 4 * MEGABYTE}'/>"), errors.BrokenWorkbook),
    "comment": lambda: (MULTIPART, with_sheet(f"<!--{'x>' * 2 * MEGABYTE}-->"), errors.BrokenWorkbook),
    "instruction": lambda: (MULTIPART, with_sheet(f"<?a {'x>' * 2 * MEGABYTE}?>"), errors.BrokenWorkbook),
    "pieces of a text": lambda: (
        MULTIPART,
        with_texts(f"<si>{'<t>ab</t>' * 1_000_000}</si>"),
        errors.BrokenWorkbook,
    ),
    "levels": lambda: (MULTIPART, with_sheet("<a>" * 100_000), errors.BrokenWorkbook),
    "names": lambda: (
        MULTIPART,
        with_sheet("".join(f"<a{n}/>" for n in range(100_000))),
        errors.BrokenWorkbook,
    ),
    "attributes": lambda: (
        MULTIPART,
        with_sheet("<b " + " ".join(f"a{n}=''" for n in range(20_000)) + "/>"),
        errors.BrokenWorkbook,
    ),
    "elements": lambda: (MULTIPART, with_sheet("<a/>" * 2_100_000), errors.BrokenWorkbook),
    "rows": lambda: (MULTIPART, with_sheet("<row/>" * 1_100_000), errors.BrokenWorkbook),
    "row number": lambda: (MULTIPART, with_sheet('<row r="1048577"/>'), errors.BrokenWorkbook),
    "cells of a row": lambda: (MULTIPART, with_sheet(f"<row>{'<c/>' * 16_385}</row>"), errors.BrokenWorkbook),
    "ZIP64 directory": lambda: (MULTIPART, zip64(400_000), errors.BrokenWorkbook),
    "directory": lambda: (
        MULTIPART,
        form(("file", archive({str(n): "" for n in range(10_001)}), "a.xlsx")),
        errors.BrokenWorkbook,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_oversized_body_is_refused_with_its_reason(read, name):
    content_type, body, error = REFUSED[name]()
    began = time.process_time()
    with pytest.raises(error):
        read(body, content_type, packed=True)
    # Those that were quadratic took many times as long.
    assert time.process_time() - began < 15


def test_gzip_members_are_counted(read):
    for member in (gzip.compress(b""), gzip.compress(b"1\n")):
        with pytest.raises(errors.TooManyMembers, match="more than 20,000 members"):
            read(member * 20_001, content_encoding="gzip")
        read(member * 19_999 + gzip.compress(b"2\n"), content_encoding="gzip").close()


def test_workbook_compressed_by_another_method_is_refused(read):
    """bzip2 and LZMA unpack a few bytes into gigabytes at once."""
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        out = io.BytesIO()
        plain = workbook({"List": sheet_xml({1: {"A": number(5)}})})
        with zipfile.ZipFile(out, "w", method) as into, zipfile.ZipFile(io.BytesIO(plain)) as packed:
            for name in packed.namelist():
                into.writestr(name, packed.read(name))
        with pytest.raises(errors.BrokenWorkbook, match="unknown method"):
            read(form(("file", out.getvalue(), "a.xlsx")), MULTIPART)


MEMORY = """
    import pathlib, sys
    from scheduling.parsing import Limits, errors, read_body
    from tests.scheduling.parsing import test_bounds
    content_type, body = test_bounds.LARGE[sys.argv[2]]()
    limits = Limits()
    def peak():
        return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
    open("/proc/self/clear_refs", "w").write("5")
    before = peak()
    try:
        chunks = (body[at:at + 65536] for at in range(0, len(body), 65536))
        read_body(chunks, content_type=content_type, content_length=len(body), limits=limits,
                  spool_dir=pathlib.Path(sys.argv[1]), skip_faults=True, column="1").close()
    except errors.ReadingError:
        pass
    print((peak() - before) // 1024)
"""
LONG_STYLE = f"<c s='{'9' * 50_000}'><v>1</v></c>"
WIDE = "<row>" + f"<c t='str'><v>{'y' * 400}</v></c>" * 16_384 + "</row>"
LARGE = {
    "wide rows": lambda: (MULTIPART, with_sheet(WIDE * 4)),
    "long styles": lambda: (MULTIPART, with_sheet(f"<row>{LONG_STYLE * 400}</row>")),
    "texts": lambda: (MULTIPART, with_texts("".join(f"<si><t>{n:0200}</t></si>" for n in range(100_000)))),
    "formulas": lambda: (MULTIPART, with_sheet("".join(map(shared_formula, range(12_000))))),
    "formats": lambda: (MULTIPART, with_styles("".join(map(number_format, range(12_000))))),
    "cells of CSV": lambda: (CSV, (b"1" + b",ab" * 16_000 + b"\n") * 200),
    "nested NDJSON": lambda: (NDJSON, (b"[" + b"[]," * 340_000 + b"1]\n") * 2),
    "objects of NDJSON": lambda: (NDJSON, (b'{"id":1,' + b'"a":[],' * 140_000 + b'"b":1}\n') * 3),
    "digits": lambda: ("text/plain", (b"0" * 1_000_000 + b"1 ") * 8),
}


def shared_formula(n):
    return f"<row><c><f t='shared' si='{n}'>{'A1+' * 66}</f><v>1</v></c></row>"


def number_format(n):
    return f"<numFmt numFmtId='{n}' formatCode='{'d' * 900}'/>"


@pytest.mark.parametrize("name", LARGE)
def test_memory_stays_below_200_megabytes(tmp_path, name):
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(tmp_path), name]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 200


# A search for inputs whose time grows faster than their size: patterns of a format's own pieces, repeated.


def words(text, *more):
    return text.split() + list(more)


PIECES = {
    "text/plain": words(
        "1 0 x , - . O ' [ 1,234 9999999999999999999", " ", "\n", "\r", "\t", "\u200b", "\uff11"
    ),
    CSV: words('1 , ; " "" x user_id 1e5', "\t", "\n", "\r", ' "', "sep=;\n", "\u00a0"),
    NDJSON: words('1 [ ] { } " : , e - {"id":1} {"user_id":', "\\", "\n", "\\u0031"),
    JSON: words('1 [ ] { } " : , e - true "x": "1", {"id":1},', " ", "\\n", "\\ud83d"),
    FORM: words("1 & = % + %2C payload x %0 ;"),
    MULTIPART: words('-- --frontier a: ; " = 1 form-data Content-Disposition:', "\r\n", "\r\n--frontier"),
    "sheet": words(
        "<row> </row> <c> </c> <v>1</v> <f>A1</f> <!-- --> b=' ' > /> &#49; <![CDATA[ ]]> <row/> <is><t> </t></is>",
        "<c t='s'>",
        "<c r='A1'/>",
        "<a ",
    ),
    "texts": words("<si> </si> <t> </t> <r> </r> <rPh> </rPh> ab &amp; _x000D_ _x <si/> <t/>"),
    "styles": words("'/> [ ] d _ * <xf/> <cellXfs> </cellXfs>", "<numFmt formatCode='", '"', "\\"),
}
STARTS = {
    JSON: ['{"payload":[', '{"payload":"', '{"x":', '{"payload":['],
    FORM: ["payload=", "", "x="],
    MULTIPART: [
        '--frontier\r\nContent-Disposition: form-data; name="payload"\r\n\r\n',
        "--frontier\r\n",
        "--frontier\r\nContent-Disposition: form-data; ",
    ],
    "sheet": ["", "<row>", "<row><c>", "<row><c><f>"],
    "texts": ["", "<si>", "<si><t>"],
    "styles": ["", "<numFmts>", "<numFmt formatCode='"],
}
PARTS = {"sheet": with_sheet, "texts": with_texts, "styles": with_styles}
SMALL, FACTOR = 48 * 1024, 8
# Linear is a ratio of 8, quadratic one of 64. What takes less time than this is not worth measuring.
MOST_RATIO, LEAST_SECONDS = 24, 0.1


def seconds(read, kind, start, pattern, size):
    repeated = start + pattern * (size // len(pattern.encode()) + 1)
    body = PARTS[kind](repeated) if kind in PARTS else repeated
    content_type = MULTIPART if kind in PARTS else kind
    began = time.process_time()
    with contextlib.suppress(errors.ReadingError):
        read(body, content_type, skip_faults=True, column="1" if kind == CSV else None, cut=65536).close()
    return time.process_time() - began


@pytest.mark.parametrize("kind", PIECES)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "5")),
)
@given(data=st.data())
def test_readers_take_linear_time_for_any_pattern(read, kind, data):
    start = data.draw(st.sampled_from(STARTS.get(kind, [""])))
    pattern = "".join(data.draw(st.lists(st.sampled_from(PIECES[kind]), min_size=1, max_size=4)))
    small, large, largest = SMALL, SMALL * FACTOR, SMALL * FACTOR**2
    # One step may be a threshold, such as an input that ends within its first chunk; growth goes on in the next.
    if grows(read, kind, start, pattern, small, large) and grows(read, kind, start, pattern, large, largest):
        raise AssertionError(
            f"{start + pattern!r} takes more than {MOST_RATIO} times as long {FACTOR} times over"
        )


def grows(read, kind, start, pattern, size, larger):
    """Whether it takes more than linear time from one size to the other, FACTOR times as large."""
    long = seconds(read, kind, start, pattern, larger)
    # A busy machine may disturb one measurement, but not three.
    for _ in range(3):
        short = seconds(read, kind, start, pattern, size)
        if long < LEAST_SECONDS or long < MOST_RATIO * short:
            return False
        long = min(long, seconds(read, kind, start, pattern, larger))
    return True
