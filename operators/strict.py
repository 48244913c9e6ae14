"""Admin lists that refuse unknown parameters: a misspelt filter must never mean "no filter"."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.options import IS_POPUP_VAR, TO_FIELD_VAR, IncorrectLookupParameters
from django.contrib.admin.views.main import (
    ALL_VAR,
    ORDER_VAR,
    PAGE_VAR,
    SEARCH_VAR,
    ChangeList,
)
from django.core.exceptions import BadRequest
from django.http import HttpRequest

if TYPE_CHECKING:
    Admin = ModelAdmin[Any]
else:
    Admin = object

IS_FACETS_VAR = "_facets"


class RefusesUnknown(Admin):
    """A mixin for a ModelAdmin. Django itself redirects to `?e=1`: the whole list, unfiltered."""

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        self._refuse_parameters(request)
        try:
            return super().get_changelist_instance(request)
        except IncorrectLookupParameters as error:
            reason = str(error.args[0]) if error.args and isinstance(error.args[0], str) else ""
            raise BadRequest(
                reason or f"A filter can't be read: {request.META['QUERY_STRING'][:200]}"
            ) from error

    def _refuse_parameters(self, request: HttpRequest) -> None:
        allowed = {*self._filter_names(request), PAGE_VAR}
        if self.get_search_fields(request):
            allowed.add(SEARCH_VAR)
        sorting = {ORDER_VAR, ALL_VAR, IS_FACETS_VAR} if self.sortable_by is None else set()
        for name, values in request.GET.lists():
            if name not in allowed | sorting | {IS_POPUP_VAR, TO_FIELD_VAR}:
                names = ", ".join(sorted(allowed))
                raise BadRequest(f"There is no parameter {name[:60]!r} here; there are: {names}.")
            if len(values) > 1:
                raise BadRequest(f"The parameter {name!r} was given {len(values)} times.")
            if "\0" in values[0]:
                # Django itself shows a message above the whole list.
                raise BadRequest(f"{name}: {values[0][:60]!r} contains a null character.")
            self._check_choice(name, values[0])

    def _filter_names(self, request: HttpRequest) -> Iterator[str]:
        for each in self.get_list_filter(request):
            if isinstance(each, str):
                yield from (f"{each}__exact", f"{each}__isnull")
            elif isinstance(each, tuple):
                yield f"{each[0]}__isempty"
            elif isinstance(each, type) and issubclass(each, SimpleListFilter):
                yield str(each.parameter_name)

    def _check_choice(self, name: str, value: str) -> None:
        """Refuse a value that the column can never contain."""
        column, _, lookup = name.partition("__")
        if lookup != "exact":
            return
        choices = getattr(self.opts.get_field(column), "flatchoices", ())
        values = [str(choice) for choice, _ in choices] or ["0", "1"]
        if value not in values:
            raise BadRequest(f"{name}: {value[:60]!r} is not one of {', '.join(values)}.")
