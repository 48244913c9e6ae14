"""Each kind of bad body is refused for what it is, and leaves nothing on disk (the fixture checks)."""

import gzip
import subprocess
import sys
import zlib

import pytest

from scheduling.parsing import Limits, errors
from tests.scheduling.parsing.bodies import CSV, FORM, JSON, MULTIPART, NDJSON, form, ids_of

ALL = {
    "text/plain": "1001, 1002 ,1003",
    CSV: "user_id,name\n1001,Ann\n1002,Bob\n1003,Cy\n",
    NDJSON: '1001\n{"id": 1002}\n"1003"\n',
    JSON: '{"task_name": "x", "payload": [1001, 1002, "1003"]}',
    FORM: "task_name=x&payload=1001,1002,1003",
    MULTIPART: form(("task_name", "x"), ("payload", "1001,1002,1003")),
}
every_type = pytest.mark.parametrize("content_type", ALL)


@every_type
@pytest.mark.parametrize("packed", [False, True])
def test_bad_token_is_a_fault_in_every_format(read, content_type, packed):
    body = ALL[content_type]
    bad = (
        body.replace(b"1002", b"10O2")
        if isinstance(body, bytes)
        else body.replace("1002", '"10O2"' if content_type == JSON else "10O2")
    )
    if content_type == NDJSON:
        bad = body.replace("1002", '"10O2"')
    (fault,) = read.faults(bad, content_type, packed=packed)
    assert (fault.token, fault.reason) == ("10O2", "It has the letter O among its digits.")
    with read(bad, content_type, packed=packed, skip_faults=True) as reading:
        assert ids_of(reading) == [1001, 1003]


@every_type
def test_cut_off_body_is_refused_wherever_it_ends(read, content_type):
    body = ALL[content_type].encode() if isinstance(ALL[content_type], str) else ALL[content_type]
    for end in range(len(body)):
        with pytest.raises((errors.CutOff, errors.Broken, errors.NotAList)):
            read(body[:end], content_type, content_length=len(body))


@every_type
@pytest.mark.parametrize("token", ["0", "000", "9223372036854775808", "99999999999999999999"])
def test_number_out_of_range_is_a_fault(read, content_type, token):
    body = ALL[content_type]
    expected = f'"{token}"' if content_type in (JSON, NDJSON) else token
    bad = (
        body.replace(b"1002", expected.encode())
        if isinstance(body, bytes)
        else body.replace("1002", expected)
    )
    (fault,) = read.faults(bad, content_type)
    assert fault.token == token


def test_cut_off_error_says_how_much_arrived(read):
    with pytest.raises(errors.CutOff, match="4 of 9 bytes"):
        read("1001", content_length=9)


def test_disconnected_sender_is_reported_as_cut_off(read):
    def chunks():
        yield b"1001,"
        raise ConnectionResetError

    with pytest.raises(errors.CutOff, match="5 of 900 bytes"):
        read("", chunks=chunks(), content_length=900)


def test_body_of_unknown_length_is_refused(read):
    with pytest.raises(errors.LengthUnknown, match="Content-Length"):
        read("1001", content_length=None)


@every_type
def test_empty_body_is_refused_as_empty(read, content_type):
    with pytest.raises(errors.BodyEmpty):
        read("", content_type)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", " ,;\n"),
        ("text/plain", "\ufeff"),
        (CSV, "user_id\n"),
        (CSV, ";;\n \n"),
        (NDJSON, "\n\n"),
        (FORM, "payload="),
        (FORM, "payload=+,"),
        (MULTIPART, form(("payload", ""))),
        (MULTIPART, form(("file", "user_id\n", "a.csv"))),
        (MULTIPART, form(("file", "", "a.csv"))),
    ],
)
def test_list_without_ids_is_refused_as_empty(read, content_type, body):
    with pytest.raises(errors.ListEmpty):
        read(body, content_type)


def test_list_whose_every_token_is_skipped_is_empty_and_lists_the_faults(read):
    with pytest.raises(errors.ListEmpty) as refused:
        read("x,y", skip_faults=True)
    assert refused.value.fault_count == 2
    assert [fault.token for fault in refused.value.faults] == ["x", "y"]
    with read("x,y") as reading:
        assert reading.fault_count == 2


# gzip


def test_gzip_members_and_padding_form_one_body(read):
    packed = gzip.compress(b"1001\n10") + gzip.compress(b"02\n") + gzip.compress(b"") + b"\0" * 100
    for cut in (None, 1, 7):
        assert read.ids(packed, content_encoding="gzip", cut=cut) == [1001, 1002]


