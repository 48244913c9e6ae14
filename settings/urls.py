"""All addresses: the dashboard and the admin under their own, the API at the root."""

from importlib.util import find_spec

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(url="/dashboard/"), name="root"),
    path("", include("operators.urls")),
    path("admin/", admin.site.urls),
]
for _face in ("dashboard.urls", "api.urls"):
    if find_spec(_face):
        urlpatterns.append(path("", include(_face)))
