"""Operators and tokens in the Django admin. operators.roles decides who may do what."""

from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from operators import accounts, second_factor, tokens
from operators.actor import Actor, Interface
from operators.errors import AlreadyRevoked
from operators.models import Operator, Scope, Token
from operators.signals import action_taken
from operators.strict import RefusesUnknown

if TYPE_CHECKING:
    OperatorModelAdmin = UserAdmin[Operator]
    TokenModelAdmin = admin.ModelAdmin[Token]
    TokenModelForm = forms.ModelForm[Token]
else:
    OperatorModelAdmin, TokenModelAdmin, TokenModelForm = UserAdmin, admin.ModelAdmin, forms.ModelForm


def signed_in(request: HttpRequest) -> Operator:
    """The operator of a request: the admin lets nobody else in."""
    return cast(Operator, request.user)


def actor_of(request: HttpRequest) -> Actor:
    return Actor.of_operator(signed_in(request), interface=Interface.ADMIN)


# The fields whose changes the activity log records.
LOGGED = ("username", "role", "is_active", "first_name", "last_name", "email", "time_zone", "oidc_subject")


# Its secrets are nobody's to look at: an operator sets theirs up, and an admin can only turn it off.
admin.site.unregister(TOTPDevice)


@admin.register(Operator)
class OperatorAdmin(RefusesUnknown, OperatorModelAdmin):
    list_display = ("username", "role", "is_active", "last_login", "first_name", "last_name")
    list_filter = ("role", "is_active")
    search_fields = ("^username", "^email")
    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password", "role", "is_active")}),
        ("Person", {"fields": ("first_name", "last_name", "email", "time_zone", "oidc_subject")}),
        ("Times", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("username", "role", "password1", "password2")}),
    )
    actions = ("sign_out_everywhere", "turn_off_two_factor")

    def get_fieldsets(self, request: HttpRequest, obj: Operator | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        # The field would link to the password page, which would refuse.
        return [
            (name, {**options, "fields": tuple(each for each in options["fields"] if each != "password")})
            for name, options in fieldsets
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Operator | None = None) -> Any:
        # Only admins edit, and nobody can demote themselves, so one admin always remains.
        own = ("role", "is_active") if obj is not None and obj.pk == request.user.pk else ()
        return (*super().get_readonly_fields(request, obj), *own)

    def has_delete_permission(self, request: HttpRequest, obj: Operator | None = None) -> bool:
        # One at a time, and never oneself: "delete selected" would allow deleting everybody.
        return obj is not None and obj.pk != request.user.pk and super().has_delete_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Operator, form: Any, change: bool) -> None:
        if change:
            obj.__dict__["saved"] = Operator.objects.select_for_update().values(*LOGGED).get(pk=obj.pk)
        super().save_model(request, obj, form, change)

    def log_addition(self, request: HttpRequest, object: Operator, message: Any) -> Any:
        self._record(request, object, "created", {"role": object.role})
        return super().log_addition(request, object, message)

    def log_change(self, request: HttpRequest, object: Operator, message: Any) -> Any:
        saved = object.__dict__.get("saved")
        if saved is None:
            # The password page does not call save_model.
            self._record(request, object, "changed_password", {})
        elif changed := [name for name in LOGGED if getattr(object, name) != saved[name]]:
            before = {name: saved[name] for name in changed}
            self._record(request, object, "changed", {n: getattr(object, n) for n in changed}, before)
        return super().log_change(request, object, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Operator]) -> Any:
        for operator in queryset:
            self._record(request, operator, "deleted", {}, {"role": operator.role})
        return super().log_deletions(request, queryset)

    @admin.action(description="Sign out everywhere", permissions=["change"])
    def sign_out_everywhere(self, request: HttpRequest, queryset: QuerySet[Operator]) -> None:
        for operator in queryset:
            accounts.end_sessions(operator, by=actor_of(request), at=timezone.now())
        messages.success(request, f"Signed out everywhere: {', '.join(map(str, queryset))}.")

    @admin.action(description="Turn off two-factor sign-in", permissions=["change"])
    def turn_off_two_factor(self, request: HttpRequest, queryset: QuerySet[Operator]) -> None:
        """For somebody who has lost the device."""
        for operator in queryset:
            second_factor.turn_off(operator, by=actor_of(request), at=timezone.now())
        messages.success(request, f"Two-factor sign-in is off: {', '.join(map(str, queryset))}.")

    def _record(
        self,
        request: HttpRequest,
        operator: Operator,
        act: str,
        details: dict[str, Any],
        before: dict[str, Any] | None = None,
    ) -> None:
        by, at = actor_of(request), timezone.now()
        action_taken.send(Operator, by=by, act=act, target=operator, at=at, details=details, before=before)


class TokenForm(TokenModelForm):
    class Meta:
        model = Token
        fields = ("name", "scope", "queue_name", "expires_at")
        labels = {"queue_name": "Queue", "expires_at": "Expires"}
        help_texts = {
            "scope": "Read: may see all. Write: may also change all. Submit: may only submit lists.",
            "queue_name": "With the scope submit: the only queue. Empty: any.",
            "expires_at": "Empty: never.",
        }

    def clean_name(self) -> str:
        return str(self.cleaned_data["name"]).strip()

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise forms.ValidationError("This time has passed.")
        return expires_at

    def clean(self) -> Any:
        cleaned = super().clean()
        if self.cleaned_data.get("queue_name") and self.cleaned_data.get("scope") != Scope.SUBMIT:
            self.add_error("queue_name", "Only a token with the scope submit can have a queue.")
        return cleaned


@admin.register(Token)
class TokenAdmin(RefusesUnknown, TokenModelAdmin):
    form = TokenForm
    list_display = ("name", "scope", "operator", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("scope", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("operator",)
    search_fields = ("^name",)
    shown = (
        "name",
        "scope",
        "queue_name",
        "operator",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
    actions = ("revoke",)

    def get_fields(self, request: HttpRequest, obj: Token | None = None) -> Any:
        return TokenForm.Meta.fields if obj is None else self.shown

    def get_readonly_fields(self, request: HttpRequest, obj: Token | None = None) -> Any:
        return () if obj is None else self.shown

    def has_delete_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        # Revoked tokens stay, because the activity log refers to them.
        return False

    def save_model(self, request: HttpRequest, obj: Token, form: Any, change: bool) -> None:
        if change:
            return
        issued, secret = tokens.issue(
            name=obj.name,
            scope=obj.scope,
            by=actor_of(request),
            at=timezone.now(),
            operator=signed_in(request),
            expires_at=obj.expires_at,
            queue_name=obj.queue_name,
        )
        obj.__dict__.update(issued.__dict__, issued_secret=secret)

    def response_add(
        self, request: HttpRequest, obj: Token, post_url_continue: str | None = None
    ) -> HttpResponse:
        # Shown in this response: a message would put the secret into a cookie until the next page.
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Token issued",
            "token": obj,
            "secret": obj.__dict__["issued_secret"],
        }
        return TemplateResponse(
            request, "operators/token_issued.html", context, headers={"Cache-Control": "no-store"}
        )

    @admin.action(description="Revoke", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Token]) -> None:
        for token in queryset:
            try:
                tokens.revoke(token, by=actor_of(request), at=timezone.now())
            except AlreadyRevoked as error:
                messages.info(request, f"{token}: {error}")
            else:
                messages.success(request, f"{token} is revoked.")
