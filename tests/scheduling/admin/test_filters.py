"""A filter that the admin can't read is refused: Django's own shows the whole list instead, and acts on it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib import admin
from django.urls import reverse

from scheduling import models, store
from scheduling.lists import external_ids
from tests.scheduling.placed import make_queue, place

pytestmark = pytest.mark.django_db

LISTS = [
    reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    for model in admin.site._registry
]


@pytest.mark.parametrize("address", LISTS)
@pytest.mark.parametrize("name", ["statee", "e", "pk__lt"])
def test_admin_list_refuses_unknown_parameters(signed_in, deck, address, name):
    answer = signed_in("admin").get(address, {name: "1"})

    assert answer.status_code == 400
    assert repr(name) in answer.context["exception"]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("scheduling/task/?state=nosuch", "nosuch"),
        ("scheduling/task/?queue=x", "queue"),
        ("scheduling/task/?p=x", "p:"),
        ("scheduling/activity/?face=nosuch", "nosuch"),
        ("scheduling/activity/?object_kind=nosuch", "nosuch"),
        ("scheduling/activity/?object_id=99999999999999999999", "object_id"),
        ("scheduling/assignment/?task=99999999999999999999", "task"),
        ("scheduling/assignment/?bucket=99999999999999999999", "bucket"),
        ("operators/operator/?role__exact=nosuch", "nosuch"),
        ("operators/operator/?is_active__exact=nosuch", "nosuch"),
        ("operators/token/?scope__exact=nosuch", "nosuch"),
        ("operators/token/?revoked_at__isempty=nosuch", "revoked_at"),
    ],
)
def test_admin_list_refuses_unknown_filter_values_by_name(signed_in, deck, query, word):
    answer = signed_in("admin").get(f"/admin/{query}")

    assert answer.status_code == 400
    assert word in answer.context["exception"]
    assert b"Cancel all that match" not in answer.content


@pytest.mark.parametrize("address", LISTS)
@pytest.mark.parametrize("digits", ["9" * 20, "0" * 30 + "9", "²", "-" + "9" * 20])
def test_admin_search_and_paging_survive_long_numbers(signed_in, deck, address, digits):
    client = signed_in("admin")

    assert client.get(address, {"q": digits}).status_code in (200, 400)
    assert client.get(address, {"p": digits}).status_code in (200, 400)
    assert client.get(f"{address}{'9' * 20}/change/").status_code in (302, 404)


@pytest.mark.parametrize("address", LISTS)
@pytest.mark.parametrize("query", ["p=1&p=2", "p=%00"])
def test_admin_list_refuses_repeated_or_undecodable_parameters(signed_in, deck, address, query):
    """A list that takes the last of two, or shows all with a warning above, shows what nobody asked for."""
    answer = signed_in("admin").get(f"{address}?{query}")

    assert answer.status_code == 400
    assert answer.context["exception"]


def test_name_page_after_a_deleted_user_is_refused(signed_in):
    models.User.objects.bulk_create(
        models.User(id=number, name=f"name {number:03d}", created_at=store.now()) for number in range(1, 151)
    )
    client = signed_in("admin")
    first = client.get("/admin/scheduling/user/?q=name").context["cl"]
    assert "p=100" in first.later_url
    assert client.get(f"/admin/scheduling/user/{first.later_url}").context["cl"].result_list[0].pk == 101

    models.User.objects.filter(pk=100).delete()

    assert client.get(f"/admin/scheduling/user/{first.later_url}").status_code == 400


MINUTE = datetime(2031, 3, 5, 12, 15, tzinfo=UTC)


def test_admin_search_finds_text_ids_that_look_like_numbers(signed_in):
    queue = make_queue("default", rpm=5)
    place(queue, {MINUTE: [8]}, at=MINUTE)
    place(queue, {MINUTE + timedelta(minutes=1): list(external_ids.number(["007", "8", "+4917"]))}, at=MINUTE)
    store.insert_users([-3, -2, -1, 8], at=MINUTE)
    client = signed_in("admin")

    def matches(kind, text):
        rows = client.get(f"/admin/scheduling/{kind}/", {"q": text}).context["cl"].result_list
        return {row.pk if kind == "user" else row.user_id for row in rows}

    page = client.get("/admin/scheduling/user/", {"q": "+4917"}).content.decode()
    assert ">+4917</a>" in page
    assert ">-3<" not in page
    # A number that was never received gives way to the text; where both were, users are both.
    assert [matches("user", text) for text in ("007", "8", "+4917", "7")] == [{-1}, {8, -2}, {-3}, set()]
    assert [matches("assignment", text) for text in ("007", "8", "+4917", "7")] == [{-1}, {8}, {-3}, set()]
