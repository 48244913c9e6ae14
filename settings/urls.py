"""All addresses: the dashboard and the admin under their own prefixes, the API at the root."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(url="/dashboard/"), name="root"),
    path("", include("operators.urls")),
    path("", include("dashboard.urls")),
    path("admin/", admin.site.urls),
    # Last: it answers every path below its own names.
    path("", include("api.urls")),
]

# Pages for people; for addresses of the API, api.middleware turns them into problems.
handler400 = "dashboard.views.errors.bad_request"
handler404 = "dashboard.views.errors.not_found"
handler500 = "dashboard.views.errors.failed"
