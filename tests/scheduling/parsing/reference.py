"""Plain parsers of every format: slow, all in memory, and short enough to be checked by reading them.

Each returns what the list holds: for every entry the ID, or the token as a string if it is not one. They share
nothing with the code under test but the characters that are trimmed.
"""

import csv
import email
import email.policy
import io
import json
import re
import zipfile
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from scheduling.core.id_tokens import TRIMMED

LARGEST = 2**63 - 1


def entry(token):
    """An ID as a number, any other token as it is."""
    core = token.strip(TRIMMED)
    if re.fullmatch("[0-9]+", core) and 1 <= int(core) <= LARGEST:
        return int(core)
    return token


def text(body):
    return [entry(token) for token in re.split("[,; \t\r\n]", body) if token.strip(TRIMMED)]


def table(body, delimiter, column):
    rows = list(csv.reader(io.StringIO(body.replace("\r\n", "\n").replace("\r", "\n")), delimiter=delimiter))
    rows = [row for row in rows if "".join(row).strip(TRIMMED)]
    at = rows[0].index(column)
    result = []
    for row in rows[1:]:
        too_wide = "".join(row[len(rows[0]) :]).strip(TRIMMED)
        cell = row[at] if at < len(row) else ""
        result.append(" | ".join(row[at:]) if too_wide else entry(cell))
    return result


def json_value(value):
    """An item of a JSON list, or the value of a field."""
    if isinstance(value, str):
        return entry(value)
    return value if type(value) is int and 1 <= value <= LARGEST else repr(value)


def json_body(body):
    payload = json.loads(body)["payload"]
    if isinstance(payload, str):
        return text(payload)
    return [json_value(item) for item in payload]


def ndjson(body):
    result = []
    for line in re.split("\r\n|\r|\n", body):
        if not line.strip(TRIMMED):
            continue
        try:
            value = json.loads(line)
        except ValueError:
            result.append(line)
            continue
        if isinstance(value, dict):
            names = [name for name in value if name in ("id", "user_id")]
            value = value[names[0]] if names else line
        result.append(json_value(value))
    return result


def urlencoded(body):
    return text(dict(parse_qsl(body, keep_blank_values=True))["payload"])


def multipart(body, content_type):
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
    return text(parts["payload"].get_payload(decode=True).decode())


def workbook(content):
    """The column A of the first sheet, below its header. Blank rows are skipped."""
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        texts = ["".join(node.itertext()) for node in elements(parts.read("xl/sharedStrings.xml"), "si")]
        rows = elements(parts.read("xl/worksheets/sheet1.xml"), "row")
    result = []
    for row in rows[1:]:
        cells = {re.match("[A-Z]+", cell.get("r"))[0]: sheet_entry(cell, texts) for cell in row}
        if any(isinstance(item, int) or item.strip(TRIMMED) for item in cells.values()):
            result.append(cells.get("A", ""))
    return result


def elements(xml, name):
    return [node for node in ElementTree.fromstring(xml).iter() if node.tag.rpartition("}")[2] == name]


def sheet_entry(cell, texts):
    output = "".join(cell.itertext())
    kind = cell.get("t", "n")
    if kind in ("s", "inlineStr", "str"):
        return entry(texts[int(output)] if kind == "s" else output)
    return int(output) if kind == "n" and re.fullmatch("[1-9][0-9]{,14}", output) else output
