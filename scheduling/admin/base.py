"""What all our admin pages share: lists by key, searches that an index answers, links, acts by their verbs.

A million rows stand behind these lists. So no list counts, sorts or skips: it shows what follows a key, in
the order of the key, and a search is for one exact thing or for the beginning of a name.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.exceptions import PermissionDenied
from django.db import models as orm
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.text import capfirst

from operators.actor import Actor, Interface
from operators.strict import RefusesUnknown
from scheduling import store
from scheduling.core.errors import Refused


def actor_of(request: HttpRequest) -> Actor:
    return Actor.of_operator(request.user, interface=Interface.ADMIN)


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
    """A list in the order of its key, the newest first; a page begins after a key and is never counted.

    `p` in the address is the key of the last row of the page before, where Django has a page's number.
    """

    def get_ordering(self, request: HttpRequest, queryset: orm.QuerySet) -> tuple[str, ...]:
        return self.model_admin.key_order

    def get_ordering_field_columns(self) -> dict[int, str]:
        return {}

    def get_results(self, request: HttpRequest) -> None:
        text = request.GET.get(PAGE_VAR, "")
        after = whole_number(text)
        if text and after is None:
            raise no_such(PAGE_VAR, text)
        try:
            self.result_list, key = self.find(after, self.list_per_page)
        except OverflowError as error:
            raise no_such(PAGE_VAR, text) from error
        self.later_url = "" if key is None else self.get_query_string({PAGE_VAR: key})
        self.first_url = "" if after is None else self.get_query_string(remove=[PAGE_VAR])
        # What Django's templates ask of a list; nothing here is counted.
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = True
        self.paginator = None

    def find(self, after: int | None, count: int) -> tuple[list[orm.Model], int | None]:
        """The rows of a page that begins after a key, and the key that the next page begins after, if any."""
        rows = self.queryset if after is None else self.model_admin.rows_after(self.queryset, after)
        found = list(rows[: count + 1])
        return found[:count], self.model_admin.key_of(found[count - 1]) if len(found) > count else None


class ByKey(RefusesUnknown, admin.ModelAdmin):
    """A list of any length, newest first. `search` says what its search box finds."""

    actions_selection_counter = True
    list_per_page = 100
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    key_order: tuple[str, ...] = ("-pk",)
    # A box to search in is shown where this says what is found.
    search_help_text = ""

    def get_changelist(self, request: HttpRequest, **kwargs) -> type[ChangeList]:
        return KeyList

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("pk",) if self.search_help_text else ()

    def get_search_results(
        self, request: HttpRequest, queryset: orm.QuerySet, search_term: str
    ) -> tuple[orm.QuerySet, bool]:
        # Django's own `=id` compares numbers as upper-case text, which reads every row.
        text = search_term.strip()
        return (self.search(queryset, text) if text else queryset), False

    def search(self, queryset: orm.QuerySet, text: str) -> orm.QuerySet:
        """The rows that `text` stands for, by an index."""
        raise NotImplementedError

    def key_of(self, row: orm.Model) -> int:
        """What the next page begins after."""
        return row.pk

    def rows_after(self, queryset: orm.QuerySet, key: int) -> orm.QuerySet:
        return queryset.filter(pk__lt=key)

    def changelist_view(self, request: HttpRequest, extra_context: dict | None = None):
        title = {"title": capfirst(self.opts.verbose_name_plural)}
        return super().changelist_view(request, {**title, **(extra_context or {})})

    def get_actions(self, request: HttpRequest) -> dict:
        # Django's own loads every row that it deletes; and what is deleted here has a verb of its own.
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def changeform_view(self, request: HttpRequest, object_id=None, form_url="", extra_context=None):
        # Django's own holds a transaction around the whole page. A verb has its own, and what is asked before
        # it (the address of a host, say) must hold no lock.
        try:
            return self._changeform_view(request, object_id, form_url, extra_context)
        except Refused as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

    def history_view(self, request: HttpRequest, object_id: str, extra_context: dict | None = None):
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        # The activity log knows what was done by every face; Django's own only what was done here.
        query = {"object_kind": self.opts.model_name}
        if whole_number(object_id) is not None:
            query["object_id"] = object_id
        return HttpResponseRedirect(f"{reverse('admin:scheduling_activity_changelist')}?{urlencode(query)}")


class ReadOnly:
    """Looked at by whoever may view, and changed by nobody."""

    def has_add_permission(self, request: HttpRequest, obj: orm.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: orm.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: orm.Model | None = None) -> bool:
        return False


def counter(column: str) -> Callable:
    """A column that shows a counter under its plain name, with separators."""

    @admin.display(description=column.removesuffix("_count").replace("ids", "IDs").replace("_", " "))
    def shown(self, row: orm.Model) -> str:
        return f"{getattr(row, column):,}"

    return shown


def no_such(name: str, value: Any, known: Iterable[str] = ()) -> IncorrectLookupParameters:
    """What is raised for a filter's value that nothing has: it names both."""
    of = f"one of {', '.join(known)}" if known else "one that is known here"
    return IncorrectLookupParameters(f"{name}: {str(value)[:60]!r} is not {of}.")


class Chosen(admin.SimpleListFilter):
    """A filter by one of a few words. Another word is refused: it would match nothing, or everything."""

    def __init__(self, request: HttpRequest, *args) -> None:
        super().__init__(request, *args)
        known = [value for value, _ in self.lookup_choices]
        if self.value() and self.value() not in known:
            raise no_such(self.parameter_name, self.value(), known)


class Given(admin.SimpleListFilter):
    """A filter that stands in the address of a link, and is shown only while it is on."""

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [(self.value(), self.describe(self.value()))] if self.value() else []

    def describe(self, value: str) -> str:
        return value

    def number(self) -> int:
        """The value as a whole number that the database holds. Raises IncorrectLookupParameters."""
        number = whole_number(self.value())
        if number is None:
            raise no_such(self.parameter_name, self.value())
        return number


def whole_number(text: str) -> int | None:
    """The ID that a search is for: the digits 0 to 9 alone, within 64 bits; else None."""
    if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 1 << 63:
        return int(text)
    return None


def by_number_or_name(queryset: orm.QuerySet, text: str) -> orm.QuerySet:
    """The row with this number, or those whose name begins so."""
    number = whole_number(text)
    return queryset.filter(store.begins_with("name", text) if number is None else orm.Q(pk=number))
