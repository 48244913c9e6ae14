"""What the hosts have to do, and what became of it: `python -m tests.hosts.plan place|unsent|named`."""

import json
import sys
from datetime import timedelta

import django

django.setup()

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


def main(act: str, *arguments: str) -> None:
    if act == "place":
        place_ids(arguments[0], int(arguments[1]), int(arguments[2]))
    elif act == "unsent":
        print(models.Assignment.objects.exclude(status=Status.SUCCEEDED).count())
    else:
        # Possible repeats, and requests that failed and were made again.
        named = models.Attempt.objects.values_list("user_id", flat=True)
        print(json.dumps(sorted(set(named))))


if __name__ == "__main__":
    main(*sys.argv[1:])
