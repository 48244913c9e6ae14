"""JSON whose numbers stay as they are spelled."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core import exact_json

VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)
SPELLED = '{"a":12.50,"b":[0.1000000000000000055,1E+2,-0,12345678901234567890.12],"c":"1.0","d":{"e":null,"f":true}}'


def test_numbers_are_written_as_they_were_read():
    assert exact_json.write(exact_json.read(SPELLED)) == SPELLED


@given(VALUES)
def test_exact_json_is_the_json_of_the_standard_library(value):
    compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert exact_json.write(value) == compact
    assert exact_json.write(exact_json.read(compact)) == compact
    assert exact_json.plain(exact_json.read(compact)) == value


def test_plain_numbers_are_those_of_the_standard_library():
    value = exact_json.plain(exact_json.read(SPELLED))
    assert value == json.loads(SPELLED)
    assert [type(item) for item in value["b"]] == [float, float, int, float]


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[1,", "01", ""])
def test_text_that_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match=r"value|Extra data|Expecting"):
        exact_json.read(text)


@pytest.mark.parametrize("value", [float("nan"), {"a": float("inf")}])
def test_value_that_json_does_not_have_is_not_written(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        exact_json.write(value)


@pytest.mark.parametrize(
    ("number", "is_too_large"), [("1e400", True), ("-1e308", False), ("9" * 4_301, True)]
)
def test_numbers_that_no_computer_reads_are_recognized(number, is_too_large):
    assert exact_json.Number(number).is_too_large is is_too_large
