"""The activity log: who did what, when, to how many, through which interface."""

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from operators.actor import Interface
from scheduling import models

from .base import (
    ByKey,
    ChoiceFilter,
    LinkFilter,
    ModelAdmin,
    ReadOnly,
    Rows,
    link,
    on_dashboard,
    unknown_value,
    whole_number,
)

KINDS = [
    str(model._meta.model_name)
    for app in ("operators", "scheduling")
    for model in apps.get_app_config(app).get_models()
]


class FaceFilter(ChoiceFilter):
    title = parameter_name = "face"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        return [(face.value, face.value.replace("_", " ")) for face in Interface]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows | None:
        return queryset.filter(face=self.value()) if self.value() else None


class KindFilter(LinkFilter):
    """Entries about one kind of object; its pages link here."""

    title = "about"
    parameter_name = "object_kind"

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows | None:
        # Every kind of row has a history, even if it is empty.
        if self.value() and self.value() not in {model._meta.model_name for model in apps.get_models()}:
            raise unknown_value(self.parameter_name, self.value(), KINDS)
        return queryset.filter(object_kind=self.value()) if self.value() else None


class ObjectFilter(LinkFilter):
    title = "number"
    parameter_name = "object_id"

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows | None:
        return queryset.filter(object_id=self.number()) if self.value() else None


@admin.register(models.Activity)
class ActivityAdmin(ReadOnly, ByKey):
    list_display = ("at", "actor_name", "actor_kind", "face", "verb", "about", "count", "what_changed")
    list_filter = (FaceFilter, KindFilter, ObjectFilter)
    search_help_text = (
        "The number of an object, an exact verb such as cancelled, or the exact name of an operator or token."
    )
    fields = ("at", "actor_name", "actor_kind", "face", "verb", "about", "count", "before", "after")
    readonly_fields = ("about",)

    def search(self, queryset: Rows, text: str) -> Rows:
        if (number := whole_number(text)) is not None:
            # The index begins with the kind.
            return queryset.filter(object_kind__in=KINDS, object_id=number)
        # One of them, not either: an index then gives the newest, and the rest isn't read.
        is_verb = models.Activity.objects.filter(verb=text).exists()
        return queryset.filter(verb=text) if is_verb else queryset.filter(actor_name=text)

    @admin.display(description="about")
    def about(self, line: models.Activity) -> str:
        if not line.object_kind:
            return self.get_empty_value_display()
        words = f"{line.object_kind} {line.object_name or line.object_id}"
        return link(_page_of(line), words)

    @admin.display(description="before and after")
    def what_changed(self, line: models.Activity) -> str:
        return "; ".join(
            f"{when}: {', '.join(f'{name} {value}' for name, value in facts.items())}"[:200]
            for when, facts in (("before", line.before), ("after", line.after))
            if facts
        )


def _page_of(line: models.Activity) -> str:
    """Return the admin page of what the entry is about. Where it was deleted, the admin says so."""
    if line.object_id is None:
        return ""
    app = "operators" if line.object_kind in ("operator", "token") else "scheduling"
    try:
        return reverse(f"admin:{app}_{line.object_kind}_change", args=[line.object_id])
    except NoReverseMatch:
        return on_dashboard(line.object_kind, line.object_id)
