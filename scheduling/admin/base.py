"""What all our admin pages share: lists paged by key, searches that use an index, links, actions.

These lists can have a million rows, so none is counted, sorted by a column or skipped through: a page shows
what follows a key, in the order of the key, and a search is for one exact value or the beginning of a name.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.exceptions import PermissionDenied
from django.db import models as orm
from django.db.models.expressions import Combinable
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.text import capfirst

from operators.actor import Actor, Interface
from operators.models import Operator
from operators.strict import RefusesUnknown
from scheduling import store
from scheduling.core.errors import Refused

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    ModelForm = forms.ModelForm[Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    # Generic in the stubs alone.
    ModelAdmin, ModelForm, TabularInline = admin.ModelAdmin, forms.ModelForm, admin.TabularInline

Rows = orm.QuerySet[Any]


def actor_of(request: HttpRequest) -> Actor:
    return Actor.of_operator(cast(Operator, request.user), interface=Interface.ADMIN)


# --- Links ---


def link(url: str, text: Any) -> str:
    return format_html('<a href="{}">{}</a>', url, text) if url else str(text)


def page_of(thing: orm.Model) -> str:
    """The admin page of a row."""
    return reverse(f"admin:{thing._meta.app_label}_{thing._meta.model_name}_change", args=[thing.pk])


def list_of(model: type[orm.Model], **query: Any) -> str:
    """The admin list of a model, filtered."""
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{url}?{urlencode(query)}" if query else url


def on_dashboard(name: str, *args: Any, **query: Any) -> str:
    """A page of the dashboard by its name; empty where the dashboard isn't installed."""
    try:
        url = reverse(name, args=args)
    except NoReverseMatch:
        return ""
    return f"{url}?{urlencode(query)}" if query else url


# --- Lists ---


class KeyList(ChangeList):
    """A list in the order of its key, newest first; a page begins after a key, and rows are never counted.

    `p` in the address is the key of the last row of the page before, where Django has a page number.
    """

    model_admin: "ByKey"

    def get_ordering(self, request: HttpRequest, queryset: Rows) -> list[str | Combinable]:
        return list(self.model_admin.key_order)

    def get_ordering_field_columns(self) -> dict[int, Literal["desc", "asc"]]:
        return {}

    def get_results(self, request: HttpRequest) -> None:
        text = request.GET.get(PAGE_VAR, "")
        after = whole_number(text)
        if text and after is None:
            raise unknown_value(PAGE_VAR, text)
        try:
            self.result_list, key = self.find(after, self.list_per_page)
        except OverflowError as error:
            raise unknown_value(PAGE_VAR, text) from error
        self.later_url = "" if key is None else self.get_query_string({PAGE_VAR: key})
        self.first_url = "" if after is None else self.get_query_string(remove=[PAGE_VAR])
        # Django's templates read these; nothing is counted.
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = True
        self.paginator = None

    def find(self, after: int | None, count: int) -> tuple[list[Any], int | None]:
        """Return the rows of the page that begins after a key, and the key of the next page, if there is one."""
        rows = self.queryset if after is None else self.model_admin.rows_after(self.queryset, after)
        page = list(rows[: count + 1])
        return page[:count], self.model_admin.key_of(page[count - 1]) if len(page) > count else None


