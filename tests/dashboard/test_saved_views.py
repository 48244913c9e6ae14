"""Columns that are chosen, and filters that are saved."""

import pytest

from dashboard.inputs.columns import Choosable
from dashboard.tables import listings, totals
from dashboard.tables.columns import CARDS
from operators.models import Operator, SavedView
from operators.saved_views import MOST
from scheduling import models, store
from scheduling.core import clock
from tests.dashboard.conftest import squeezed

pytestmark = pytest.mark.django_db

TABLES: list[type[Choosable]] = [
    listings.TaskTable,
    listings.PlaceTable,
    listings.MinuteTable,
    listings.DrillDownTable,
    listings.FailureTable,
    listings.QueueTable,
    totals.DayOfWindowsTable,
]


def heads(page: str) -> list[str]:
    """The heads of the page's table of tasks."""
    return [
        head.split(">")[-1].strip()
        for head in page.split("<thead>")[1].split("</thead>")[0].split("</th>")[:-1]
    ]


def save(client, name: str, query: str, page: str = "tasks"):
    posted = {"page": page, "name": name, "query": query}
    return client.post("/dashboard/account/views/", posted, follow=True)


def test_columns_follow_the_address_and_are_remembered_for_the_session(place, sign_in):
    place([1], name="a list")
    client = sign_in("viewer")

    usual = heads(client.get("/dashboard/tasks/").content.decode())
    chosen = heads(client.get("/dashboard/tasks/?columns=queue&columns=reference").content.decode())
    later = heads(client.get("/dashboard/tasks/").content.decode())
    reset = heads(client.get("/dashboard/tasks/?columns=queue&columns=*").content.decode())

    assert usual == ["Task", "State", "Queue", "IDs", "Progress", "Failed", "Done at", "Created", "By"]
    assert chosen == later == ["Task", "Queue", "Reference"]
    assert reset == usual


def test_columns_that_do_not_exist_are_refused_by_name(place, sign_in):
    answer = sign_in("viewer").get("/dashboard/tasks/?columns=queue&columns=nosuch")

    assert answer.status_code == 400
    assert "nosuch" in answer.content.decode()


@pytest.mark.parametrize("table", TABLES)
def test_columns_that_are_hidden_at_first_exist(table):
    assert set(table.hidden_at_first) <= {name for name, _ in table.choosable()}
    assert all(label for _, label in table.choosable())


@pytest.mark.parametrize("table", TABLES)
def test_tables_become_cards_on_a_phone_and_are_ordered_by_their_page(table):
    """django-tables2 doesn't inherit the Meta of a parent: each table names it."""
    assert table._meta.attrs == CARDS
    assert table._meta.template_name == "dashboard/table.html"
    assert not table._meta.orderable


def test_columns_can_be_chosen_on_every_page_with_rows(place, fail, sign_in):
    task = place([1, 2, 3], name="a list", at=store.now() - 2 * clock.QUARTER)
    fail(task)
    minute = f"{task.first_minute_at:%Y-%m-%dT%H:%MZ}"
    client = sign_in("viewer")

    for page in (
        "tasks/",
        f"tasks/{task.pk}/",
        "queues/",
        "failures/?queue=default",
        f"minutes/{minute}/",
        f"drill-down/?minute={minute}&queue=default",
        f"history/{task.first_minute_at:%Y-%m-%d}/",
    ):
        answer = client.get(f"/dashboard/{page}")
        assert answer.status_code == 200, page
        assert answer.context["columns"].boxes, page
        assert "Columns to show" in answer.content.decode(), page


def test_columns_keep_the_filter_and_begin_at_the_first_page(place, sign_in):
    place([1], name="a list")

    page = sign_in("viewer").get("/dashboard/tasks/?state=placed&before=900000&size=25").content.decode()
    form = page.split("Columns to show")[0].split("<form")[-1]

    assert 'name="state" value="placed"' in form
    assert 'name="size" value="25"' in form
    assert "before" not in form


def test_saved_view_leads_to_its_filter_and_is_marked_there(place, sign_in):
    place([1], name="a list")
    client = sign_in("viewer")
    assert "Save this view" not in client.get("/dashboard/tasks/").content.decode()
    assert "Save this view" in client.get("/dashboard/tasks/?state=placed&queue=").content.decode()

    page = save(
        client, " Placed  lists ", "state=placed&queue=&before=12&columns=ids&columns=by"
    ).content.decode()

    assert SavedView.objects.get().name == "Placed lists"
    assert SavedView.objects.get().query == "columns=by&columns=ids&state=placed"
    assert (
        '<a class="chip" href="/dashboard/tasks/?columns=by&amp;columns=ids&amp;state=placed" aria-current="true">'
        in page
    )
    assert heads(page) == ["Task", "IDs", "By"]
    assert "Delete this view" in page
    assert "Save this view" not in page


def test_saved_view_of_a_name_is_replaced(queue, sign_in):
    client = sign_in("viewer")

    save(client, "mine", "state=placed")
    save(client, "mine", "state=done")

    assert SavedView.objects.get().query == "state=done"


def test_saved_views_are_private_to_their_owner(queue, sign_in):
    save(sign_in("operator"), "mine", "state=placed")
    view = SavedView.objects.get()
    client = sign_in("viewer")

    page = client.get("/dashboard/tasks/").content.decode()
    answer = client.post(f"/dashboard/account/views/{view.pk}/delete/")

    assert ">mine<" not in page
    assert answer.status_code == 404
    assert SavedView.objects.exists()


def test_deleted_view_is_gone_and_its_filter_stays(queue, sign_in):
    client = sign_in("viewer")
    save(client, "mine", "state=placed")

    answer = client.post(f"/dashboard/account/views/{SavedView.objects.get().pk}/delete/")

    assert answer.url == "/dashboard/tasks/?state=placed"
    assert not SavedView.objects.exists()
    assert list(models.Activity.objects.order_by("pk").values_list("verb", flat=True)) == [
        "saved_view",
        "deleted_view",
    ]


@pytest.mark.parametrize(("name", "text"), [("  ", "needs a name"), ("x" * 61, "needs a name")])
def test_view_without_a_usable_name_is_refused(queue, sign_in, name, text):
    page = squeezed(save(sign_in("viewer"), name, "state=placed"))

    assert text in page
    assert not SavedView.objects.exists()


def test_views_of_a_page_are_limited(queue, sign_in):
    client = sign_in("viewer")
    for number in range(MOST):
        save(client, f"view {number}", "state=placed")

    page = save(client, "one more", "state=placed").content.decode()

    assert "Delete one first" in page
    assert SavedView.objects.count() == MOST


def test_saved_view_of_a_page_without_views_is_refused(queue, sign_in):
    assert save(sign_in("viewer"), "mine", "", page="account").status_code == 400


@pytest.mark.parametrize(
    ("page", "query"), [("tasks", "queue=gone"), ("failures", "queue=gone"), ("activity", "nosuch=1")]
)
def test_saved_view_that_is_no_longer_valid_opens_with_a_message(queue, sign_in, page, query):
    client = sign_in("viewer")
    viewer = Operator.objects.get(username="a viewer")
    SavedView.objects.create(operator=viewer, page=page, name="old", query=query, created_at=store.now())

    answer = client.get(f"/dashboard/{page}/?{query}", follow=True)

    assert answer.redirect_chain == [(f"/dashboard/{page}/", 302)]
    assert "The view “old” can&#x27;t be shown any more." in answer.content.decode()
    assert client.get(f"/dashboard/{page}/?{query}x").status_code == 400
