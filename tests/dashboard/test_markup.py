"""Markup that is built in Python: plain text can't enter it by mistake."""

import ast
from pathlib import Path

import pytest
from django.template import Context, Template
from django.utils.html import format_html

from dashboard.markup import Markup, join, markup
from settings.place import BASE_DIR

HOSTILE = "<script>alert('&\")</script>"


def test_markup_escapes_every_value_that_is_not_markup():
    assert markup("<b>%s</b>", HOSTILE) == "<b>&lt;script&gt;alert(&#x27;&amp;&quot;)&lt;/script&gt;</b>"
    assert markup("<p>%s%s</p>", markup("<b>%s</b>", "a & b"), 12) == "<p><b>a &amp; b</b>12</p>"
    assert join([markup("%s", "<"), Markup("<br>")]) == "&lt;<br>"


def test_markup_escapes_what_an_f_string_makes_of_markup():
    assert markup("%s", f"{Markup('<b>')}") == "&lt;b&gt;"


def test_markup_stays_as_it_is_in_templates_and_format_html():
    link = markup('<a href="%s">%s</a>', "?a=1&b=2", "a < b")
    assert Template("{{ link }}").render(Context({"link": link})) == link
    assert format_html("{}", link) == link


def sources() -> list[Path]:
    return [path for path in sorted((BASE_DIR / "dashboard").rglob("*.py")) if path.name != "markup.py"]


def is_literal(node: ast.AST, tree: ast.AST) -> bool:
    """A text of the code itself: written in place, in a local variable, or in a constant."""
    if isinstance(node, ast.JoinedStr):
        fields = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        return all(isinstance(field, ast.Name) and field.id.isupper() for field in fields)
    if isinstance(node, ast.Subscript):
        return ast.unparse(node.value).isupper()
    if isinstance(node, ast.Name):
        assigned = [
            each.value
            for each in ast.walk(tree)
            if isinstance(each, ast.Assign) and node.id in map(ast.unparse, each.targets)
        ]
        return bool(assigned) and all(is_literal(value, tree) for value in assigned)
    return isinstance(node, ast.Constant)


@pytest.mark.parametrize("source", sources(), ids=lambda path: str(path.relative_to(BASE_DIR)))
def test_markup_is_made_of_literals_only(source):
    """A template that came from elsewhere, or text that is called Markup, would bring in what somebody wrote."""
    tree = ast.parse(source.read_text())
    for call in ast.walk(tree):
        name = getattr(call.func, "id", "") if isinstance(call, ast.Call) else ""
        assert name != "mark_safe", f"{source}:{call.lineno}: mark_safe"
        if name in ("markup", "Markup"):
            assert is_literal(call.args[0], tree), f"{source}:{call.lineno}: {ast.unparse(call.args[0])}"
