"""How pages write numbers, times and plurals. The template tags register what is defined here."""

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from django.utils import timezone

from dashboard.markup import Markup, markup
from scheduling.core import clock as clocks

# --- Numbers ---


def number(value: int | None) -> str:
    """Format a count: 12480 as 12,480. IDs are text and never have separators."""
    return "" if value is None else f"{value:,}"


def plural(count: int | None, word: str) -> str:
    """Return a count with its noun: `1 ID`, `2 IDs`; irregular plurals as `reply/replies`."""
    singular, _, irregular = word.partition("/")
    return f"{count or 0:,} {singular if count == 1 else irregular or singular + 's'}"


def percent(part: int, whole: int) -> str:
    """Return part of whole for a drawing: 0 to 100, with two decimals."""
    return f"{100 * part / whole:.2f}" if whole else "0"


def compact(count: int) -> str:
    """Format a number to fit above a narrow bar: 120, 1,250, 12.5k, 1.2M."""
    return f"{count:,}" if count < 10_000 else _in_units(count, below=1_000, whole_from=100)


def shortest(count: int) -> str:
    """Format a number with at most three digits, to fit above a bar with a sign before it: 999, 4.0k, 13k,
    1.2M.
    """
    return f"{count}" if count < 1_000 else _in_units(count, below=999.5, whole_from=9.95)


def _in_units(count: int, *, below: float, whole_from: float) -> str:
    """Format in the first unit with fewer than `below`, without a decimal from `whole_from` on."""
    for divisor, unit in ((1_000, "k"), (1_000_000, "M")):
        if count < divisor * below:
            value = count / divisor
            return f"{value:.0f}{unit}" if value >= whole_from else f"{value:.1f}{unit}"
    return f"{count / 1e9:.1f}G"


def size(count: int | None) -> str:
    """Format a number of bytes: 312 B, 312 kB, 58.2 MB."""
    value = float(count or 0)
    if value < 1000:
        return f"{value:.0f} B"
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 1000:
            return f"{value:.1f} {unit}" if value < 100 and unit != "kB" else f"{value:.0f} {unit}"
    return f"{value / 1000:.1f} TB"


def text(user_id: int) -> str:
    """Return an ID as text: without separators, and safe from rounding by scripts."""
    return str(user_id)


# --- Spans of time ---


def duration(seconds: float | None) -> str:
    """Format a duration as people say it: 0.4 s, 38 s, 7 min, 3.2 h, 3.9 days."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def whole_minutes(span: timedelta) -> str:
    """Format a duration of whole minutes: 1 minute, 15 minutes, 6 hours, 7 days."""
    minutes = span // timedelta(minutes=1)
    if minutes % 60:
        return plural(minutes, "minute")
    return plural(minutes // 60, "hour") if minutes % 1440 else plural(minutes // 1440, "day")


def countdown(until: datetime, at: datetime) -> str:
    """Format a countdown, 7:22 or 1:07:22, that page.js and board.js continue; empty if it is longer than a
    day.
    """
    remaining = max(0, int((until - at).total_seconds()))
    minutes, seconds = divmod(remaining, 60)
    if remaining > 86_400:
        return ""
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    return f"{minutes}:{seconds:02d}"


def lag(value: float | None) -> str:
    """Say how late a minute started: "on time", or by how much it was late."""
    if value is None:
        return ""
    if value <= 0:
        return "on time"
    if value < 1:
        return f"{value * 1000:.{1 if value < 0.01 else 0}f} ms after its time"
    return f"{duration(value)} after its time"


# --- Times in the operator's zone ---


@lru_cache(maxsize=8192)
def time_element(at: datetime, form: str, zone: tzinfo) -> Markup:
    """Draw a time in a zone, exact on hover. Cached, since a board draws the same times again each second."""
    local, utc = at.astimezone(zone), at.astimezone(UTC)
    # A page has a hundred of them, so empty parts are left out.
    fraction = f".{at.microsecond // 1000:03d}" if at.microsecond else ""
    beside = "" if str(zone) == "UTC" else f" ({utc:%H:%M:%S} UTC)"
    return markup(
        '<time datetime="%s" title="%s">%s</time>',
        f"{utc:%Y-%m-%dT%H:%M:%S}{fraction}Z",
        f"{local:%Y-%m-%d %H:%M:%S}{fraction} {zone}{beside}",
        local.strftime(form),
    )


def _time(at: datetime | None, form: str) -> str:
    return "" if at is None else time_element(at, form, timezone.get_current_timezone())


def clock(at: datetime | None) -> str:
    """14:22 in the operator's zone, exact on hover."""
    return _time(at, "%H:%M")


def clock_seconds(at: datetime | None) -> str:
    """14:22:38 in the operator's zone."""
    return _time(at, "%H:%M:%S")


def clock_milliseconds(at: datetime | None) -> str:
    """14:22:38.104 in the operator's zone, as plain text."""
    return "" if at is None else f"{timezone.localtime(at):%H:%M:%S}.{at.microsecond // 1000:03d}"


def moment(at: datetime | None) -> str:
    """Draw the time, with the day if it isn't today."""
    return "" if at is None else _time(at, _moment_format(at))


def _moment_format(at: datetime) -> str:
    return "%H:%M" if timezone.localtime(at).date() == timezone.localdate() else "%-d %b %Y, %H:%M"


def minute_text(at: datetime) -> str:
    """Return a whole minute as `moment` shows it, as plain text for long lists."""
    return f"{timezone.localtime(at):{_moment_format(at)}}"


def hour_mark(at: datetime) -> str:
    """Return 14:17, as plain text for a drawing."""
    return f"{timezone.localtime(at):%H:%M}"


def day(at: Any) -> str:
    """Return Wednesday 25 November 2026."""
    local = timezone.localtime(at) if isinstance(at, datetime) else at
    return f"{local:%A} {local.day} {local:%B %Y}"


def window_label(starts_at: datetime) -> str:
    """Return the time in which a window runs: 14:15 to 14:30."""
    runs_at = timezone.localtime(clocks.runs_at(starts_at))
    return f"{runs_at:%H:%M} to {runs_at + clocks.QUARTER:%H:%M}"


def window_moment(starts_at: datetime) -> str:
    """Return the time in which a window runs, with the day if it isn't today: 1 Dec 2026, 14:15 to 14:30."""
    runs_at = clocks.runs_at(starts_at)
    return f"{minute_text(runs_at)} to {timezone.localtime(runs_at + clocks.QUARTER):%H:%M}"


# What follows the end of a plan that may not be kept: under a brake, say.
OR_LATER = " or later"


def why_no_end(*, on_hold: bool, waits_for_canary: bool, paused: bool) -> str:
    """Return what keeps a list from the end of its plan; empty if nothing does."""
    if on_hold:
        return "on hold"
    if waits_for_canary:
        return "waits for its canary"
    return "paused" if paused else ""


def local_input(at: datetime | None) -> str:
    """Return the value of a date and time field, in the operator's zone."""
    return "" if at is None else f"{timezone.localtime(at):%Y-%m-%dT%H:%M}"


def epoch_ms(at: datetime | None) -> str:
    """Return milliseconds since 1970, for the scripts that update clocks and ages."""
    return "" if at is None else str(int(at.timestamp() * 1000))


# --- Words ---


def as_words(word: str) -> str:
    """Return a name such as `cancelled_matching` as words."""
    return word.replace("_", " ")


def lower_first(sentence: str) -> str:
    """Return a sentence that continues another one."""
    return sentence[:1].lower() + sentence[1:]
