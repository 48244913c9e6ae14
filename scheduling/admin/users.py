"""Users: the people whose IDs are in lists."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from scheduling import models, store, users
from scheduling.core import id_tokens
from scheduling.core.errors import Refused
from scheduling.lists import external_ids
from scheduling.models import MAX_ID
from scheduling.tasks import erasure

from .base import (
    ByKey,
    KeyList,
    ModelForm,
    Rows,
    actor_of,
    link,
    list_of,
    on_dashboard,
    page_of,
    unknown_value,
    whole_number,
)


class UserForm(ModelForm):
    """An ID is text in the browser: a number field would round long IDs, or accept 1e5."""

    id = forms.CharField(
        label="ID",
        required=False,
        help_text=f"A whole number from 1 to {MAX_ID}; leave it empty to get a free one.",
    )

    external_id = forms.CharField(
        label="External ID",
        required=False,
        strip=False,
        help_text="For an ID that is text, such as an e-mail address: then leave the ID empty.",
    )

    class Meta:
        model = models.User
        fields = ("id", "name")

    def clean_external_id(self) -> str | None:
        if not self.cleaned_data["external_id"].strip():
            return None
        text, reason, _ = id_tokens.read_text(self.cleaned_data["external_id"])
        if text is None:
            raise forms.ValidationError(reason or "It must be an ID.")
        if models.User.objects.filter(pk=external_ids.number_of(text) or 0).exists():
            raise forms.ValidationError(f"A user with the ID {text} already exists.")
        return text

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("id") and cleaned.get("external_id"):
            self.add_error("external_id", "A user has either an ID or an external ID.")
        return cleaned

    def clean_id(self) -> int | None:
        text = self.cleaned_data["id"].strip()
        if not text:
            return None
        number = whole_number(text)
        if not number:
            raise forms.ValidationError(f"An ID is a whole number from 1 to {MAX_ID}.")
        if models.User.objects.filter(pk=number).exists():
            raise forms.ValidationError(f"A user with the ID {number} already exists.")
        return number


class NameForm(ModelForm):
    class Meta:
        model = models.User
        fields = ("name",)


class EraseForm(forms.Form):
    """The confirmation that a person is erased: their ID, typed."""

    typed = forms.CharField(max_length=200)

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected

    def clean_typed(self) -> str:
        typed: str = self.cleaned_data["typed"]
        if id_tokens.read_text(typed)[0] != self.expected:
            raise forms.ValidationError(f"To confirm, type {self.expected}.")
        return typed


class UserList(KeyList):
    """Lists users by key; the results of a search for a name are in the order of the names."""

    def find(self, after: int | None, count: int) -> tuple[list[models.User], int | None]:
        if after is not None and self.queryset.query.order_by == ("name", "pk"):
            last = models.User.objects.filter(pk=after).first()
            if last is None:
                # It was deleted meanwhile: its name is not known, and going on by key would skip rows.
                raise unknown_value(PAGE_VAR, after)
            self.queryset = self.queryset.filter(Q(name__gt=last.name) | Q(name=last.name, pk__gt=last.pk))
            after = None
        return super().find(after, count)


@admin.register(models.User)
class UserAdmin(ByKey):
    list_display = ("id_", "name", "created_at", "assignments", "story")
    search_help_text = "The exact ID, a number or text, or how a name begins."

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeyList]:
        return UserList

    def get_form(
        self, request: HttpRequest, obj: models.User | None = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm]:
        return UserForm if obj is None else NameForm

    def get_fields(self, request: HttpRequest, obj: models.User | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("id", "external_id", "name")
        return ("id_", "name", "created_at", "assignments", "story")

    def get_readonly_fields(self, request: HttpRequest, obj: models.User | None = None) -> tuple[str, ...]:
        return () if obj is None else ("id_", "created_at", "assignments", "story")

    def search(self, queryset: Rows, text: str) -> Rows:
        numbers = whole_number(text), external_ids.number_of(id_tokens.read_text(text)[0] or "")
        if numbers != (None, None):
            # Digits may be both: two people.
            return queryset.filter(pk__in=[number for number in numbers if number is not None])
        # Without the empty ones, since the index holds only those who have one; and in its order.
        return queryset.exclude(name="").filter(store.begins_with("name", text)).order_by("name", "pk")

    def external_id(self, user: models.User) -> str:
        # Of numbers that stand for themselves nothing is read.
        return external_ids.texts([user.pk]).get(user.pk, "")

    @admin.display(description="ID")
    def id_(self, user: models.User) -> str:
        """Return the ID as its owner wrote it: of one that is text, the number is shown nowhere."""
        return self.external_id(user) or str(user.pk)

    @admin.display(description="assignments")
    def assignments(self, user: models.User) -> str:
        return link(list_of(models.Assignment, q=self.external_id(user) or user.pk), "Assignments")

    @admin.display(description="dashboard")
    def story(self, user: models.User) -> str:
        return link(on_dashboard("id", user.pk), "History")

    def save_model(self, request: HttpRequest, obj: models.User, form: ModelForm, change: bool) -> None:
        by, at = actor_of(request), store.now()
        if change:
            renamed = users.rename(obj, obj.name, by=by, at=at)
        else:
            text = form.cleaned_data["external_id"]
            renamed = users.create(user_id=obj.pk, external_id=text, name=obj.name, by=by, at=at)
        obj.__dict__.update(renamed.__dict__)

    def delete_model(self, request: HttpRequest, obj: models.User) -> None:
        users.delete(obj, by=actor_of(request), at=store.now())

    def get_urls(self) -> list[URLPattern]:
        erase = self.admin_site.admin_view(self.erase_view)
        return [path("<object_id>/erase/", erase, name="scheduling_user_erase"), *super().get_urls()]

    def erase_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for the person's ID, and erase the person."""
        user = self.get_object(request, object_id)
        if not self.has_delete_permission(request, user):
            raise PermissionDenied
        if user is None:
            raise Http404
        shown = self.id_(user)
        form = EraseForm(request.POST if request.method == "POST" else None, expected=shown)
        if request.method == "POST" and form.is_valid():
            try:
                cancelled = erasure.erase(user.pk, by=actor_of(request), now=store.now)
            except Refused as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, f"The person is erased. Waiting requests cancelled: {cancelled:,}.")
                return HttpResponseRedirect(reverse("admin:scheduling_user_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Erase this person",
            "shown": shown,
            "tasks_count": models.Assignment.objects.filter(user_id=user.pk).count(),
            "form": form,
            "back": page_of(user),
        }
        return TemplateResponse(request, "admin/scheduling/user/erase.html", context)

    def related_links(self, request: HttpRequest, user: models.User) -> list[tuple[str, str]]:
        links = [
            ("Assignments", list_of(models.Assignment, q=self.external_id(user) or user.pk)),
            ("History on the dashboard", on_dashboard("id", user.pk)),
        ]
        if self.has_delete_permission(request, user):
            links.append(("Erase this person", reverse("admin:scheduling_user_erase", args=[user.pk])))
        return links
