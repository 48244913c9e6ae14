"""The admin site: its name, its order, and the time zone of the operator who looks at it."""

from functools import wraps
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.contrib import admin
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import SimpleTemplateResponse
from django.utils import timezone

# Our own apps come first, the others by name.
ORDER = {"scheduling": 0, "operators": 1}


class Site(admin.AdminSite):
    site_header = site_title = "Quarterdeck"
    index_title = "Admin"
    site_url = "/dashboard/"
    # The sections are in a row above each page, since lists need the width.
    enable_nav_sidebar = False

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: (ORDER.get(app["app_label"], len(ORDER)), app["name"]))

    def password_change(  # type: ignore[override]  # the stubs expect a page, and this is a redirect
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # Passwords are changed on one page: Django's own leaves no entry in the activity log.
        return redirect("account")

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        inner = super().admin_view(view, cacheable)

        @wraps(view)
        def in_zone(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            # A TemplateResponse would be rendered after the view, when the zone is no longer set.
            with timezone.override(_zone(request.user)):
                response = inner(request, *args, **kwargs)
                return response.render() if isinstance(response, SimpleTemplateResponse) else response

        return in_zone


class Config(AdminConfig):
    default_site = "scheduling.admin_site.Site"


def _zone(user: object) -> ZoneInfo:
    try:
        return ZoneInfo(getattr(user, "time_zone", "") or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
