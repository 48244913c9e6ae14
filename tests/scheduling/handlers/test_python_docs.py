"""The example of docs/python-handler.md, run unchanged."""

import asyncio
import re
import sys
from datetime import UTC, datetime

from scheduling.core.retry import Verdict
from scheduling.handlers import factory
from scheduling.handlers.base import Request
from scheduling.models import Queue
from settings.place import BASE_DIR

PAGE = (BASE_DIR / "docs" / "python-handler.md").read_text()


def test_example_of_the_docs_succeeds_retries_and_fails(tmp_path, monkeypatch, settings, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "crm_sync.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    settings.PYTHON_HANDLERS = ["crm_sync.send"]
    at = datetime(2026, 11, 25, 12, 17, tzinfo=UTC)

    async def run():
        handler = factory.make_handler(Queue(name="crm", handler="python", python_callable="crm_sync.send"))
        outcomes = await handler.handle(
            [Request(user, 7, "November", "crm", at, 1) for user in (1029, 1030, 1031)]
        )
        await handler.close()
        return outcomes

    outcomes = asyncio.run(run())
    sys.modules.pop("crm_sync")
    assert [outcome.verdict for outcome in outcomes] == [Verdict.SUCCEEDED, Verdict.RETRY, Verdict.FAILED]
    assert [outcome.error for outcome in outcomes] == [
        "",
        "TimeoutError: the CRM is busy",
        "the customer is blocked",
    ]
    assert capsys.readouterr().out == "renewed 1029 of November with the key msg_7_1029\n"
