"""Signs of life for whoever watches the service, and numbers for Prometheus."""

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from .answers import answer
from .auth import READERS, behind
from .problems import problem


@csrf_exempt
def live(request: HttpRequest) -> HttpResponse:
    """This process answers. Open to all: what starts and stops containers has no token."""
    return answer({"status": "live"})


@csrf_exempt
def ready(request: HttpRequest) -> HttpResponse:
    """What the service needs is there. Open to all, so it says no more than which check failed."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return problem("not-ready", "The database is locked or gone.", checks={"database": False})
    return answer({"status": "ready", "checks": {"database": True}})


@csrf_exempt
@behind(READERS)
def metrics(request: HttpRequest) -> HttpResponse:
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
