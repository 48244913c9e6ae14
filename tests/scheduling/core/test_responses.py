"""What a queue counts as done: statuses, and a condition on a JSON response."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core import retry
from scheduling.core.errors import BadRule
from scheduling.core.responses import Pointer, Rules, SuccessWhen, read_json, same_json, statuses
from scheduling.core.retry import Verdict


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("200", {200}),
        ("200-202, 404 ,409", {200, 201, 202, 404, 409}),
        (" 200 - 201", {200, 201}),
        ("", set()),
        ("599", {599}),
    ],
)
def test_statuses_are_lists_of_statuses_and_ranges(text, result):
    assert statuses(text) == result


@pytest.mark.parametrize(
    "text", ["2xx", "200-", "299-200", "99", "600", "500-600", "200,,201", "200;2", "٢٠٠", "1000"]
)
def test_bad_statuses_are_refused(text):
    with pytest.raises(BadRule):
        statuses(text)


def test_default_response_rules_are_unchanged():
    rules = Rules.parse()
    for status in range(100, 600):
        assert rules.verdict(status, b"") == (retry.verdict(status, None), "")


def test_rules_of_a_queue_decide():
    rules = Rules.parse("200-299,404", "400,500-599")
    by_status = {status: rules.verdict(status, b"")[0] for status in (204, 404, 400, 503, 429, 410, 401, 301)}
    assert {status for status, verdict in by_status.items() if verdict is Verdict.SUCCEEDED} == {204, 404}
    assert {status for status, verdict in by_status.items() if verdict is Verdict.FAILED} == {429, 410}
    with pytest.raises(BadRule, match="404 can't both succeed and be retried"):
        Rules.parse("200,404", "404")


# RFC 6901, section 5.
DOCUMENT = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", DOCUMENT), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2), ("/e^f", 3),
        ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8),
        ("/foo/2", "nothing"), ("/foo/-", "nothing"), ("/foo/00", "nothing"), ("/foo/bar", "nothing"),
        ("/foo/0/x", "nothing"), ("/x", "nothing"),
    ],
)  # fmt: skip
def test_pointer_finds_what_the_rfc_says(text, value):
    assert Pointer.parse(text).find(DOCUMENT, "nothing") == value


@pytest.mark.parametrize("text", ["foo", "/a~", "/a~2b"])
def test_bad_pointer_is_refused(text):
    with pytest.raises(BadRule):
        Pointer.parse(text)


@pytest.mark.parametrize(
    ("rule", "body", "reason"),
    [
        ({"pointer": "/errors", "equals": None}, b'{"data": 1}', ""),
        ({"pointer": "/errors", "equals": None}, b'{"errors": null}', ""),
        (
            {"pointer": "/errors", "equals": None},
            b'{"errors": []}',
            "/errors of the response is [], not null",
        ),
        (
            {"pointer": "/errors"},
            b'{"errors": [{"m": "no"}]}',
            '/errors of the response is [{"m":"no"}], not null',
        ),
        ({"pointer": "/ok", "equals": True}, b'{"ok": true}', ""),
        ({"pointer": "/ok", "equals": True}, b'{"ok": 1}', "/ok of the response is 1, not true"),
        ({"pointer": "/ok", "equals": True}, b'{"OK": true}', "the response has no /ok"),
        ({"pointer": "/n", "equals": 1}, b'{"n": 1.0}', ""),
        ({"pointer": "", "equals": "ok"}, b'"ok"', ""),
        ({"pointer": "", "equals": None}, b"<html>", "the response is not JSON"),
        ({"pointer": "", "equals": None}, b"", "the response is not JSON"),
        ({"pointer": "", "equals": None}, b"\xff", "the response is not JSON"),
        ({"pointer": "/x", "equals": None}, b"[" * 60_000, "the response is not JSON"),
        ({"pointer": "/x", "equals": None}, b'"' + b"x" * 70_000 + b'"', "the response is too long"),
        ({"pointer": "/n", "equals": 1}, b'\xef\xbb\xbf{"n": 1}', ""),
    ],
)
def test_condition_is_met_or_says_why_not(rule, body, reason):
    for otherwise, verdict in (("retry", Verdict.RETRY), ("fail", Verdict.FAILED)):
        result, why = Rules.parse(when=rule | {"otherwise": otherwise}).verdict(200, body)
        assert result == (verdict if reason else Verdict.SUCCEEDED)
        assert why.startswith(reason)
        assert bool(why) == bool(reason)
    assert Rules.parse(when=rule).verdict(503, body) == (Verdict.RETRY, "")


def test_condition_fails_by_default_and_needs_the_whole_response():
    rules = Rules.parse(when={"pointer": "/ok", "equals": 1})
    assert rules.verdict(200, b"{}")[0] == Verdict.FAILED
    assert rules.verdict(200, b'{"ok": 1}', complete=False)[0] == Verdict.FAILED


@pytest.mark.parametrize(
    "rule",
    [
        [],
        "x",
        {},
        {"pointer": 1},
        {"pointer": "x"},
        {"pointer": "", "otherwise": "no"},
        {"pointer": "", "equal": 1},
    ],
)
def test_bad_condition_is_refused(rule):
    with pytest.raises(BadRule):
        SuccessWhen.parse(rule)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_values_are_the_same_exactly_when_their_json_is(value, other):
    assert same_json(value, read_json(json.dumps(value).encode()))
    if json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True):
        assert same_json(value, other)
    assert same_json(value, other) == same_json(other, value)


@given(st.lists(st.text()), JSON)
def test_pointer_leads_to_any_member(path, value):
    document = value
    for name in reversed(path):
        document = {name: document}
    text = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path)
    assert Pointer.parse(text).find(document) == value
