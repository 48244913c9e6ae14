"""Every page of the admin, as everybody."""

import re
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.urls import reverse

from operators.models import Operator
from operators.roles import needed_for

pytestmark = pytest.mark.django_db


def pages() -> Iterator[tuple[type, str, str]]:
    """Model, kind of page, address, for each page of each registered model."""
    for model in admin.site._registry:
        names = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield model, "list", reverse(f"{names}_changelist")
        yield model, "add", reverse(f"{names}_add")
        row = model._default_manager.order_by("pk").only("pk").first()
        if row is not None:
            for kind in ("change", "delete", "history"):
                yield model, kind, reverse(f"{names}_{kind}", args=[row.pk])


OTHERS = ["admin:index", "admin:password_change", "admin:scheduling_task_cancel"]
VERBS = {"list": "view", "change": "view", "history": "view", "add": "add", "delete": "delete"}


def test_anonymous_visitors_see_no_admin_page(client, deck):
    for address in [page[2] for page in pages()] + [reverse(name) for name in OTHERS]:
        answer = client.get(address, follow=True)
        assert answer.redirect_chain[-1][0].startswith("/sign-in/"), address


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_roles_see_the_admin_pages_that_the_table_allows(signed_in, deck, role):
    client = signed_in(role)
    operator = Operator.objects.get(username=role)
    shown_keys = 0
    for model, kind, address in pages():
        permission = f"{model._meta.app_label}.{VERBS[kind]}_{model._meta.model_name}"
        status = client.get(address, follow=kind == "history").status_code
        if not operator.may(needed_for(permission)):
            assert status == 403, (role, address)
        elif kind in ("list", "change", "history"):
            assert status == 200, (role, address)
            shown_keys += 1
        else:
            # What nobody may is refused to those as well who may change other things.
            assert status in (200, 403), (role, address)
    assert shown_keys >= 20


def test_viewer_changes_nothing_in_the_admin(signed_in, deck):
    client = signed_in("viewer")
    for _, kind, address in pages():
        if kind == "history":
            continue
        answer = client.post(
            address, {"post": "yes", "name": "x", "action": "cancel_ticked", "_selected_action": "1"}
        )
        assert answer.status_code in (200, 302, 403), address
        if answer.status_code == 200:
            assert kind == "list", address
    assert client.get(reverse("admin:scheduling_task_cancel")).status_code == 403
    assert client.post(reverse("admin:scheduling_task_cancel"), {"number": "1"}).status_code == 403
    deck.task.refresh_from_db()
    assert (deck.task.name, deck.task.cancelled_at) == ("spring letters", None)


def test_rows_owned_by_code_cannot_be_added_or_deleted_in_the_admin(signed_in, deck):
    client = signed_in("admin")
    closed = {
        "django_q": ("schedule", "ormq", "success", "failure"),
        "scheduling": ("window", "assignment", "activity", "heartbeat"),
    }
    for app, models in closed.items():
        for model in models:
            row = admin.site._registry
            (result,) = [m for m in row if m._meta.label_lower == f"{app}.{model}"]
            key = result._default_manager.only("pk").first().pk
            names = f"admin:{app}_{model}"
            assert client.get(reverse(f"{names}_add")).status_code == 403
            assert client.post(reverse(f"{names}_add"), {"name": "x"}).status_code == 403
            assert client.post(reverse(f"{names}_delete", args=[key]), {"post": "yes"}).status_code == 403
            assert client.post(reverse(f"{names}_change", args=[key]), {"name": "x"}).status_code == 403
    assert (
        client.post(reverse("admin:scheduling_task_delete", args=[deck.task.pk]), {"post": "yes"}).status_code
        == 403
    )


def test_admin_lists_do_not_offer_bulk_delete(signed_in, deck):
    client = signed_in("admin")
    for model in admin.site._registry:
        if model._meta.app_label in ("scheduling", "django_q", "operators"):
            page = client.get(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
            assert "delete_selected" not in page.content.decode(), model


def test_every_link_in_the_admin_works(signed_in, deck):
    client = signed_in("admin")
    links = set()
    for model, kind, address in pages():
        if kind in ("list", "change") and model._meta.app_label in ("scheduling", "django_q"):
            matches = re.findall(
                r'href="(/(?:admin|dashboard)/[^"#]*)"', client.get(address).content.decode()
            )
            links.update(link.replace("&amp;", "&") for link in matches)
    assert len(links) > 40
    for link in sorted(links):
        answer = client.get(link, follow=True)
        assert answer.status_code == 200, link
        assert not any("e=1" in where for where, _ in answer.redirect_chain), link


def test_admin_pages_have_no_inline_scripts_or_styles(signed_in, deck):
    client = signed_in("admin")
    for _, kind, address in pages():
        if kind in ("list", "change"):
            page = client.get(address).content.decode()
            assert " style=" not in page, address
            assert "<style" not in page, address
            assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)", page), address
            assert not re.search(r'\son\w+="', page), address


def test_unavailable_task_actions_in_the_admin_show_the_reason(signed_in, deck):
    address = reverse("admin:scheduling_task_change", args=[deck.task.pk])
    client = signed_in("operator")
    assert b"aria-disabled" not in client.get(address).content
    client.post(f"/dashboard/tasks/{deck.task.pk}/cancel/")

    page = client.get(address).content.decode()

    for name in ("Replace the list", "Cancel"):
        assert re.search(f'aria-disabled="true"[^>]* title="It is cancelled."[^>]*>{name}<', page), name
