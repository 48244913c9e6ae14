from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LogoutView
from django.urls import path
from django.views.generic import RedirectView

from operators import oidc
from operators.sign_in import SignIn

urlpatterns = [
    path("sign-in/", SignIn.as_view(), name="sign_in"),
    path("sign-in/oidc/", oidc.begin, name="oidc_begin"),
    path("sign-in/oidc/finish/", oidc.finish, name="oidc_finish"),
    path("sign-out/", LogoutView.as_view(), name="sign_out"),
    # One door for all: the admin's own form would be a second one to guard.
    path("admin/login/", login_not_required(RedirectView.as_view(pattern_name="sign_in", query_string=True))),
]
