"""The scanner and the parser of the standard library accept the same JSON."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scheduling.parsing import Limits, errors
from tests.scheduling.parsing.bodies import JSON

items = st.one_of(
    st.integers(1, 2**63 - 1),
    st.integers(-5, 5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([None, True, False, [], [1], {}, {"id": 1}]),
    st.text(st.sampled_from('0123456789, ;x\\"/\b\n\u200b\u00e9\U0001f600'), max_size=12),
)
documents = st.fixed_dictionaries(
    {"payload": st.one_of(st.lists(items, max_size=8), items)},
    optional={
        "task_name": st.text(max_size=8),
        "x": st.recursive(items, lambda inner: st.lists(inner, max_size=3)),
    },
)
changes = st.lists(
    st.tuples(
        st.integers(0, 10**6), st.sampled_from([*b'",:[]{}0123456789eE+-.\\untrfal \n\x00\xff\xc3', None])
    ),
    max_size=2,
)
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=600)


def changed(body, places):
    """Put a byte in, or take one out (None), at each place."""
    for at, byte in places:
        at %= len(body) or 1
        body = body[:at] + body[at + 1 :] if byte is None else body[:at] + bytes([byte]) + body[at:]
    return body


def refuse(*facts):
    raise ValueError(facts)


def once(pairs):
    return dict(pairs) if len(dict(pairs)) == len(pairs) else refuse(pairs)


def is_json(body):
    try:
        value = json.loads(body.decode(), parse_constant=refuse, object_pairs_hook=once, parse_int=str)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


@many
@given(
    document=documents,
    places=changes,
    ascii=st.booleans(),
    indent=st.sampled_from([None, 1]),
    cut=st.integers(1, 30),
)
@example({"payload": "\ud83d"}, [], True, None, 1)
@example({"payload": "1,\U0001f600"}, [], True, None, 4)
@example({"payload": [1, 2]}, [(14, 0x20), (15, 0x2C)], True, None, 3)
def test_scanner_accepts_exactly_what_the_standard_library_accepts(
    read, document, places, ascii, indent, cut
):
    body = changed(
        json.dumps(document, ensure_ascii=ascii, indent=indent).encode("utf-8", "surrogatepass"), places
    )
    for limits, size in ((Limits(), None), (Limits(block_bytes=4), cut)):
        try:
            read(body, JSON, limits=limits, cut=size, skip_faults=True).close()
            broken = False
        except errors.Broken:
            broken = True
        except errors.NotAList as error:
            # It stops at what is no list, and does not look whether the rest is JSON.
            if isinstance(error, errors.NotAnObject | errors.PayloadNotAList):
                return
            broken = False
        assert broken == (not is_json(body)), body


@pytest.mark.parametrize("blanks", range(6))
@pytest.mark.parametrize("size", range(1, 8))
def test_missing_item_is_refused_wherever_the_chunks_end(read, blanks, size):
    for items in ("1, ,2", "1, ", "1,\n,2", ",1", "1,2, ,3,4"):
        with pytest.raises(errors.BrokenJson):
            read('{"payload":' + " " * blanks + f"[{items}]}}", JSON, limits=Limits(block_bytes=size))
