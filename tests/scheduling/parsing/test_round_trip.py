"""Every format returns the IDs that were written, in the same order, however the bytes are split."""

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduling.core.id_tokens import LARGEST
from scheduling.parsing import Limits
from tests.scheduling.parsing.bodies import CSV, FORM, JSON, MULTIPART, NDJSON, form

SMALL = Limits(block_bytes=7, ids_in_memory=10)
an_id = st.one_of(st.integers(1, 120), st.integers(1, LARGEST), st.sampled_from([2**53, 2**53 + 1, LARGEST]))
id_lists = st.lists(an_id, min_size=1, max_size=60)
same_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150
)


def text(ids, draw):
    between = [",", " ; ", "\n", "\r\n", "\r", "\t", ", ", ",,"]
    return "".join(str(n) + draw.choice(between) for n in ids)


def column(ids, draw):
    end = draw.choice(["\n", "\r\n", "\r"])
    return "user_id" + end + "".join(draw.choice([str(n), str(n), '"' + str(n) + '"']) + end for n in ids)


def table(ids, draw):
    end, by = draw.choice(["\n", "\r\n", "\r"]), draw.choice([",", ";", "\t"])
    names = ["Ann", '"Müller; Jan, Dr."', f'"two{end}lines"', '"a ""quote"""', "", "10 \u2013 20"]
    rows = [by.join(["name", "User ID", "total"])]
    rows += [by.join([draw.choice(names), str(n), draw.choice(["5.5", "7", ""])]) for n in ids]
    return end.join(rows) + draw.choice(["", end])


def lines(ids, draw):
    shapes = ["{n}", '"{n}"', '{{"id": {n}}}', '{{"name": "x", "user_id": "{n}"}}']
    item = draw.choice([shapes, shapes[:1], shapes[2:3]])
    return "".join(draw.choice(item).format(n=n) + draw.choice(["\n", "\r\n"]) for n in ids)


def array(ids, draw):
    kinds = draw.choice([[int], [str], [int, str]])
    payload = [draw.choice(kinds)(n) for n in ids]
    indent = draw.choice([None, 2])
    return json.dumps({"x": {"payload": [9]}, "task_name": "n", "payload": payload}, indent=indent)


def string(ids, draw):
    return json.dumps(
        {"payload": text(ids, draw), "task_name": "ü\n"}, ensure_ascii=draw.choice([True, False])
    )


def urlencoded(ids, draw):
    return (
        "task_name=a+b&payload="
        + draw.choice(["%2C", "%0D%0A", ",", "+", "%2c"]).join(map(str, ids))
        + "&queue=q"
    )


def payload_part(ids, draw):
    return form(("task_name", "x"), ("payload", text(ids, draw)))


def file_part(ids, draw):
    named = draw.choice([("list.csv", table), ("list.txt", text), ("list.jsonl", lines), ("list", column)])
    return form(("file", named[1](ids, draw), named[0]), ("task_name", "x"))


WAYS = {
    text: "text/plain",
    column: CSV,
    table: CSV,
    lines: NDJSON,
    array: JSON,
    string: JSON,
    urlencoded: FORM,
    payload_part: MULTIPART,
    file_part: MULTIPART,
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@same_folder
@given(
    ids=id_lists,
    seed=st.integers(0, 2**32),
    cut=st.integers(1, 40),
    packed=st.booleans(),
    small=st.booleans(),
)
def test_every_format_returns_the_ids_that_were_written(read, way, ids, seed, cut, packed, small):
    body = way(ids, random.Random(seed))
    limits = SMALL if small else Limits()
    assert read.ids(body, WAYS[way], cut=cut, packed=packed, limits=limits) == list(dict.fromkeys(ids))


@same_folder
@given(
    ids=id_lists,
    seed=st.integers(0, 2**32),
    mark=st.sampled_from(["utf-16", "utf-8-sig"]),
    cut=st.integers(1, 9),
)
def test_byte_order_mark_does_not_change_the_ids(read, ids, seed, mark, cut):
    for way in (text, column, table, lines, array):
        body = way(ids, random.Random(seed)).encode(mark)
        assert read.ids(body, WAYS[way], cut=cut) == list(dict.fromkeys(ids))


any_token = st.one_of(
    st.text(st.sampled_from("0123456789eE+-_.,x'\u00a0\u200b\uff11\u0661\"[]{}tru\x00"), max_size=25),
    an_id.map(str),
)


@same_folder
@given(
    tokens=st.lists(any_token, max_size=30), cut=st.integers(1, 20), end=st.sampled_from(["\n", "\r\n", "\r"])
)
def test_result_does_not_depend_on_where_the_chunks_end(read, tokens, cut, end):
    bodies = {
        "text/plain": end.join(tokens),
        CSV: f"name,user_id{end}" + end.join(f"x,{token}" for token in tokens) + end,
        NDJSON: end.join(tokens),
        JSON: json.dumps({"payload": tokens}),
    }
    for content_type, body in bodies.items():
        shown_keys = [
            outcome(read, body, content_type, limits=limits, cut=c)
            for limits, c in ((Limits(), None), (SMALL, cut))
        ]
        assert shown_keys[0] == shown_keys[1]


def outcome(read, body, content_type, **options):
    try:
        with read(body, content_type, skip_faults=True, **options) as reading:
            ids = [n for block in reading.spool.unique_blocks(7) for n in block]
            return ids, reading.faults, reading.warnings, reading.digest, reading.payload_as_sent
    except Exception as error:
        return type(error), str(error), getattr(error, "faults", None)
