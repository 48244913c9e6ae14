"""Request templates: what they accept, what they refuse and where, and that no value breaks out of its place."""

import json
from dataclasses import replace
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core.errors import BadTemplate, CannotFill
from scheduling.core.templates import (
    FORM_TYPE,
    JSON_TYPE,
    HeaderTemplate,
    RequestTemplate,
    UrlTemplate,
    Values,
    parse_body,
)

VALUES = Values(
    id=1029,
    task_id=7,
    task_name="November",
    queue="crm",
    attempt=2,
    planned_at="2026-11-25T12:17:00Z",
    idempotency_key="msg_5f2c_7_1029",
    data={
        "first_name": "Zoë",
        "empty": "",
        "null": None,
        "count": 3,
        "ok": True,
        "tags": ["a", "b"],
        "Näme 1": "x",
    },
)


def with_data(**data) -> Values:
    return replace(VALUES, data=data)


def fill_json(template: str, values: Values = VALUES):
    return json.loads(parse_body(template, JSON_TYPE).fill(values))


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ('{"user": "{{id}}"}', {"user": 1029}),
        ('{"user": " {{id}}"}', {"user": " 1029"}),
        (
            '{"to": {"name": "{{data.first_name}}"}, "n": [1, "{{data.count}}"]}',
            {"to": {"name": "Zoë"}, "n": [1, 3]},
        ),
        ('"{{data.ok}}"', True),
        ('"{{data.tags}}"', ["a", "b"]),
        ('"tags: {{data.tags}}, {{data.ok}}"', 'tags: ["a","b"], true'),
        ('"Hello {{ data.first_name }}!"', "Hello Zoë!"),
        ('"{{data.Näme 1}}"', "x"),
        ('"{{data.empty}}"', ""),
        ("\"{{data.empty|'there'}}\"", "there"),
        ('"{{data.null|\\"there\\"}}"', "there"),
        ("\"{{data.missing|''}}\"", ""),
        ("\"{{data.missing | '{{x}}' }}\"", "{{x}}"),
        ('{"{{queue}}-{{attempt}}": "{{task_name}}"}', {"crm-2": "November"}),
        (
            '["{{task_id}}", "{{planned_at}}", "{{idempotency_key}}"]',
            [7, "2026-11-25T12:17:00Z", "msg_5f2c_7_1029"],
        ),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("null", None),
    ],
)
def test_json_template_is_filled_with_types(template, filled):
    assert fill_json(template) == filled


def test_text_id_is_text_in_json():
    assert fill_json('"{{id}}"', replace(VALUES, id="0042")) == "0042"


@pytest.mark.parametrize(
    ("template", "body"),
    [
        ('{"to": "{{data.first_name}}", "n": 1, "b": true}', "to=Zo%C3%AB&n=1&b=true"),
        ('{"tag": ["a", "{{data.count}}"], "none": null}', "tag=a&tag=3"),
        ('{"{{queue}}": "a b&c=d+e"}', "crm=a+b%26c%3Dd%2Be"),
        ("{}", ""),
    ],
)
def test_form_template_is_url_encoded(template, body):
    assert parse_body(template, FORM_TYPE).fill(VALUES).decode() == body


@pytest.mark.parametrize("name", ["Customer's name", 'Size 3"', "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"])
def test_columns_may_have_quotes_and_umlauts_in_their_names(name):
    values = with_data(**{"Customer's name": "Ann", 'Size 3"': "Ann", "Gr\u00f6\u00dfe": "Ann"})
    for placeholder in (
        f"{{{{data.{name}}}}}",
        f"{{{{data.{name}|'there'}}}}",
        f"{{{{ data.{name} | 'it' }}}}",
    ):
        assert fill_json(json.dumps({"a": placeholder}), values) == {"a": "Ann"}
    missing = with_data()
    assert fill_json(json.dumps({"a": f"{{{{data.{name}|'there'}}}}"}), missing) == {"a": "there"}


def test_data_that_are_nested_too_deeply_fail_the_id():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(CannotFill, match="written as JSON"):
        parse_body('{"a": "{{data.x}}"}', JSON_TYPE).fill(with_data(x=nested))


@pytest.mark.parametrize("content_type", [JSON_TYPE, FORM_TYPE, "text/plain"])
def test_empty_template_is_no_body(content_type):
    assert parse_body("", content_type).fill(VALUES) == b""


def test_text_template_is_filled_as_it_is():
    body = parse_body('<a href="{{id}}">{{data.first_name}} }} {"a":{"b":1}}</a>', "text/xml; charset=utf-8")
    assert body.fill(VALUES).decode() == '<a href="1029">Zoë }} {"a":{"b":1}}</a>'


