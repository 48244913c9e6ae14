"""The counts of a queue by day or by hour: a chart for each of them, and the same as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils import timezone

from dashboard import addresses
from dashboard.drawing import svg
from dashboard.drawing.charts import Amount
from dashboard.formatting import plural
from dashboard.markup import Markup
from dashboard.tables.columns import CARDS, Listed, counted, text
from scheduling.reports.trends import Counts

# The name of a count, and the class of its columns, each with a pattern of its own.
KINDS = (("requests", "requests"), ("failed", "failed"), ("late", "late"))
# How many hours, and how many days, lie between two marks of the axis.
EVERY = {"hour": 4, "day": 2}
FORMS = {"hour": "%H:%M", "day": "%a %-d"}


class TrendTable(Listed):
    """Counts by day or by hour, the latest first; a row is a trends.Counts."""

    begins_at = text("From", shown="name")
    requests = counted("Requests made", kind="requests", short="requests made")
    failed = counted("Failed", kind="failed", mark="bad")
    late = counted("Late", kind="late", mark="notice")

    class Meta(Listed.Meta):
        attrs = CARDS

    def __init__(self, *args: Any, queue: str, unit: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue, self.unit = queue, unit

    def drill_down(self, record: Counts, kind: str) -> str:
        if kind == "requests":
            # There is no list of requests; a day's page has their number by quarter-hour.
            day = timezone.localtime(record.begins_at).date().isoformat()
            return f"{addresses.with_query(reverse('history', args=[day]), queue=self.queue)}#windows-name"
        listed = {"late": "moved_late"}.get(kind, kind)
        return addresses.drill_down_between(self.queue, record.begins_at, record.ends_at, listed)

    def name_of(self, record: Counts) -> str:
        """Return the span's beginning in words."""
        return (
            f"{timezone.localtime(record.begins_at):{'%a %-d %b' if self.unit == 'day' else '%-d %b %H:%M'}}"
        )

    def render_begins_at(self, record: Counts) -> str:
        return self.name_of(record)


@dataclass(frozen=True)
class TrendPanel:
    """unit: day or hour. spans: in the order of time."""

    queue: str
    unit: str
    spans: Sequence[Counts]

    @property
    def period(self) -> str:
        """Return how long all of them are together: 7 days."""
        return plural(len(self.spans), self.unit)

    @property
    def charts(self) -> list[tuple[str, int, Markup]]:
        """Return (name, sum, drawing) of each count."""
        return [
            (name, sum(getattr(span, name) for span in self.spans), self._chart(name, css))
            for name, css in KINDS
        ]

    def _chart(self, name: str, css: str) -> Markup:
        amounts = [
            Amount(
                f"{timezone.localtime(span.begins_at):{FORMS[self.unit]}}",
                self.table.name_of(span),
                getattr(span, name),
                self.table.drill_down(span, name),
            )
            for span in self.spans
        ]
        title = f"{name.capitalize()} by {self.unit}, the last {self.period}"
        prefix = f"{self.unit}-{name}"
        return svg.amounts(amounts, kind=css, name=title, prefix=prefix, every=EVERY[self.unit])

    @property
    def table(self) -> TrendTable:
        """Return the same numbers, the latest first."""
        return TrendTable(self.spans[::-1], queue=self.queue, unit=self.unit)
