"""Operators and tokens in the Django admin. Who may do what there comes from operators.roles."""

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from operators import accounts, tokens
from operators.actor import Actor, Face
from operators.errors import AlreadyRevoked
from operators.models import Operator, Token
from operators.signals import acted
from operators.strict import RefusesUnknown


def actor_of(request: HttpRequest) -> Actor:
    return Actor.of_operator(request.user, face=Face.ADMIN)


# What the activity log keeps of an operator.
LOGGED = ("username", "role", "is_active", "first_name", "last_name", "email", "time_zone")


@admin.register(Operator)
class OperatorAdmin(RefusesUnknown, UserAdmin):
    list_display = ("username", "role", "is_active", "last_login", "first_name", "last_name")
    list_filter = ("role", "is_active")
    search_fields = ("^username", "^email")
    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password", "role", "is_active")}),
        ("Person", {"fields": ("first_name", "last_name", "email", "time_zone")}),
        ("Times", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("username", "role", "password1", "password2")}),
    )
    actions = ("sign_out_everywhere",)

    def get_fieldsets(self, request: HttpRequest, obj: Operator | None = None):
        found = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return found
        # It would offer a way to the password, which ends at a refusal.
        return [
            (name, {**options, "fields": tuple(each for each in options["fields"] if each != "password")})
            for name, options in found
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Operator | None = None):
        # Whoever edits is an admin; so there is always one left.
        own = ("role", "is_active") if obj is not None and obj.pk == request.user.pk else ()
        return (*super().get_readonly_fields(request, obj), *own)

    def has_delete_permission(self, request: HttpRequest, obj: Operator | None = None) -> bool:
        # One by one, and never oneself: the list's own "delete selected" would take everybody.
        return obj is not None and obj.pk != request.user.pk and super().has_delete_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Operator, form: forms.ModelForm, change: bool) -> None:
        if change:
            request.was = Operator.objects.select_for_update().values(*LOGGED).get(pk=obj.pk)
        super().save_model(request, obj, form, change)

    def log_addition(self, request: HttpRequest, object: Operator, message):
        self._tell(request, object, "created", {"role": object.role})
        return super().log_addition(request, object, message)

    def log_change(self, request: HttpRequest, object: Operator, message):
        was = getattr(request, "was", None)
        if was is None:
            # The page of the password saves by itself.
            self._tell(request, object, "changed_password", {})
        elif changed := [name for name in LOGGED if getattr(object, name) != was[name]]:
            before = {name: was[name] for name in changed}
            self._tell(request, object, "changed", {n: getattr(object, n) for n in changed}, before)
        return super().log_change(request, object, message)

    def log_deletions(self, request: HttpRequest, queryset):
        for operator in queryset:
            self._tell(request, operator, "deleted", {}, {"role": operator.role})
        return super().log_deletions(request, queryset)

    @admin.action(description="Sign out everywhere", permissions=["change"])
    def sign_out_everywhere(self, request: HttpRequest, queryset) -> None:
        for operator in queryset:
            accounts.end_sessions(operator, by=actor_of(request), at=timezone.now())
        messages.success(request, f"Signed out everywhere: {', '.join(map(str, queryset))}.")

    def _tell(
        self,
        request: HttpRequest,
        operator: Operator,
        act: str,
        details: dict,
        before: dict | None = None,
    ) -> None:
        by, at = actor_of(request), timezone.now()
        acted.send(Operator, by=by, act=act, target=operator, at=at, details=details, before=before)


class TokenForm(forms.ModelForm):
    class Meta:
        model = Token
        fields = ("name", "scope")

    def clean_name(self) -> str:
        return self.cleaned_data["name"].strip()


@admin.register(Token)
class TokenAdmin(RefusesUnknown, admin.ModelAdmin):
    form = TokenForm
    list_display = ("name", "scope", "operator", "created_at", "last_used_at", "revoked_at")
    list_filter = ("scope", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("operator",)
    search_fields = ("^name",)
    shown = ("name", "scope", "operator", "created_at", "last_used_at", "revoked_at")
    actions = ("revoke",)

    def get_fields(self, request: HttpRequest, obj: Token | None = None):
        return TokenForm.Meta.fields if obj is None else self.shown

    def get_readonly_fields(self, request: HttpRequest, obj: Token | None = None):
        return () if obj is None else self.shown

    def has_delete_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        # Revoked tokens stay: the activity log speaks of them.
        return False

    def save_model(self, request: HttpRequest, obj: Token, form: TokenForm, change: bool) -> None:
        if change:
            return
        issued, request.issued_secret = tokens.issue(
            name=obj.name, scope=obj.scope, by=actor_of(request), at=timezone.now(), operator=request.user
        )
        obj.__dict__.update(issued.__dict__)

    def response_add(
        self, request: HttpRequest, obj: Token, post_url_continue: str | None = None
    ) -> HttpResponse:
        # Shown in the answer itself: a message would keep the secret in a cookie on its way to the next page.
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Token made",
            "token": obj,
            "secret": request.issued_secret,
        }
        return TemplateResponse(
            request, "operators/token_issued.html", context, headers={"Cache-Control": "no-store"}
        )

    @admin.action(description="Revoke", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset) -> None:
        for token in queryset:
            try:
                tokens.revoke(token, by=actor_of(request), at=timezone.now())
            except AlreadyRevoked as error:
                messages.info(request, f"{token}: {error}")
            else:
                messages.success(request, f"{token} is revoked.")
