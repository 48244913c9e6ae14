"""What Ctrl K finds beside the pages: queues, tasks and saved views by their names."""

from collections.abc import Iterator

from django.http import JsonResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.http import require_safe

from dashboard import addresses
from dashboard.access import OperatorRequest, viewer_required
from dashboard.inputs.parameters import refuse_unknown
from operators.models import SavedView
from operators.roles import Permission
from scheduling import models, store

# Of each kind.
FOUND = 5
LONGEST = 100


@require_safe
@viewer_required
def go_to(request: OperatorRequest) -> HttpResponseBase:
    """As JSON: `found`, a list of (what it is, its name, its address)."""
    refuse_unknown(request, {"q"})
    text = request.GET.get("q", "").strip()[:LONGEST].replace("\0", "")
    found = list(_found(request, text)) if text else []
    response = JsonResponse({"found": found})
    response["Cache-Control"] = "no-store"
    return response


def _found(request: OperatorRequest, text: str) -> Iterator[tuple[str, str, str]]:
    may_act = request.user.may(Permission.ACT)
    for queue in models.Queue.objects.filter(name__icontains=text).order_by("name")[:FOUND]:
        yield "queue", queue.name, addresses.queue(queue.name)
        yield "board", queue.name, addresses.with_query(reverse("board"), queue=queue.name)
        if may_act:
            yield "pause or brake", queue.name, reverse("queue_slow_down", args=[queue.name])
    for view in SavedView.objects.filter(operator=request.user, name__icontains=text)[:FOUND]:
        yield f"view of {view.page}", view.name, f"{reverse(view.page)}?{view.query}"
    # In the order of the index: of a million tasks with one beginning the first few are read.
    tasks = models.Task.objects.filter(store.begins_with("name", text)).order_by("name", "-pk")
    for pk, name in tasks.values_list("pk", "name")[:FOUND]:
        yield "task", name, addresses.task(pk)
