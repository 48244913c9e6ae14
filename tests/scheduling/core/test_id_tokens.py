"""A token is either an ID or a fault with a helpful reason. Nothing is guessed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core import id_tokens


@given(st.integers(1, id_tokens.LARGEST))
def test_token_of_digits_is_an_id(number):
    assert id_tokens.read(str(number)) == (number, None, False, False)


@given(
    st.integers(1, id_tokens.LARGEST),
    st.text(id_tokens.TRIMMED, max_size=5),
    st.text(id_tokens.TRIMMED, max_size=5),
)
def test_invisible_characters_at_the_ends_are_trimmed_and_reported(number, before, after):
    assert id_tokens.read(f"{before}{number}{after}") == (number, None, bool(before or after), False)


@given(st.integers(1, id_tokens.LARGEST), st.integers(1, 5000))
def test_leading_zeros_are_ignored_and_reported(number, zeros):
    assert id_tokens.read("0" * zeros + str(number)) == (number, None, False, True)


@given(st.text(max_size=30))
def test_only_ascii_digits_are_an_id(token):
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
        ("0x1F", "not a decimal"),
        ("0b101", "not a decimal"),
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
        ("", id_tokens.EMPTY),
        ("\ufeff\u200b", id_tokens.EMPTY),
        ("9100\u200b3", "U\\+200B"),
        ("91\u00ad003", "U\\+00AD"),
        ("91\u202a003", "U\\+202A"),
        ("\udc96", "0x96.*Windows-1252"),
        ("1\x000\x000", "zero byte"),
        ('"1001"', "quotes"),
        ("[1", "bracket"),
        ("12O4", "letter O"),
        ("l234", "letter l"),
        ("7000x", "contains x"),
        ("user_id", "not a number"),
        ("\u0661x", "contains"),
        ("10\u00b2", "contains"),
    ],
)
def test_every_kind_of_fault_has_its_own_reason(token, words):
    read = id_tokens.read(token)
    assert read.id is None
    assert re.search(words, read.reason), read.reason
    assert re.fullmatch(r"[A-Z].*\.", read.reason)


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("0", "0 is not allowed: IDs begin at 1."),
        (
            "12.0",
            "12.0 is not allowed: it is a decimal number. Write a whole number without a decimal point.",
        ),
        ("", "An empty entry is not allowed: it is empty."),
    ],
)
def test_refusal_is_a_sentence(token, sentence):
    assert id_tokens.refusal(token, id_tokens.read(token).reason) == sentence


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
def test_visible_shows_invisible_characters_and_is_short(text, shown):
    assert id_tokens.visible(text) == shown


@given(st.text(st.characters(), max_size=100))
def test_visible_returns_text_that_can_be_encoded(text):
    shown = id_tokens.visible(text)
    assert len(shown) <= 40
    shown.encode()
    assert shown.isprintable()


@pytest.mark.parametrize(
    "cell", ["1", "1e+05", "12.0", "+7", "1,234", "0x1F", "\uff11", "1_000", "99999999999999999999"]
)
def test_damaged_number_is_recognized_as_a_number(cell):
    assert id_tokens.looks_like_a_number(cell)


@pytest.mark.parametrize("cell", ["user_id", "", "7000x", "2026-11-24", "Benutzer-Nr.", "id 2"])
def test_column_name_does_not_look_like_a_number(cell):
    assert not id_tokens.looks_like_a_number(cell)
