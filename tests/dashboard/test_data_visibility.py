"""Data that travel with IDs are on no page and in no export of somebody who may not see them: DATA_VISIBLE_TO."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from scheduling import models
from scheduling.models import HandlerKind
from tests.dashboard.test_roles import addresses, filled_in, things  # noqa: F401
from tests.dashboard.test_upload_data import write_lists
from tests.scheduling.admin.test_pages import pages as admin_pages

pytestmark = pytest.mark.django_db

MARK = "Betelgeuse"
CSV = f"id,name,city\n7,Ann,{MARK}\n8,Bo,{MARK}\n"


def upload(client, task_name: str):
    file = SimpleUploadedFile("a.csv", CSV.encode(), content_type="text/csv")
    fields = {"queue": "default", "task_name": task_name, "data": "*", "file": file}
    return client.post("/dashboard/upload/", fields).url


@pytest.fixture
def with_data(things, client, make_operator) -> dict[str, str]:  # noqa: F811
    """The parameters of routes, which lead to a task, an ID and a preview with data."""
    queue = {"handler": HandlerKind.WEBHOOK, "webhook_url": "https://example.com/{{data.city}}"}
    models.Queue.objects.filter(name="default").update(**queue)
    client.force_login(make_operator("operator", username="who uploads"))
    client.post(upload(client, "with data"), {"queue": "default"})
    write_lists()
    task = models.Task.objects.exclude(data_columns=None).get()
    draft_id = upload(client, "a preview").rstrip("/").rpartition("/")[2]
    return {**things, "<int:task_id>": str(task.pk), "<int:draft_id>": draft_id}


def shows_data(client, address: str) -> bool:
    answer = client.get(address)
    return MARK.encode() in (answer.getvalue() if answer.streaming else answer.content)


@pytest.mark.parametrize(
    ("visible_to", "role"), [("operator", "viewer"), ("admin", "viewer"), ("admin", "operator")]
)
def test_data_are_on_no_page_of_those_who_may_not_see_them(with_data, sign_in, settings, visible_to, role):
    settings.DATA_VISIBLE_TO = visible_to
    client = sign_in(role)
    places = [filled_in(route, with_data) for route, _ in addresses() if "/discard" not in route]
    places += [f"{place}?format={form}" for place in places if "?" not in place for form in ("csv", "ndjson")]
    places += [address for _, _, address in admin_pages()]
    assert [place for place in places if shows_data(client, place)] == []


@pytest.mark.parametrize(
    ("visible_to", "role"), [("viewer", "viewer"), ("operator", "operator"), ("admin", "admin")]
)
def test_data_are_shown_to_those_who_may_see_them(with_data, sign_in, settings, visible_to, role):
    settings.DATA_VISIBLE_TO = visible_to
    client = sign_in(role)
    task = f"/dashboard/tasks/{with_data['<int:task_id>']}/"
    assert shows_data(client, "/dashboard/ids/7/")
    assert shows_data(client, f"{task}?format=csv")
    preview = f"/dashboard/upload/{with_data['<int:draft_id>']}/"
    assert shows_data(client, preview) == (role != "viewer")
