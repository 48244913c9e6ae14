"""A token is an ID or a fault with a reason that helps; nothing is guessed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core import id_tokens


@given(st.integers(1, id_tokens.LARGEST))
def test_digits_alone_are_an_id(number):
    assert id_tokens.read(str(number)) == (number, None, False, False)


@given(
    st.integers(1, id_tokens.LARGEST),
    st.text(id_tokens.TRIMMED, max_size=5),
    st.text(id_tokens.TRIMMED, max_size=5),
)
def test_what_nobody_sees_is_trimmed_from_the_ends_and_told(number, before, after):
    assert id_tokens.read(f"{before}{number}{after}") == (number, None, bool(before or after), False)


@given(st.integers(1, id_tokens.LARGEST), st.integers(1, 5000))
def test_leading_zeros_are_read_past_and_told(number, zeros):
    assert id_tokens.read("0" * zeros + str(number)) == (number, None, False, True)


@given(st.text(max_size=30))
def test_nothing_but_ascii_digits_is_ever_an_id(token):
    read = id_tokens.read(token)
    core = token.strip(id_tokens.TRIMMED)
    is_id = core.isascii() and core.isdigit() and 1 <= int(core) <= id_tokens.LARGEST
    assert (read.id is not None) == is_id == (read.reason is None)


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("1e+05", "scientific"),
        ("1.2345E+17", "scientific"),
        ("1,2E17", "scientific"),
        ("12.0", "decimal"),
        ("12,5", "decimal"),
        (".5", "decimal"),
        ("1,234", "thousands"),
        ("1.234.567", "thousands"),
        ("1'234", "thousands"),
        ("1 234", "thousands"),
        ("1\u00a0234", "thousands"),
        ("1\u202f234", "thousands"),
        ("1001,1002", "several"),
        ("1001 1002", "several"),
        ("+7", "sign"),
        ("-7", "sign"),
        ("\u22127", "sign"),
        ("0x1F", "not decimal"),
        ("0b101", "not decimal"),
        ("\uff11\uff12", "fullwidth"),
        ("\u0661\u0662", "arabic"),
        ("1_000", "underscore"),
        ("true", "truth"),
        ("FALSE", "truth"),
        ("null", "null"),
        ("None", "not an ID"),
        ("NaN", "not a number"),
        ("2026-11-24", "date"),
        ("24.11.2026", "date"),
        ("0", "begin at 1"),
        ("000", "begin at 1"),
        ("9223372036854775808", "largest"),
        ("9" * 4301, "largest"),
        ("1e1000000", "scientific"),
        ("1E999999999999999999999", "scientific"),
        ("", id_tokens.NOTHING),
        ("\ufeff\u200b", id_tokens.NOTHING),
        ("9100\u200b3", "U\\+200B"),
        ("91\u00ad003", "U\\+00AD"),
        ("91\u202a003", "U\\+202A"),
        ("\udc96", "0x96.*Windows-1252"),
        ("1\x000\x000", "zero byte"),
        ('"1001"', "quotes"),
        ("[1", "bracket"),
        ("12O4", "letter O"),
        ("l234", "letter l"),
        ("7000x", "x inside"),
        ("user_id", "not a number"),
        ("\u0661x", "inside|not"),
        ("10\u00b2", "inside"),
    ],
)
def test_each_kind_of_fault_has_a_reason_that_helps(token, words):
    read = id_tokens.read(token)
    assert read.id is None
    assert re.search(words, read.reason), read.reason


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("9100\u200b3", "9100<U+200B>3"),
        ("\udc96x", "<0x96>x"),
        ("a\tb\n", "a<U+0009>b<U+000A>"),
        ("Zoë", "Zoë"),
        ("9" * 50, "9" * 40),
        ("\u200b" * 50, "<U+200B>" * 5),
        ("e\u0301", "e<U+0301>"),
        ("\U000e0041", "<U+E0041>"),
    ],
)
def test_what_is_shown_is_visible_and_short(text, shown):
    assert id_tokens.visible(text) == shown


@given(st.text(st.characters(), max_size=100))
def test_what_is_shown_can_always_be_written(text):
    shown = id_tokens.visible(text)
    assert len(shown) <= 40
    shown.encode()
    assert shown.isprintable()


@pytest.mark.parametrize(
    "cell", ["1", "1e+05", "12.0", "+7", "1,234", "0x1F", "\uff11", "1_000", "99999999999999999999"]
)
def test_a_damaged_number_is_no_name_of_a_column(cell):
    assert id_tokens.looks_like_a_number(cell)


@pytest.mark.parametrize("cell", ["user_id", "", "7000x", "2026-11-24", "Benutzer-Nr.", "id 2"])
def test_a_name_is_no_damaged_number(cell):
    assert not id_tokens.looks_like_a_number(cell)
