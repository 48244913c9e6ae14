"""Sign-ins and failed attempts, for admins, who can lift a lock-out before its 15 minutes are over."""

import axes.admin  # noqa: F401 (it registers its pages: first, so that they can be taken away)
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from axes.utils import reset
from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest

from scheduling import activity, store

from .base import ByKey, ReadOnly, Rows, actor_of

for model in (AccessAttempt, AccessFailureLog, AccessLog):
    admin.site.unregister(model)


class SignInLog(ReadOnly, ByKey):
    search_help_text = "The exact name that was typed."

    def search(self, queryset: Rows, text: str) -> Rows:
        return queryset.filter(username=text)


@admin.register(AccessAttempt)
class FailedSignInAdmin(SignInLog):
    list_display = ("attempt_time", "username", "ip_address", "failures_since_start", "locked_out")
    fields = ("attempt_time", "username", "ip_address", "user_agent", "failures_since_start", "locked_out")
    readonly_fields = ("locked_out",)
    actions = ("let_in_again",)

    @admin.display(description="locked out", boolean=True)
    def locked_out(self, attempt: AccessAttempt) -> bool:
        return bool(attempt.failures_since_start >= settings.AXES_FAILURE_LIMIT)

    @admin.action(description="Unlock", permissions=["view"])
    def let_in_again(self, request: HttpRequest, queryset: Rows) -> None:
        """Forget the failed attempts of a name from an address, in any browser."""
        for username, address in {(row.username, row.ip_address) for row in queryset}:
            with store.write():
                count = reset(username=username, ip=address)
                attempt = {"username": username, "address": address}
                activity.record(actor_of(request), "let_in_again", at=store.now(), count=count, after=attempt)
            messages.success(request, f"{username} may try again from {address}.")


@admin.register(AccessLog)
class SignInAdmin(SignInLog):
    list_display = ("attempt_time", "username", "ip_address", "logout_time")
    fields = ("attempt_time", "username", "ip_address", "user_agent", "logout_time")
