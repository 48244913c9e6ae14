"""Users: the people whose IDs are in lists."""

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import PAGE_VAR
from django.db.models import Q
from django.http import HttpRequest

from scheduling import models, store, users
from scheduling.models import MAX_ID

from .base import ByKey, KeyList, actor_of, link, list_of, no_such, on_dashboard, whole_number


class UserForm(forms.ModelForm):
    """An ID is text in the browser: a field for numbers would round long ones, or take 1e5."""

    id = forms.CharField(
        label="ID", required=False, help_text=f"A whole number from 1 to {MAX_ID}; empty: one that is free."
    )

    class Meta:
        model = models.User
        fields = ("id", "name")

    def clean_id(self) -> int | None:
        text = self.cleaned_data["id"].strip()
        if not text:
            return None
        number = whole_number(text)
        if not number:
            raise forms.ValidationError(f"An ID is a whole number from 1 to {MAX_ID}.")
        if models.User.objects.filter(pk=number).exists():
            raise forms.ValidationError(f"There is a user with the ID {number} already.")
        return number


class NameForm(forms.ModelForm):
    class Meta:
        model = models.User
        fields = ("name",)


class UserList(KeyList):
    """By key; what a search for a name finds comes in the order of the names."""

    def find(self, after: int | None, count: int) -> tuple[list[models.User], int | None]:
        if after is not None and self.queryset.query.order_by == ("name", "pk"):
            last = models.User.objects.filter(pk=after).first()
            if last is None:
                # Deleted meanwhile: where its name stood nobody knows, and by key rows would be skipped.
                raise no_such(PAGE_VAR, after)
            self.queryset = self.queryset.filter(Q(name__gt=last.name) | Q(name=last.name, pk__gt=last.pk))
            after = None
        return super().find(after, count)


@admin.register(models.User)
class UserAdmin(ByKey):
    list_display = ("id", "name", "created_at", "assignments", "story")
    search_help_text = "The exact ID, or how a name begins."

    def get_changelist(self, request: HttpRequest, **kwargs) -> type[KeyList]:
        return UserList

    def get_form(self, request: HttpRequest, obj: models.User | None = None, change: bool = False, **kwargs):
        return UserForm if obj is None else NameForm

    def get_fields(self, request: HttpRequest, obj: models.User | None = None):
        return ("id", "name") if obj is None else ("id", "name", "created_at", "assignments", "story")

    def get_readonly_fields(self, request: HttpRequest, obj: models.User | None = None):
        return () if obj is None else ("id", "created_at", "assignments", "story")

    def search(self, queryset, text):
        number = whole_number(text)
        if number is not None:
            return queryset.filter(pk=number)
        # Without the empty ones, since the index holds only those who have one; and in its order.
        return queryset.exclude(name="").filter(store.begins_with("name", text)).order_by("name", "pk")

    @admin.display(description="assignments")
    def assignments(self, user: models.User) -> str:
        return link(list_of(models.Assignment, q=user.pk), "Its assignments")

    @admin.display(description="dashboard")
    def story(self, user: models.User) -> str:
        return link(on_dashboard("id", user.pk), "Its story")

    def save_model(self, request: HttpRequest, obj: models.User, form: forms.ModelForm, change: bool) -> None:
        by, at = actor_of(request), store.now()
        if change:
            kept = users.rename(obj, obj.name, by=by, at=at)
        else:
            kept = users.create(user_id=obj.pk, name=obj.name, by=by, at=at)
        obj.__dict__.update(kept.__dict__)

    def delete_model(self, request: HttpRequest, obj: models.User) -> None:
        users.delete(obj, by=actor_of(request), at=store.now())

    def render_change_form(self, request, context, *args, obj=None, **kwargs):
        if obj is not None:
            context["elsewhere"] = [
                ("Its assignments", list_of(models.Assignment, q=obj.pk)),
                ("Its story on the dashboard", on_dashboard("id", obj.pk)),
            ]
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)
