"""What a saved view holds: the filter of a page as its address has it, without the part of the list that is shown."""

from django.http import QueryDict

from dashboard.inputs.columns import USUAL
from dashboard.inputs.parameters import COLUMNS

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
