"""Write docs/queue-fields.md: every field of a queue with its values and its default, from the API's own description.

Run `make map`; a test fails when the page is out of date.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/queue-fields.md"
INTRODUCTION = """# Fields of a queue

Written by `make map` from the API's description; don't edit it. A queue is created with `POST /queues/` and changed
with `PATCH /queues/NAME/`: fields that you leave out stay as they are. The queue's page on the dashboard has the same
fields. A change of `rpm` takes effect in the next quarter-hour, everything else within a minute.

```json
{"name": "crm", "rpm": 60, "handler": "webhook", "webhook_url": "https://crm.example.com/renew"}
```

A page for each handler says what it does: [record](record-handler.md), [webhook](webhooks.md),
[python](python-handler.md).
"""
# By how the name begins; what begins with none of them is the queue's own.
GROUPS = (
    ("Webhooks", ("webhook_", "success_", "retry_statuses", "keep_answers", "connect_", "read_timeout")),
    ("Access token", ("oauth_",)),
    ("Python", ("python_",)),
    ("Results", ("callback_",)),
)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.test")
    import django

    django.setup()
    from api.docs import schema_of
    from api.urls import api

    PAGE.write_text(page(schema_of(api)))


def page(document: dict[str, Any]) -> str:
    schemas = document["components"]["schemas"]
    fields = schemas["NewQueue"]["properties"]
    # The name comes first, since nothing is done without it.
    written = {name: fields[name] for name in ("name", *fields) if not fields[name].get("readOnly")}
    read = {name: facts for name, facts in fields.items() if facts.get("readOnly")}
    grouped: dict[str, dict[str, Any]] = {"The queue": {}, **{title: {} for title, _ in GROUPS}}
    for name, facts in written.items():
        title = next((title for title, begins in GROUPS if name.startswith(begins)), "The queue")
        grouped[title][name] = facts
    parts = [INTRODUCTION]
    parts += [section(title, group, schemas) for title, group in grouped.items() if group]
    parts += ["## Read only\n", *(f"- `{name}`: {facts['description']}" for name, facts in read.items()), ""]
    return "\n".join(parts)


def section(title: str, fields: dict[str, Any], schemas: dict[str, Any]) -> str:
    lines = [f"## {title}", "", "| field | values | default | meaning |", "| --- | --- | --- | --- |"]
    for name, facts in fields.items():
        default = "" if "default" not in facts else code(facts["default"])
        described = facts["description"].replace("|", "\\|")
        lines.append(f"| `{name}` | {values(facts, schemas)} | {default} | {described} |")
    return "\n".join([*lines, ""])


def values(facts: dict[str, Any], schemas: dict[str, Any]) -> str:
    """What a field may be, in words."""
    if "$ref" in facts:
        return values(schemas[facts["$ref"].rsplit("/", 1)[1]], schemas)
    if "anyOf" in facts:
        return " or ".join(values(option, schemas) for option in facts["anyOf"])
    if "enum" in facts:
        return ", ".join(code(value) for value in facts["enum"])
    kind = facts.get("type", "any")
    if kind in ("integer", "number"):
        least, most = facts.get("minimum", facts.get("exclusiveMinimum", "")), facts.get("maximum", "")
        word = "a whole number" if kind == "integer" else "a number"
        above = "above" if "exclusiveMinimum" in facts else "from"
        return f"{word} {above} {least:,} to {most:,}" if most != "" else word
    if kind == "string":
        return f"text of at most {facts['maxLength']:,} characters" if "maxLength" in facts else "text"
    if kind == "array":
        return (
            f"a list of {facts.get('minItems', 0)} to {facts['maxItems']}: {values(facts['items'], schemas)}"
        )
    return {"boolean": "true or false", "object": "an object", "null": "null"}.get(kind, kind)


def code(value: Any) -> str:
    return f"`{json.dumps(value) if not isinstance(value, str) or not value else value}`"


if __name__ == "__main__":
    main()
