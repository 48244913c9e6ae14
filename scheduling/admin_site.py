"""The admin as a whole: its name, and the time zone of whoever looks at it."""

from collections.abc import Callable
from functools import wraps
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.contrib import admin
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

# What is ours comes first; the rest by name.
ORDER = {"scheduling": 0, "operators": 1}


class Site(admin.AdminSite):
    site_header = site_title = "Quarterdeck"
    index_title = "Admin"
    site_url = "/dashboard/"
    # The same sections stand above each page, in a row: a list needs the width.
    enable_nav_sidebar = False

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict]:
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: (ORDER.get(app["app_label"], len(ORDER)), app["name"]))

    def password_change(self, request: HttpRequest, extra_context: dict | None = None) -> HttpResponse:
        # One door for all: Django's own leaves no line in the activity log.
        return redirect("account")

    def admin_view(self, view: Callable, cacheable: bool = False) -> Callable:
        inner = super().admin_view(view, cacheable)

        @wraps(view)
        def in_zone(request: HttpRequest, *args, **kwargs) -> HttpResponse:
            # Rendered here, while the zone holds: a TemplateResponse would be after the view.
            with timezone.override(_zone(request.user)):
                response = inner(request, *args, **kwargs)
                return response.render() if hasattr(response, "render") else response

        return in_zone


class Config(AdminConfig):
    default_site = "scheduling.admin_site.Site"


def _zone(user) -> ZoneInfo:
    try:
        return ZoneInfo(getattr(user, "time_zone", "") or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
