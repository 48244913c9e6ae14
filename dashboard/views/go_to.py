"""What Ctrl K finds beside the pages: queues and saved views by name, tasks by name or number, IDs that are text."""

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
from scheduling.core import id_tokens
from scheduling.lists import external_ids

# Of each kind.
FOUND = 5
LONGEST = 100


@require_safe
@viewer_required
def go_to(request: OperatorRequest) -> HttpResponseBase:
    """As JSON: `found`, a list of (what it is, its name, its address)."""
    refuse_unknown(request, {"q"})
    text = request.GET.get("q", "").strip()[:LONGEST].replace("\0", "")
    matches = list(_matches(request, text)) if text else []
    response = JsonResponse({"found": matches})
    response["Cache-Control"] = "no-store"
    return response


def _matches(request: OperatorRequest, text: str) -> Iterator[tuple[str, str, str]]:
    is_number = text.isascii() and text.isdigit()
    text_id = None if is_number else id_tokens.read_text(text)[0]
    # The page's script offers a number itself.
    if text_id is not None and (number := external_ids.number_of(text_id)) is not None:
        yield "ID", text_id, reverse("id", args=[number])
    if is_number and int(text) <= models.MAX_ID:
        for name in models.Task.objects.filter(pk=int(text)).values_list("name", flat=True):
            yield f"task {int(text)}", name, addresses.task(int(text))
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
