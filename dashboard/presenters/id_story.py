"""The history of an ID in sentences."""

from datetime import datetime

from django.utils import timezone

from dashboard.formatting import plural
from scheduling.models import Status
from scheduling.reports import id_history, stories


def attempts_text(place: id_history.Place) -> str:
    """Return how many requests were made, as the end of a sentence."""
    is_waiting = place.status is Status.WAITING
    if place.attempts > 1 or (place.attempts and is_waiting):
        return f", after {plural(place.attempts, 'attempt')}."
    return "."


def sentence(event: stories.Event) -> str:
    """Describe an event. The time is shown before it."""
    details = event.details
    if event.kind == "placed":
        why = f": {details['rule']}" if details["rule"] else ""
        return f"got a place in the minute {_minute(details['minute'])}{why}."
    if event.kind == "moved":
        from_minute, to_minute = _minute(details["from_minute"]), _minute(details["to_minute"])
        return f"moved from {from_minute} to {to_minute}, since {details['reason']}."
    duration = f" after {details['duration_ms']:,} ms" if details["duration_ms"] is not None else ""
    if details.get("succeeded"):
        return f"request {details['number']} was sent and succeeded."
    if details["unknown"]:
        return f"request {details['number']} was started; its process died before the answer was stored."
    if details["http_status"]:
        answered = f"answered {details['http_status']}"
        # The error of a redirect names its address; that of another status adds nothing.
        more = details["error"] if details["error"] not in ("", None, answered) else details["answer"]
        return f"request {details['number']} was {answered}{duration}. {more}".strip()
    return f"request {details['number']} failed{duration}: {details['error'] or details['answer'] or 'no answer'}."


def _minute(at: datetime) -> str:
    return time_text(at, "%H:%M")


def time_text(at: datetime, form: str) -> str:
    """Return a time in the operator's zone, which the page names."""
    local = timezone.localtime(at)
    return f"{local:{form}}" if local.date() == timezone.localdate() else f"{local:%-d %b} {local:{form}}"