@pytest.mark.parametrize(
    ("url", "filled"),
    [
        ("https://hook.test", "/"),
        ("https://hook.test?a={{id}}", "/?a=1029"),
        (
            "https://hook.test/users/{{id}}/renew?name={{data.first_name}}&x=a%20b",
            "/users/1029/renew?name=Zo%C3%AB&x=a%20b",
        ),
        ("https://hook.test:8443/{{data.missing|'a/b?c#d'}}/ä", "/a%2Fb%3Fc%23d/%C3%A4"),
        ("https://hook.test/a//b/{{id}}/", "/a//b/1029/"),
        ("https://hook.test/v{{attempt}}.{{id}}", "/v2.1029"),
    ],
)
def test_url_template_is_percent_encoded(url, filled):
    assert UrlTemplate.parse(url).fill(VALUES) == filled


@pytest.mark.parametrize("value", [".", "..", ""])
@pytest.mark.parametrize("path", ["/{{data.x}}", "/a/{{data.x}}/b", "/a/{{data.x}}?q=1"])
def test_url_that_would_lead_elsewhere_is_not_filled(value, path):
    with pytest.raises(CannotFill):
        UrlTemplate.parse(f"https://hook.test{path}").fill(with_data(x=value))


def test_url_segment_is_checked_as_a_whole():
    template = UrlTemplate.parse("https://hook.test/.{{data.x}}/b")
    assert template.fill(with_data(x="well-known")) == "/.well-known/b"
    with pytest.raises(CannotFill, match=r"\.\."):
        template.fill(with_data(x="."))


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "a\x7fb"])
def test_header_with_a_line_break_is_not_filled(value):
    with pytest.raises(CannotFill, match="line break"):
        HeaderTemplate.parse("Bearer {{data.x}}").fill(with_data(x=value))
    assert HeaderTemplate.parse("Bearer {{data.x}}").fill(with_data(x="Zoë\tb")) == "Bearer Zoë\tb"


@pytest.mark.parametrize(
    ("template", "position", "words"),
    [
        ('{"a": "{{user}}"}', 7, "there is no placeholder {{user}}"),
        ('{"a": "x{{taskid}}"}', 8, "the nearest is {{task_id}}."),
        ('{"a": "x{{dta.name}}"}', 8, "the nearest is {{data.name}}."),
        ('{"a": "{{data.}}"}', 7, "there is no placeholder"),
        ('{"a": "{{id"}', 7, "a placeholder looks like"),
        ('{"a": "{{id|there}}"}', 7, "a placeholder looks like"),
        ('{"a": "{{}}"}', 7, "a placeholder looks like"),
        ('{"a": "\\u00e9{{nope}}"}', 7, "there is no placeholder {{nope}}"),
        ('{"a": {{id}}}', 7, "is written in quotes"),
        ('{"a": 1 2}', 8, "not JSON"),
        ('{"a": NaN}', 0, "NaN is not JSON"),
        ('{"a": 1e400}', 0, "can't be written as JSON"),
        ('{"a": "\\ud800 {{id}}"}', 0, "half of a character"),
        ('{"a": "{{data.x|"there"}}"}', 17, "a default is written in single quotes"),
        ('{"a": "{{data.}}"}', 7, "the nearest is {{data.name}}"),
        ('{"a": 1, "a": 2}', 0, "'a' twice"),
        (" ", 1, "not JSON"),
        ("[" * 100_000, 0, ""),
    ],
)
def test_bad_json_template_is_refused_with_its_position(template, position, words):
    with pytest.raises(BadTemplate) as caught:
        parse_body(template, JSON_TYPE)
    assert caught.value.facts["position"] == position
    assert words in str(caught.value)


@pytest.mark.parametrize("template", ['{"a": [{"b": 1}]}', '{"a": {"b": 1}}', "[1]", '"a"'])
def test_form_template_is_a_flat_object(template):
    with pytest.raises(BadTemplate):
        parse_body(template, FORM_TYPE)


@pytest.mark.parametrize(
    ("url", "position"),
    [
        ("https://{{data.host}}/", 8),
        ("https://hook{{id}}.test/", 12),
        ("https://hook.test:{{id}}/", 18),
        ("https://hook.test{{data.path}}", 17),
        ("{{data.scheme}}://hook.test/", 0),
        ("https://{{data.a|'/'}}", 8),
        ("ftp://hook.test/{{id}}", 0),
        ("https://hook.test/{{nope}}", 18),
        ("https://hook.test/a#{{id}}", 19),
        ("https://hook.test/../{{id}}", 17),
    ],
)
def test_url_template_has_placeholders_in_path_and_query_only(url, position):
    with pytest.raises(BadTemplate) as caught:
        UrlTemplate.parse(url)
    assert caught.value.facts["position"] == position


