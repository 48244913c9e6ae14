"""What a saved view holds: the filter of a page as its address has it, without the part of the list that is shown."""

from functools import wraps

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from dashboard.access import OperatorRequest, View
from dashboard.inputs.columns import USUAL
from dashboard.inputs.parameters import COLUMNS
from operators.models import SavedView

# The names of the addresses of pages whose filters can be saved.
PAGES = ("tasks", "failures", "activity")
# Where in the list one is, and in which form: no part of a filter.
_BESIDE = ("before", "after", "size", "format", "list")


def filter_of(query: str) -> str:
    """The filter in a query, in one order, so that the same filter is the same text."""
    parameters = QueryDict(query)
    filled = {
        name: sorted(filter(None, values)) for name, values in parameters.lists() if name not in _BESIDE
    }
    if USUAL in filled.get(COLUMNS, ()):
        del filled[COLUMNS]
    result = QueryDict(mutable=True)
    for name, values in sorted(filled.items()):
        result.setlist(name, values)
    return result.urlencode()


def opens_saved_views(view: View) -> View:
    """Open a saved view whose filter is no longer valid, because its queue is gone, as the page with a message."""

    @wraps(view)
    def opened(request: OperatorRequest) -> HttpResponseBase:
        try:
            return view(request)
        except BadRequest as error:
            page, query = view.__name__, filter_of(request.META["QUERY_STRING"])
            saved = SavedView.objects.filter(operator=request.user, page=page, query=query).first()
            if saved is None or not query:
                raise
            words = f"The view “{saved.name}” can't be shown any more. {str(error).rstrip('.')}."
            messages.error(request, f"{words} Save another filter under this name to replace it.")
            return redirect(page)

    return opened
