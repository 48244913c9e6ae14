"""Views that operators save: the filter of a page under a name."""

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from dashboard.access import OperatorRequest, viewer_required
from dashboard.inputs.saved import PAGES, filter_of
from operators import saved_views
from operators.errors import InvalidView, TooManyViews
from operators.models import SavedView
from scheduling import store


@require_POST
@viewer_required
def save(request: OperatorRequest) -> HttpResponseBase:
    """Save a page's filter, and lead back to it."""
    page, name = request.POST.get("page", ""), request.POST.get("name", "")
    if page not in PAGES:
        raise BadRequest(f"page: {page[:40]!r} is none of {', '.join(PAGES)}.")
    query = filter_of(request.POST.get("query", ""))
    try:
        view = saved_views.save(
            request.user, page=page, name=name, query=query, by=request.actor, at=store.now()
        )
    except (InvalidView, TooManyViews) as error:
        messages.error(request, f"{error} Nothing was saved.")
    else:
        messages.success(request, f"Saved as “{view.name}”.")
    return redirect(f"{reverse(page)}?{query}")


@require_POST
@viewer_required
def delete(request: OperatorRequest, view_id: int) -> HttpResponseBase:
    """Delete one's own view, and lead back to its page."""
    view = get_object_or_404(SavedView, pk=view_id, operator=request.user)
    saved_views.delete(view, by=request.actor, at=store.now())
    messages.success(request, f"The view “{view.name}” has been deleted.")
    return redirect(f"{reverse(view.page)}?{view.query}")