def test_cut_off_gzip_is_refused_wherever_it_ends(read):
    packed = gzip.compress(b"1001\n" * 50) + gzip.compress(b"1002\n" * 50)
    for end in range(1, len(packed)):
        if end == len(gzip.compress(b"1001\n" * 50)):
            continue
        with pytest.raises((errors.CutGzip, errors.BrokenGzip)):
            read(packed[:end], content_encoding="gzip", skip_faults=True)


def test_broken_gzip_and_trailing_data_are_refused(read):
    packed = gzip.compress(b"1001\n" * 50)
    broken = bytearray(packed)
    broken[-6] ^= 1
    for body in (bytes(broken), packed + b"1002\n", b"1001\n", zlib.compress(b"1001"), b"\0" * 20 + packed):
        with pytest.raises(errors.BrokenGzip):
            read(body, content_encoding="gzip", skip_faults=True)


def test_gzip_bomb_is_refused_by_its_unpacked_size(read):
    bomb = gzip.compress(b"1" * 50_000_000)
    with pytest.raises(errors.LineTooLong):
        read(bomb, content_encoding="gzip")
    many = gzip.compress(b"1001\n" * 10_000_000)
    limits = Limits(max_body_bytes=1_000_000)
    for body, content_type, options in (
        (many, "text/plain", {"content_encoding": "gzip"}),
        (form(("file", many, "a.csv.gz")), MULTIPART, {}),
    ):
        with pytest.raises(errors.BodyTooLarge, match="1,000,000 bytes"):
            read(body, content_type, limits=limits, **options)


@pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, gzip", "zstd"])
def test_other_content_encodings_are_refused(read, encoding):
    with pytest.raises(errors.EncodingNotAccepted):
        read("1001", content_encoding=encoding)


@pytest.mark.parametrize("encoding", [None, "", "identity", "GZIP", "x-gzip"])
def test_gzip_and_identity_are_accepted_in_any_spelling(read, encoding):
    body = gzip.compress(b"1001") if encoding and "gzip" in encoding.lower() else b"1001"
    assert read.ids(body, content_encoding=encoding) == [1001]


# too much


class Counted:
    """A sender that tells how much of its body was taken."""

    def __init__(self, piece, times):
        self.piece, self.times, self.taken = piece, times, 0

    def __iter__(self):
        for _ in range(self.times):
            self.taken += len(self.piece)
            yield self.piece


def test_too_many_ids_are_refused_while_they_arrive(read):
    for token in (b"1001\n", b"x\n", b"1001 x\n"):
        sender = Counted(token * 1000, 1000)
        with pytest.raises(errors.TooManyIds, match="more than 5,000 entries"):
            read("", chunks=sender, content_length=len(token) * 10**6, limits=Limits(max_ids=5000))
        assert sender.taken < 200_000
    assert len(read.ids(" ".join(map(str, range(1, 5001))), limits=Limits(max_ids=5000))) == 5000


@pytest.mark.parametrize(
    ("head", "item", "tail", "content_type"),
    [
        ('{"payload":[', '"x",', "1]}", JSON),
        ('{"payload":[', "1,", "1]}", JSON),
        ("", "{}\n", "", NDJSON),
        ("a,user_id\n", "1,x\n", "", CSV),
    ],
)
def test_too_many_entries_are_refused_in_every_format(read, head, item, tail, content_type):
    with pytest.raises(errors.TooManyIds):
        read(head + item * 6000 + tail, content_type, limits=Limits(max_ids=5000, max_faults_kept=10))


def test_body_announced_as_too_large_is_refused_unread(read):
    sender = Counted(b"1001\n" * 1000, 1000)
    with pytest.raises(errors.BodyTooLarge):
        read("", chunks=sender, content_length=5_000_000, limits=Limits(max_body_bytes=4_999_999))
    assert sender.taken == 0


def test_body_larger_than_announced_is_refused(read):
    sender = Counted(b"1001\n" * 1000, 1000)
    with pytest.raises(errors.BodyTooLarge):
        read("", chunks=sender, content_length=10, limits=Limits(max_body_bytes=10_000))
    assert sender.taken < 30_000