class ByKey(RefusesUnknown, ModelAdmin):
    """A list of any length, newest first. `search` defines what its search box finds."""

    actions_selection_counter = True
    list_per_page = 100
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    key_order: tuple[str, ...] = ("-pk",)
    # The search box is shown where this text says what it finds.
    search_help_text = ""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeyList

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("pk",) if self.search_help_text else ()

    def get_search_results(self, request: HttpRequest, queryset: Rows, search_term: str) -> tuple[Rows, bool]:
        # Django's own `=id` compares numbers as upper-case text, which reads every row.
        text = search_term.strip()
        return (self.search(queryset, text) if text else queryset), False

    def search(self, queryset: Rows, text: str) -> Rows:
        """Return the rows that match `text`, by an index."""
        raise NotImplementedError

    def key_of(self, row: Any) -> int:
        """Return the key that the page after this row begins after."""
        return int(row.pk)

    def rows_after(self, queryset: Rows, key: int) -> Rows:
        return queryset.filter(pk__lt=key)

    def related_links(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Links from a row's page to pages about it: (name, address)."""
        return []

    def unavailable_links(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Links that this operator or this row can't have: (name, why)."""
        return []

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        if obj is not None:
            context["related_links"] = self.related_links(request, obj)
            context["unavailable_links"] = self.unavailable_links(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = {"title": capfirst(self.opts.verbose_name_plural)}
        return super().changelist_view(request, {**title, **(extra_context or {})})

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        # Django 6.1 and later name a location.
        location = {} if action_location is None else {"action_location": action_location}
        # Django's own deletion loads every row; rows that can be deleted here have an operation for it.
        actions: dict[str, Any] = super().get_actions(request, **location)
        actions.pop("delete_selected", None)
        return actions

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        # Django's own view wraps a transaction around the whole page. An operation has its own, and what comes
        # before it (a look-up of a host name, for example) must not hold a lock.
        page: Callable[..., HttpResponse] = self._changeform_view  # type: ignore[attr-defined]  # not in the stubs
        try:
            return page(request, object_id, form_url, extra_context)
        except Refused as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        # The activity log has what was done through every interface; Django's log only what was done here.
        query = {"object_kind": str(self.opts.model_name)}
        if whole_number(object_id) is not None:
            query["object_id"] = object_id
        return HttpResponseRedirect(f"{reverse('admin:scheduling_activity_changelist')}?{urlencode(query)}")


class ReadOnly:
    """Rows that everybody with the permission can view and nobody can change."""

    def has_add_permission(self, request: HttpRequest, obj: orm.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: orm.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: orm.Model | None = None) -> bool:
        return False


def counter(column: str) -> Callable[..., str]:
    """Return a list column that shows a counter under its plain name, with thousands separators."""

    @admin.display(description=column.removesuffix("_count").replace("ids", "IDs").replace("_", " "))
    def shown(self: ByKey, row: orm.Model) -> str:
        return f"{getattr(row, column):,}"

    return shown


def unknown_value(name: str, value: Any, choices: Iterable[str] = ()) -> IncorrectLookupParameters:
    """Return the error for a filter's value that nothing has; it names the filter and the value."""
    of = f"one of {', '.join(choices)}" if choices else "one that is known here"
    return IncorrectLookupParameters(f"{name}: {str(value)[:60]!r} is not {of}.")


class ChoiceFilter(admin.SimpleListFilter):
    """A filter by one of a few words. Any other word is refused: it would match nothing, or everything."""

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        choices = [value for value, _ in self.lookup_choices]
        if self.value() and self.value() not in choices:
            raise unknown_value(str(self.parameter_name), self.value(), choices)


class LinkFilter(admin.SimpleListFilter):
    """A filter that links set, and that is shown only while it is on."""

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        value = self.value()
        return [(value, self.describe(value))] if value else []

    def describe(self, value: str) -> str:
        return value

    def number(self) -> int:
        """Return the value as a whole number. Raises IncorrectLookupParameters."""
        number = whole_number(self.value() or "")
        if number is None:
            raise unknown_value(str(self.parameter_name), self.value())
        return number


def whole_number(text: str) -> int | None:
    """Return the number that `text` is: the digits 0 to 9 only, within 63 bits; else None."""
    if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 1 << 63:
        return int(text)
    return None


def by_number_or_name(queryset: Rows, text: str) -> Rows:
    """Return the row with this number, or those whose name begins with the text."""
    number = whole_number(text)
    return queryset.filter(store.begins_with("name", text) if number is None else orm.Q(pk=number))
