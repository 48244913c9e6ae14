"""A reader of the outcomes, who asks now and then: what it gets must be all there is, in one order."""

from collections.abc import Iterator

from scheduling import models
from scheduling.models import Status
from scheduling.reports import outcomes

# Uneven, so that pages end within entries.
PAGE_ROWS = 7


class Reader:
    """Reads on from where it has come."""

    def __init__(self) -> None:
        self.rows: list[outcomes.Outcome] = []
        self._position = outcomes.BEGINNING

    def read(self) -> None:
        """Read up to the end."""
        while True:
            page = outcomes.read(self._position, limit=PAGE_ROWS)
            self.rows += page.rows
            self._position = page.end
            if page.is_last:
                return


def violations(reader: Reader) -> Iterator[str]:
    """Yield what the reader, which has come to the end, has missed, and where its cursors aren't in order."""
    full = Reader()
    full.read()
    for name, feed in (("now", full), ("meanwhile", reader)):
        positions = [row.position for row in feed.rows]
        if positions != sorted(positions):
            yield f"outcomes: the cursors that were read {name} are not in order"
        yield from not_listed(feed)
    # A range may name a row that was passed over then; it also has an entry of its own.
    if skipped := _shown(full) - _shown(reader):
        yield f"outcomes: {sorted(skipped)[:3]} were skipped"
    if vanished := _shown(reader) - _shown(full):
        yield f"outcomes: {sorted(vanished)[:3]} have vanished"


def not_listed(reader: Reader) -> Iterator[str]:
    """Yield outcomes that the reader did not get."""
    columns = ("pk", "user_id", "status", "attempts")
    ended = models.Assignment.objects.filter(status__in=Status.ended()).values_list(*columns)
    missing = {*ended, *models.FormerOutcome.objects.values_list(*columns)} - _shown(reader)
    if missing:
        yield f"outcomes: {sorted(missing)[:3]} are not listed"


def _shown(reader: Reader) -> set[tuple[int, int, int, int]]:
    return {(row.position.key, row.user_id, row.status.value, row.attempts) for row in reader.rows}
