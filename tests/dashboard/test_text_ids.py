"""IDs that are text on pages: as their owner wrote them, and never by the number that stands for them."""

import pytest
from django.urls import reverse

from scheduling import models
from tests.api.conftest import ApiClient, queue, write_lists  # noqa: F401

pytestmark = pytest.mark.django_db
TEXT = "ann/b@example.com"


@pytest.fixture
def task(make_token, queue, write_lists) -> models.Task:  # noqa: F811
    api = ApiClient(make_token("write"))
    body = f"id,first_name\n{TEXT},Annabel\n"
    answer = api.list(body, query="?task_name=x&id_type=text&data=*", type="text/csv")
    assert answer.status_code == 201, answer.content
    write_lists()
    return models.Task.objects.get()


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_history_of_a_text_id_shows_the_text(client, make_operator, task, role):
    client.force_login(make_operator(role))
    result = client.get(reverse("find"), {"q": f" {TEXT} "})
    assert result.status_code == 302
    assert result["Location"] == "/dashboard/ids/t1/"
    page = client.get(result["Location"]).content.decode()
    assert TEXT in page
    assert ">-1<" not in page
    assert "first_name" in page
    assert ("Annabel" in page) == (role == "operator")


def test_lists_and_exports_show_the_text(client, make_operator, task):
    client.force_login(make_operator())
    minute = task.first_minute_at.strftime("%Y-%m-%dT%H:%MZ")
    for address in (reverse("task", args=[task.pk]), reverse("minute", args=[minute])):
        page = client.get(address).content.decode()
        assert f">{TEXT}</a>" in page
        assert 'href="/dashboard/ids/t1/"' in page
        exported = client.get(f"{address}?format=csv")
        assert f"\n{TEXT}," in exported.getvalue().decode().replace("\r", "")
