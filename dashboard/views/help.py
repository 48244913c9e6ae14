"""Help: the terms, and the keyboard shortcuts."""

from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from dashboard.access import OperatorRequest, viewer_required
from dashboard.inputs.parameters import refuse_unknown

TERMS = (
    ("Queue", "A stream of requests with its own limit per minute, target and settings."),
    ("Task", "One list of IDs that somebody added, under a name."),
    ("Limit (rpm)", "How many requests a queue makes per minute. The dashed line on the charts."),
    (
        "Quarter-hour (window)",
        "Fifteen minutes of a queue. Lists that are added during one quarter-hour run in the next one.",
    ),
    ("Filling", "The quarter-hour that still accepts lists. It runs next."),
    ("Above the limit", "IDs in a minute beyond the queue's limit. The minute still sends them, faster."),
    ("Waiting", "The ID has a minute, and its request has not been made yet."),
    ("In flight", "The request has been sent, and its response has not arrived yet."),
    ("Failed", "The request failed, and the queue's attempts are used up. It can be retried by hand."),
    ("Expired", "The ID was dropped, because its request would have been made too late."),
    ("Late", "The ID's minute passed without its request. Late IDs take the next free places."),
    ("Moved out", "The ID moved to a later minute: it was late, is being retried, or no longer fitted."),
    ("Peak", "The number of IDs in the fullest minute."),
    ("Free place", "Room in a minute below the limit. Retries and late IDs take free places only."),
    ("Brake", "A lower limit that applies from the next minute, until it is released."),
    ("Pause", "Nothing is sent. Lists are accepted, and IDs keep their places."),
    (
        "Circuit breaker",
        "After several failures in a row, requests to a target are blocked. A probe every 30 s reopens it.",
    ),
    ("Disperse", "A list that doesn't fit goes above the limit, evenly over its quarter-hour."),
    ("Carry over", "A list that doesn't fit continues in later quarter-hours. The limit is never exceeded."),
    ("Receipt", "The totals of a quarter-hour, counted when it has ended."),
    ("Proof", "A check that every ID is where the plan put it, and that every count is right."),
)
SHORTCUTS = (
    ("/", "Find an ID"),
    ("?", "This help"),
    ("Ctrl K", "Go to any page, queue, task or ID"),
    ("← →", "Along a chart; Tab leaves it"),
    ("Esc", "Close a menu"),
)


@require_safe
@viewer_required
def help_page(request: OperatorRequest) -> HttpResponseBase:
    """Show the terms and the shortcuts."""
    refuse_unknown(request, ())
    return render(request, "dashboard/help.html", {"terms": TERMS, "shortcuts": SHORTCUTS})
