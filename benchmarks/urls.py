"""The addresses of the project, and one whose view does nothing: what a poll is measured against."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def empty(request: HttpRequest) -> HttpResponse:
    """Session and user are read, and nothing else."""
    return HttpResponse(str(request.user.pk))


urlpatterns = [path("empty/", empty), path("", include("settings.urls"))]
