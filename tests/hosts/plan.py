"""What the hosts have to do, and what became of it: `python -m tests.hosts.plan place|unsent|named|outcomes`."""

import json
import sys
from datetime import timedelta
from urllib.parse import urlsplit

import django

django.setup()

from django.test import Client  # noqa: E402

from operators import tokens  # noqa: E402
from operators.actor import Actor  # noqa: E402
from scheduling import models, store  # noqa: E402
from scheduling.core import clock  # noqa: E402
from scheduling.jobqueue import minute_jobs  # noqa: E402
from scheduling.models import Status  # noqa: E402
from tests.scheduling.placed import make_queue, place  # noqa: E402


def place_ids(url: str, rpm: int, minutes: int) -> None:
    """Give each of the next minutes as many IDs as the queue sends; print when the first begins."""
    queue = make_queue("hosts", rpm=rpm, handler="webhook", webhook_url=url, max_attempts=20)
    at = store.now()
    # Two minutes on: the hosts have to be up by then.
    first = clock.minute_start(at) + 2 * clock.MINUTE
    begins = [first + number * clock.MINUTE for number in range(minutes)]
    place(
        queue,
        {begin: range(number * rpm + 1, (number + 1) * rpm + 1) for number, begin in enumerate(begins)},
        at=at,
    )
    # And what late ones may move to.
    minute_jobs.arm([*begins, *(begins[-1] + timedelta(minutes=more) for more in range(1, 4))], at=at)
    print(first.timestamp())


def read_outcomes(cursor: str) -> dict[str, object]:
    """Read `/outcomes/` from a cursor to its end, as an integration does: the IDs, and the cursor behind them."""
    token = tokens.issue(name="outcomes", scope="read", by=Actor.command_line(), at=store.now())[1]
    client = Client(headers={"authorization": f"Bearer {token}", "host": "localhost"})
    path, ids = f"/outcomes/?limit=1000{f'&after={cursor}' if cursor else ''}", list[int]()
    while True:
        answer = client.get(path, secure=True)
        if answer.status_code != 200:
            raise RuntimeError(answer.content.decode())
        rows = answer.json()
        if not rows:
            return {"ids": ids, "cursor": cursor}
        ids += [row["user_id"] for row in rows]
        cursor = rows[-1]["cursor"]
        address = urlsplit(answer.headers["Link"].partition(">")[0].lstrip("<"))
        path = f"{address.path}?{address.query}"


def main(act: str, *arguments: str) -> None:
    if act == "place":
        place_ids(arguments[0], int(arguments[1]), int(arguments[2]))
    elif act == "unsent":
        print(models.Assignment.objects.exclude(status=Status.SUCCEEDED).count())
    elif act == "outcomes":
        print(json.dumps(read_outcomes(*arguments)))
    else:
        # Possible repeats, and requests that failed and were made again.
        named = models.Attempt.objects.values_list("user_id", flat=True)
        print(json.dumps(sorted(set(named))))


if __name__ == "__main__":
    main(*sys.argv[1:])