@pytest.mark.parametrize(
    ("content_type", "head", "word"),
    [("text/plain", "5\n6 ", "token"), (CSV, "user_id\n5\n", "row"), (NDJSON, "5\n6\n", "line")],
)
def test_endless_line_is_refused_before_it_ends(read, content_type, head, word):
    sender = Counted(b"1" * 10_000, 1000)

    def chunks():
        yield head.encode()
        yield from sender

    with pytest.raises(errors.LineTooLong, match=word):
        read(
            "",
            content_type,
            chunks=chunks(),
            content_length=10_000_000,
            limits=Limits(max_line_bytes=200_000),
        )
    assert sender.taken < 500_000


def test_text_may_be_one_line_of_any_length(read):
    assert len(read.ids(",".join(map(str, range(1, 300_001))))) == 300_000


# CSV


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("body", "line"),
    [
        ('user_id,name\n1,Ann\n2,"Bob\n3,Cy\n', 3),
        ('user_id,name\n1,Ann\n2,"Bob', 3),
        ('user_id,name\n1,"a\nb"\n2,"c\nd\n3,e\n', 4),
        ('user_id,name\n1,"a\nb","c\n', 2),
        ('"user_id\n1\n2\n', 1),
        ("user_id,name\n" + "1,x\n" * 50_000 + '2,"x\n' + "3,y\n" * 400_000, 50_002),
    ],
)
def test_quote_that_is_never_closed_is_refused_with_its_line(read, body, line, skip):
    with pytest.raises((errors.QuoteNeverClosed, errors.QuotedCellTooLong)) as refused:
        read(body, CSV, skip_faults=skip, cut=65536)
    assert abs(refused.value.line - line) <= ("c" in body)


def test_csv_with_many_multi_line_cells_is_read(read):
    body = "user_id,note\n" + "".join(f'{n},"a\nb\nc"\n' for n in range(1, 100_001))
    with read(body, CSV, cut=65536) as reading:
        assert reading.ids_count == 100_000
        assert reading.warnings["multi_line_cells"] == 100_000


def test_csv_with_too_many_columns_is_refused(read):
    for cells in (["1"], ["a"]):
        with pytest.raises(errors.TooManyColumns, match="text/plain"):
            read(",".join(cells * 400_000) + "\n", CSV)


def test_csv_cell_that_is_too_long_is_refused(read):
    with pytest.raises(errors.LineTooLong):
        read("user_id,x\n1," + "a" * 2_000_000 + "\n", CSV)


# forms


def test_broken_forms_are_refused(read):
    sound = form(("task_name", "x"), ("payload", "1001"))
    for end in range(len(sound) - 3):
        with pytest.raises((errors.BrokenForm, errors.BodyEmpty)):
            read(sound[:end], MULTIPART)
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=other"):
        with pytest.raises(errors.BrokenForm):
            read(sound, content_type)
    with pytest.raises(errors.DoubledField, match="payload"):
        read(form(("payload", "1"), ("payload", "2")), MULTIPART)
    with pytest.raises(errors.DoubledField, match="payload"):
        read("payload=1&task_name=x&payload=2", FORM)
    with pytest.raises(errors.FieldTooLong, match="task_name"):
        read(form(("task_name", "x" * 300_000), ("payload", "2")), MULTIPART)
    with pytest.raises(errors.BrokenText, match="task_name"):
        read(form(("task_name", b"\xff"), ("payload", "2")), MULTIPART)
    with pytest.raises(errors.TooManyFields):
        read("&".join(f"f{n}=1" for n in range(300)), FORM)
    with pytest.raises(errors.BrokenForm):
        read("a" * 2_000_000, FORM)


def test_broken_utf16_is_refused(read):
    body = "1001\n1002".encode("utf-16")
    for broken in (body[:-1], body + b"\x00\xd8"):
        with pytest.raises(errors.BrokenText):
            read(broken, skip_faults=True)
    with pytest.raises(errors.CharsetNotAccepted):
        read("1001".encode("utf-32"))


def test_every_error_has_a_sentence_and_a_family():
    families = (errors.TooLarge, errors.NotAccepted, errors.Broken, errors.NotAList)
    alone = {errors.LengthUnknown, errors.NoSpace, *families}
    for kind in vars(errors).values():
        if (
            isinstance(kind, type)
            and issubclass(kind, errors.ReadingError)
            and kind is not errors.ReadingError
        ):
            assert kind in alone or issubclass(kind, families), kind
            assert kind.__doc__
            assert kind.__doc__.strip()[0].isupper()


def test_parsing_does_not_import_django():
    program = (
        "import scheduling.parsing, sys; sys.exit(any(m.split('.')[0] == 'django' for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
