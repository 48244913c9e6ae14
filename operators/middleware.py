"""Nobody gets in unseen: what is neither the API nor said to be open needs a signed-in operator."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse

API = "ninja"


class SignInRequired(LoginRequiredMiddleware):
    """Django's own, which leaves out views marked `login_not_required`; the API has doors of its own."""

    def process_view(
        self, request: HttpRequest, view_func: Callable, view_args: tuple, view_kwargs: dict
    ) -> HttpResponse | None:
        # The API answers 401 and takes tokens; a redirect to a page would be no answer to a program.
        if API in request.resolver_match.app_names:
            return None
        return super().process_view(request, view_func, view_args, view_kwargs)

    def handle_no_permission(self, request: HttpRequest, view_func: Callable) -> HttpResponse:
        answer = super().handle_no_permission(request, view_func)
        if request.headers.get("HX-Request") == "true":
            # A redirect would put the sign-in page into the fragment's place.
            return HttpResponse(
                status=204, headers={"HX-Redirect": request.headers.get("HX-Current-URL", "/")}
            )
        return answer


def client_address(request: HttpRequest) -> str:
    """The address that a request came from, which failed sign-ins are counted by.

    X-Forwarded-For counts only as far as the deployment's own proxies wrote it: TRUSTED_PROXIES of them.
    """
    peer = request.META.get("REMOTE_ADDR", "")
    if not settings.TRUSTED_PROXIES:
        return peer
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
    return hops[-settings.TRUSTED_PROXIES] if len(hops) >= settings.TRUSTED_PROXIES and hops[0] else peer
