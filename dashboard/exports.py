"""Lists as files: streamed, complete or visibly cut, with cells that no spreadsheet executes."""

import csv as csv_module
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest, StreamingHttpResponse

from scheduling.core import exact_json
from scheduling.core.cells import cell

ROWS_AT_ONCE = 500


class _Echo:
    def write(self, line: str) -> str:
        return line


def csv(
    name: str, heads: Sequence[str], rows: Iterable[Sequence[Any]], *, cut: str = ""
) -> StreamingHttpResponse:
    """Export as CSV with a header. cut: what the last line says if the file is incomplete."""
    return attachment(_csv_lines(heads, rows, cut), f"{name}.csv", "text/csv; charset=utf-8")


def _csv_lines(heads: Sequence[str], rows: Iterable[Sequence[Any]], cut: str) -> Iterator[str]:
    writer = csv_module.writer(_Echo())
    yield writer.writerow(heads)
    block = []
    try:
        for row in rows:
            block.append(writer.writerow([cell(value) for value in row]))
            if len(block) == ROWS_AT_ONCE:
                yield "".join(block)
                block = []
    except Exception:
        # The status line has already been sent, so the file itself has to say that it is incomplete.
        yield "".join(block) + "# CUT: the export broke here\r\n"
        raise
    yield "".join(block)
    if cut:
        yield f"# CUT: {cut}\r\n"


def ndjson(
    name: str, heads: Sequence[str], rows: Iterable[Sequence[Any]], *, cut: str = ""
) -> StreamingHttpResponse:
    """Export as one line of JSON for each row. IDs are text, since JavaScript rounds long numbers.

    cut: as for `csv`.
    """
    return attachment(_json_lines(heads, rows, cut), f"{name}.ndjson", "application/x-ndjson")


def _json_lines(heads: Sequence[str], rows: Iterable[Sequence[Any]], cut: str) -> Iterator[str]:
    block = []
    names = [json.dumps(head) for head in heads]
    try:
        for row in rows:
            members = [f"{name}: {_json_value(value)}" for name, value in zip(names, row, strict=True)]
            block.append(f"{{{', '.join(members)}}}\n")
            if len(block) == ROWS_AT_ONCE:
                yield "".join(block)
                block = []
    except Exception:
        yield "".join(block) + _cut_line("the export broke here")
        raise
    yield "".join(block)
    if cut:
        yield _cut_line(cut)


def _json_value(value: Any) -> str:
    # Of what travels with an ID, numbers stay as they are spelled.
    is_data = isinstance(value, exact_json.Number | Mapping | list)
    return exact_json.write(value) if is_data else json.dumps(value, default=str)


def _cut_line(sentence: str) -> str:
    return json.dumps({"cut": sentence}) + "\n"


def attachment(content: Iterator[str] | Iterator[bytes], name: str, kind: str) -> StreamingHttpResponse:
    """Return a file to be saved, as it is made."""
    response = StreamingHttpResponse(content, content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def named(
    form: str, name: str, heads: Sequence[str], rows: Iterable[Sequence[Any]], *, cut: str = ""
) -> StreamingHttpResponse:
    """Return the export in the format that the address names. Raises BadRequest for an unknown format."""
    makers = {"csv": csv, "ndjson": ndjson}
    if form not in makers:
        raise BadRequest(f"format: {form!r} is not one of {', '.join(makers)}.")
    return makers[form](name, heads, rows, cut=cut)


def wanted_list(request: HttpRequest, *lists: str) -> str:
    """Return which `list` of a page the address asks for: the first if it names none.

    Raises BadRequest for an unknown list.
    """
    name = request.GET.get("list", lists[0])
    if name not in lists:
        raise BadRequest(f"list: {name[:40]!r} is not one of {', '.join(lists)}.")
    return name
