"""Reading a response: what counts, whatever is wrong after the status line, however its bytes are split."""

import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduling.handlers.http_response import BODY_BYTES, HEAD_BYTES, NotHttp, ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH_2 = b"Content-Length: 2\r\n\r\nok"
NO_LENGTH = b"Content-Length: 0\r\n\r\n"

# Each response with its status, its body, and whether there is a note.
RESPONSES = {
    "plain": (OK + b"Content-Length: 2\r\n\r\nok", 200, b"ok", False),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, b"", False),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, b"ok", False),
    "blank lines first": (b"\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n", 200, b"", False),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", False),
    "204 with a declared body": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        204,
        b"",
        True,
    ),
    "204 with chunks": (
        b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        204,
        b"",
        True,
    ),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b"", False),
    "interim first": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + LENGTH_2,
        200,
        b"ok",
        False,
    ),
    "two interim first": (
        b"HTTP/1.1 100 X\r\n\r\n" * 2 + b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        503,
        b"",
        False,
    ),
    "two lengths": (OK + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\nok", 200, b"ok", True),
    "one length twice": (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
    "a length that is no number": (OK + b"Content-Length: two\r\n\r\nok", 200, b"", True),
    "a negative length": (OK + b"Content-Length: -1\r\n\r\n", 200, b"", True),
    "an endless length": (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 200, b"", True),
    "a length beside chunked": (
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        200,
        b"ok",
        True,
    ),
    "a header without a colon": (OK + b"nonsense\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
    "a header without a name": (OK + b": nonsense\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
    "a blank before the colon": (OK + b"Content-Length : 2\r\n\r\nok", 200, b"ok", False),
    "odd bytes in a header": (
        OK + b"X-Odd: \xff\x00\x01\xe9\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
        False,
    ),
    "a header over two lines": (OK + b"X-Long: a\r\n b\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
    "chunks": (
        CHUNKED + b"2;x=1\r\nok\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n",
        200,
        b"ok0123456789",
        False,
    ),
    "a bad chunk size": (CHUNKED + b"2\r\nok\r\nxyz\r\n", 200, b"ok", True),
    "a chunk that is too long": (
        CHUNKED + b"2\r\nokay\r\n0\r\n\r\n",
        200,
        b"ok",
        True,
    ),
    "chunks that are cut": (CHUNKED + b"5\r\nhel", 200, b"hel", True),
    "a body that is cut": (OK + b"Content-Length: 10\r\n\r\nabc", 200, b"abc", True),
    "until the connection closes": (OK + b"\r\nall of it", 200, b"all of it", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nall of it", 200, b"all of it", False),
    "an unknown coding": (OK + b"Transfer-Encoding: rot13\r\n\r\nok", 200, b"ok", True),
    "only a status line": (b"HTTP/1.1 201 Created\r\n", 201, b"", True),
    "headers that are cut": (b"HTTP/1.1 429 Slow\r\nRetry-After: 9\r\nContent-Le", 429, b"", True),
    "long headers": (OK + b"X-Long: " + b"x" * HEAD_BYTES + b"\r\n\r\n", 200, b"", True),
    "a long body": (OK + b"Content-Length: 70000\r\n\r\n" + b"x" * 70_000, 200, b"x" * BODY_BYTES, True),
    "a long body in chunks": (
        CHUNKED + (b"100\r\n" + b"0123456789abcdef" * 16 + b"\r\n") * 300,
        200,
        b"0123456789abcdef" * (BODY_BYTES // 16),
        True,
    ),
    "a long body until close": (OK + b"\r\n" + b"x" * 70_000, 200, b"x" * BODY_BYTES, True),
    "an error": (b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nwhy", 500, b"why", False),
}


def read(*pieces: bytes) -> ResponseReader:
    """Feed pieces until the reader needs no more; then the connection closes."""
    reader = ResponseReader()
    for piece in pieces:
        reader.feed(piece)
        if reader.done:
            return reader
    reader.end()
    return reader


@pytest.mark.parametrize("name", RESPONSES)
def test_reader_takes_the_status_whatever_is_wrong_after_it(name):
    response, status, body, remark = RESPONSES[name]
    reader = read(response)
    assert (reader.status, bytes(reader.body), bool(reader.note)) == (status, body, remark)


def facts(reader: ResponseReader) -> tuple:
    return reader.status, reader.headers, bytes(reader.body)


@pytest.mark.parametrize("name", RESPONSES)
def test_reader_result_does_not_depend_on_where_pieces_split(name):
    response = RESPONSES[name][0]
    whole = facts(read(response))
    assert facts(read(*(response[at : at + 1] for at in range(len(response))))) == whole
    # Every split in two; of a long response every one near its ends, and some between.
    cuts = list(range(1, len(response)))
    if len(cuts) > 600:
        cuts = cuts[:100] + random.Random(7).sample(cuts, 20) + cuts[-5:]
    for cut in cuts:
        assert facts(read(response[:cut], response[cut:])) == whole, cut


@given(
    st.lists(
        st.sampled_from(
            [
                b"\r\n",
                b"\n",
                b"HTTP/1.1 200 OK",
                b"HTTP/1.1 100 C",
                b"Content-Length: 3",
                b"Transfer-Encoding: chunked",
                b"Retry-After: 9",
                b":",
                b" x",
                b"3",
                b"0",
                b"abc",
                b"\xff\x00",
                b";",
            ]
        ),
        max_size=14,
    ),
    st.data(),
)
@settings(max_examples=400, deadline=None)
def test_reader_result_of_any_bytes_does_not_depend_on_the_pieces(parts, data):
    response = b"".join(parts)

    def outcome(pieces):
        try:
            return facts(read(*pieces))
        except NotHttp:
            return "not HTTP"

    cuts = sorted(data.draw(st.sets(st.integers(0, len(response)), max_size=6)))
    pieces = [response[start:end] for start, end in zip([0, *cuts], [*cuts, len(response)], strict=True)]
    assert outcome(pieces) == outcome([response]) == outcome([bytes([byte]) for byte in response])


class ReaderInSteps(ResponseReader):
    """Reads every response part by part, also one that is whole and has no flaw."""

    def _read_plain(self, data: bytes) -> bool:
        return False


def state_of(reader: ResponseReader) -> tuple:
    return *facts(reader), reader.note, reader.reusable, reader.done, reader.begun


HEADER_LINES = st.sampled_from(
    [
        b"Content-Length: 2",
        b"content-length:2",
        b"Content-Length: 0",
        b"Content-Length: 00",
        b"Content-Length: 2, 2",
        b"Content-Length:",
        b"Content-Length: \xd9\xa2",
        b"Content-Length : 2",
        b"Content-Length: 70000",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding:",
        b"Connection: close",
        b"Connection: Keep-Alive, CLOSE",
        b"Connection: keep-alive",
        b"Retry-After: 9",
        b"Retry-After: Wed, 05 Mar 2031 12:15:00 GMT",
        b"Location: /a\xff\x85",
        b"Content-Type: \x1ftext/plain\t",
        b"Server: nginx",
        b"X-Odd: \x00\xe9\xc3\xa9",
        b"X-Length\nContent-Length: 2",
        b" folded",
        b"nonsense",
        b": no name",
        b"X-Return: a\rb",
    ]
)
INVENTED = st.builds(
    lambda first, length, lines, ends, body: (
        first + b"".join(line + ends for line in [*length, *lines]) + ends + body
    ),
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200\r\n",
            b"HTTP/1.1 204 No Content\r\n",
            b"HTTP/1.1 304 Not Modified\r\n",
            b"HTTP/1.1 503 \r\n",
            b"HTTP/1.1 201\tCreated\r\n",
            b"HTTP/1.1 200 O\rK\r\n",
            b"HTTP/1.1 200 OK\n",
            b"HTTP/1.1 103 Early Hints\r\n",
            b"HTTP/1.0 200 OK\r\n",
            b"\r\nHTTP/1.1 200 OK\r\n",
            b"xHTTP/1.1 200 OK\r\n",
        ]
    ),
    st.sampled_from([[b"Content-Length: 2"], []]),
    st.lists(HEADER_LINES, max_size=3),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]),
    st.sampled_from([b"ok", b"ok", b"", b"o", b"ok and more", b"2\r\nok\r\n0\r\n\r\n"]),
)


@given(INVENTED, st.booleans())
@example(OK + b"Transfer-Encoding: chunked\r\n" + LENGTH_2, False)
@example(b"HTTP/1.1 103 Early Hints\r\n" + LENGTH_2, False)
@example(b"HTTP/1.1 304 Not Modified\r\n" + LENGTH_2, False)
@settings(max_examples=500, deadline=None)
def test_response_in_one_piece_is_read_as_it_is_in_steps(response, after_another):
    def outcome(kind, *pieces):
        reader = kind(after_another=after_another)
        try:
            for piece in pieces:
                if not reader.done:
                    reader.feed(piece)
        except NotHttp:
            return None
        return reader

    def state_or_none(reader, state):
        return None if reader is None else state(reader)

    whole = outcome(ResponseReader, response)
    assert state_or_none(whole, state_of) == state_or_none(outcome(ReaderInSteps, response), state_of)
    in_bytes = outcome(ResponseReader, *(response[at : at + 1] for at in range(len(response))))
    assert state_or_none(whole, facts) == state_or_none(in_bytes, facts)
    for cut in range(len(response)):
        assert state_or_none(whole, facts) == state_or_none(
            outcome(ResponseReader, response[:cut], response[cut:]), facts
        )


@pytest.mark.parametrize("name", RESPONSES)
def test_response_of_the_table_in_one_piece_is_read_as_it_is_in_steps(name):
    readers = [ResponseReader(), ReaderInSteps()]
    for reader in readers:
        reader.feed(RESPONSES[name][0])
    assert state_of(readers[0]) == state_of(readers[1])


@pytest.mark.parametrize(
    "response",
    [
        RESPONSES["plain"][0],
        RESPONSES["204"][0],
        RESPONSES["an error"][0],
        OK + b"Server: nginx\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        OK + b"Content-Length: %d\r\n\r\n" % BODY_BYTES + b"x" * BODY_BYTES,
    ],
)
def test_most_responses_are_read_in_one_piece(response):
    assert ResponseReader()._read_plain(response)


@pytest.mark.parametrize(
    "junk",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"<html>\n",
        b"HTTP/1.1 OK\r\n",
        b"HTTP/1.1 99 X\r\n",
        b"HTTP/1.1 2000 X\r\n",
        b"x" * 70_000,
    ],
)
def test_reader_refuses_what_is_not_http(junk):
    with pytest.raises(NotHttp):
        read(junk)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK", b"HTTP/1.1 103 Early\r\n\r\n"])
def test_incomplete_status_line_is_no_status(start):
    assert read(start).status is None


def test_reader_skips_surplus_bytes_of_the_previous_response():
    for stray in (b"hello", b"hello\r\n", b"1\r\na\r\n0\r\n\r\n"):
        reader = ResponseReader(after_another=True)
        reader.feed(stray + b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        assert (reader.status, reader.done, reader.reusable) == (503, True, False)


@pytest.mark.parametrize(
    ("name", "reusable"),
    [
        ("plain", True),
        ("204", True),
        ("chunks", True),
        ("one length twice", True),
        ("304 with a length", True),
    ]
    + [(name, False) for name, case in RESPONSES.items() if case[3]]
    + [("HTTP/1.0", False), ("until the connection closes", False)],
)
def test_connection_is_used_again_only_after_a_response_without_a_flaw(name, reusable):
    assert read(RESPONSES[name][0]).reusable is reusable


def test_connection_is_not_used_again_after_close_or_bytes_past_the_end():
    assert not read(OK + b"Connection: Keep-Alive, Close\r\nContent-Length: 0\r\n\r\n").reusable
    extra = read(OK + b"Content-Length: 0\r\n\r\nhello")
    assert (extra.status, extra.reusable, extra.note) == (
        200,
        False,
        "there are bytes after the end of the response",
    )


def seconds_for(chunks: int) -> float:
    # One byte in each chunk, and in each packet, is the most work for a byte.
    response = CHUNKED + b"1\r\nx\r\n" * chunks
    reader = ResponseReader()
    began = time.process_time()
    for at in range(len(response)):
        reader.feed(response[at : at + 1])
    return time.process_time() - began


def test_reader_takes_linear_time():
    # Four times the bytes: four times as long, not sixteen times.
    assert min(seconds_for(12_000) for _ in range(3)) < 9 * min(seconds_for(3_000) for _ in range(3))