def test_missing_value_without_a_default_is_named():
    for data in ({}, {"x": None}):
        with pytest.raises(CannotFill, match=r"data\.x is missing"):
            parse_body('"{{data.x}}"', JSON_TYPE).fill(with_data(**data))


def test_request_template_knows_the_columns_that_it_needs():
    template = RequestTemplate.parse(
        url="https://hook.test/{{data.ref}}?q={{data.q|''}}",
        headers={"X-Name": "{{data.name}}", "X-Id": "{{id}}"},
        body='{"{{data.key}}": ["{{data.ref}}", "{{data.amount}}", "{{data.note|\'none\'}}"]}',
        content_type=JSON_TYPE,
    )
    assert template.required_columns == ["ref", "name", "key", "amount"]


@pytest.mark.parametrize("field", ["webhook_url", "webhook_headers", "webhook_body"])
def test_request_template_names_the_field_that_is_bad(field):
    fields = {"webhook_url": "https://hook.test/", "webhook_headers": "a", "webhook_body": '"a"'}
    fields[field] = (
        fields[field].replace("a", "{{nope}}") if field != "webhook_url" else "https://hook.test/{{nope}}"
    )
    with pytest.raises(BadTemplate) as caught:
        RequestTemplate.parse(
            url=fields["webhook_url"],
            headers={"X-A": fields["webhook_headers"]},
            body=fields["webhook_body"],
            content_type=JSON_TYPE,
        )
    assert caught.value.facts["field"] == field


# --- Nothing breaks out ---

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NASTY = st.one_of(
    TEXT,
    st.sampled_from(
        ['"', '","x":"', "\\", "}}", "{{id}}", "../..", "%2e%2e", "&a=b", "#", "?", "\r\n", "\0"]
    ),
)
JSON_VALUE = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), NASTY),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)


def as_text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@given(JSON_VALUE, NASTY)
def test_json_template_confines_every_value(value, text):
    template = '{"first": "{{data.v}}", "in": "<{{data.v}}>", "k {{data.t}}": [1, {"deep": "{{data.t}}"}], "z": true}'
    filled = fill_json(template, with_data(v=value, t=text))
    assert filled == {
        "first": value,
        "in": f"<{as_text(value)}>",
        f"k {text}": [1, {"deep": text}],
        "z": True,
    }


@given(NASTY, NASTY)
def test_form_template_confines_every_value(name, value):
    body = parse_body('{"a": "1", "n{{data.n}}": "{{data.v}}", "z": "2"}', FORM_TYPE)
    filled = body.fill(with_data(n=name, v=value)).decode("ascii")
    assert parse_qsl(filled, keep_blank_values=True) == [("a", "1"), (f"n{name}", value), ("z", "2")]


@given(JSON_VALUE, NASTY)
def test_url_template_confines_every_value(segment, value):
    template = UrlTemplate.parse("https://hook.test/a/{{data.s}}/b?x=1&v={{data.v}}&y=2")
    try:
        target = template.fill(with_data(s=segment, v=value))
    except CannotFill:
        assert as_text(segment) in ("", ".", "..")
        return
    assert target.isascii()
    assert target.isprintable()
    parts = urlsplit(f"https://hook.test{target}")
    assert [unquote(item) for item in parts.path.split("/")] == ["", "a", as_text(segment), "b"]
    assert parse_qsl(parts.query, keep_blank_values=True) == [("x", "1"), ("v", value), ("y", "2")]
    assert parts.fragment == ""


@given(NASTY)
def test_header_template_confines_every_value(value):
    try:
        filled = HeaderTemplate.parse("a {{data.v}} b").fill(with_data(v=value))
    except CannotFill:
        assert any(ord(item) < 32 or ord(item) == 127 for item in value)
        return
    assert filled == f"a {value} b"
    assert not set(filled) & {"\r", "\n", "\0"}


def position(parse, text: str) -> int:
    """Where a template is refused; 0 if it isn't."""
    try:
        parse(text)
    except BadTemplate as error:
        return error.facts["position"]
    return 0


@given(st.text(st.sampled_from("{}|'\"[]:, \\ax0.") | st.characters(exclude_categories=["Cs"]), max_size=40))
def test_parsing_ends_with_a_template_or_a_position(text):
    for content_type in (JSON_TYPE, FORM_TYPE, "text/plain"):
        assert 0 <= position(lambda body, kind=content_type: parse_body(body, kind), text) <= len(text)
    url = f"https://hook.test/{text}"
    assert 0 <= position(UrlTemplate.parse, url) <= len(url)


def test_lone_surrogate_in_a_value_fails_the_id():
    for content_type in (JSON_TYPE, FORM_TYPE, "text/plain"):
        with pytest.raises(CannotFill):
            parse_body('{"a": "{{data.x}}"}', content_type).fill(with_data(x="\ud800"))
