"""What may have gone out twice around a failover to a standby that was behind."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from scheduling import models
from scheduling.models import Status
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db


def listed(capsys, *, lost_from: float, promoted: float) -> dict[int, str]:
    times = (MINUTE + timedelta(seconds=seconds) for seconds in (lost_from, promoted))
    call_command("possible_repeats", *(at.isoformat() for at in times))
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "queue,task,id,webhook_id,known"
    return {int(row.split(",")[2]): row.split(",")[4] for row in rows}


def test_ids_that_the_old_primary_may_have_sent_are_listed(capsys):
    place(make_queue(rpm=60), {MINUTE: range(1, 61)}, at=BEFORE)
    rows = list(models.Assignment.objects.order_by("pk"))
    # Up to 20 s all was passed on; the new primary begins at 27 s with what the old one had sent meanwhile.
    for number, row in enumerate(rows):
        started = number if number < 20 else number + 8
        if number < 40:
            models.Assignment.objects.filter(pk=row.pk).update(
                status=Status.SUCCEEDED, attempts=1, started_after_ms=started * 1_000
            )
    result = listed(capsys, lost_from=20, promoted=27)
    assert sorted(result) == list(range(21, 61))
    assert result[21] == "sent after the promotion: may have been sent before"
    assert result[60] == "not sent yet: may go out a second time"


def test_times_that_lie_the_wrong_way_round_are_refused():
    with pytest.raises(CommandError, match="before the second"):
        call_command("possible_repeats", "2026-11-29T22:07:00", "2026-11-29T22:06:00")
