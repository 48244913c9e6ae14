"""The upload page with columns that travel with each ID, and with IDs that are text."""

import csv
import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from scheduling import models, store
from scheduling.intake import acceptance, allocation
from scheduling.lists import record_lists
from tests.dashboard.conftest import squeezed

pytestmark = pytest.mark.django_db
CSV = "id,first_name,city\n7,Ann,Köln\n8,<b>Bo</b>,Bonn\n9,Cy,\n10,Di,Ulm\n"


def upload(client, text: str = CSV, **fields):
    file = SimpleUploadedFile("a.csv", text.encode(), content_type="text/csv")
    return client.post("/dashboard/upload/", {"queue": "default", "task_name": "", **fields, "file": file})


@pytest.fixture
def webhook(queue) -> models.Queue:
    models.Queue.objects.filter(pk=queue.pk).update(
        handler="webhook",
        webhook_url="https://example.com/u/{{id}}",
        webhook_headers={"Authorization": "Bearer of-the-vendor"},
        webhook_body='{"hello": "{{data.first_name}}"}',
    )
    queue.refresh_from_db()
    return queue


def write_lists() -> None:
    while models.Segment.objects.unwritten().exists():
        allocation.write_segments(store.now)


def test_preview_shows_the_columns_and_the_first_requests(webhook, sign_in):
    client = sign_in()
    page = squeezed(client.get(upload(client, data="first_name").url))
    assert "columns not kept" in page
    assert "city" in page
    assert "POST https://example.com/u/7" in page
    assert "{&quot;hello&quot;:&quot;&lt;b&gt;Bo&lt;/b&gt;&quot;}" in page
    assert "https://example.com/u/10" not in page
    assert "of-the-vendor" not in page
    assert "needs first_name, and the list has it" in page


def test_button_and_chart_of_a_preview_come_before_its_requests(webhook, sign_in):
    client = sign_in()
    page = client.get(upload(client, data="*").url).content.decode()
    order = [page.index(part) for part in ('id="place"', 'id="plan-plot"', "The first requests")]
    assert order == sorted(order)


def test_placed_list_has_the_data_of_its_preview(webhook, sign_in):
    client = sign_in()
    address = upload(client, data="*").url
    answer = client.post(address, {"queue": "default"})
    assert answer.status_code == 302, answer.content
    task = models.Task.objects.get()
    assert task.data_columns == ["first_name", "city"]
    write_lists()
    assert record_lists.read(task.pk, [7, 10]) == {
        7: {"first_name": "Ann", "city": "Köln"},
        10: {"first_name": "Di", "city": "Ulm"},
    }


def test_list_that_lacks_a_needed_column_can_not_be_placed(webhook, sign_in):
    client = sign_in()
    address = upload(client, data="city").url
    assert "needs the column first_name" in client.get(address).content.decode()
    assert client.post(address, {"queue": "default"}).status_code == 200
    assert not models.Task.objects.exists()


def test_text_ids_by_the_page(queue, sign_in):
    client = sign_in()
    address = upload(client, "id\nann@x\nbo@x\n", id_type="text").url
    page = client.get(address).content.decode()
    assert "ann@x" in page
    assert not models.User.objects.exists()
    client.post(address, {"queue": "default"})
    write_lists()
    assert models.Task.objects.get().id_type == "text"
    assert models.ExternalId.objects.count() == models.User.objects.count() == 2


def test_discarded_preview_of_text_ids_leaves_no_user_behind(queue, sign_in):
    client = sign_in()
    address = upload(client, "id,n\nann@x,1\nbo@x,2\n", id_type="text", data="*").url
    client.post(f"{address}discard/")
    for table in (models.User, models.ExternalId, models.DataChunk, models.IdList):
        assert not table.objects.exists()


def test_ids_left_out_of_a_preview_keep_the_data_of_the_others(queue, sign_in):
    client = sign_in()
    first = upload(client, "id\n8\n").url
    client.post(first, {"queue": "default"})
    write_lists()
    address = upload(client, data="*").url
    smaller = client.post(f"{address}leave-out/").url
    client.post(smaller, {"queue": "default"})
    write_lists()
    task = models.Task.objects.order_by("pk").last()
    assert {user: item["city"] for user, item in record_lists.read(task.pk, [7, 8, 9, 10]).items()} == {
        7: "Köln", 9: "", 10: "Ulm",
    }  # fmt: skip


def test_list_of_text_ids_is_replaced_by_the_page(queue, sign_in):
    client = sign_in()
    client.post(upload(client, "id,n\na,1\nb,2\n", id_type="text", data="*").url, {"queue": "default"})
    write_lists()
    task = models.Task.objects.get()
    answer = client.post(f"/dashboard/tasks/{task.pk}/replace/", {"payload": "a\nc"})
    assert client.post(answer.url, {}).status_code == 302
    write_lists()
    assert models.ExternalId.objects.filter(external_id="c").exists()
    assert acceptance.sweep_drafts(at=store.now()) == 0


def test_values_are_hidden_from_those_who_may_not_see_them(webhook, sign_in, settings):
    settings.DATA_VISIBLE_TO = "admin"
    client = sign_in()
    page = client.get(upload(client, data="*").url).content.decode()
    assert "Köln" not in page
    assert "first_name, city: you may not see their values" in page


def exported(client, task: models.Task, form: str) -> list[str]:
    answer = client.get(f"/dashboard/tasks/{task.pk}/?format={form}")
    assert answer.status_code == 200
    return b"".join(answer.streaming_content).decode().splitlines()


def placed(client, text: str = CSV, **fields) -> models.Task:
    client.post(upload(client, text, data="*", **fields).url, {"queue": "default"})
    return models.Task.objects.get()


@pytest.mark.parametrize("is_written", [False, True])
def test_export_of_a_task_has_a_column_for_each_that_travels(queue, sign_in, is_written):
    client = sign_in()
    task = placed(client, CSV.replace("Ulm", "=1+1"))
    if is_written:
        write_lists()
    head, *rows = csv.reader(exported(client, task, "csv"))
    assert head[0] == "user_id"
    assert head[-2:] == ["data.first_name", "data.city"]
    assert {row[0]: row[-2:] for row in rows} == {
        "7": ["Ann", "Köln"],
        "8": ["<b>Bo</b>", "Bonn"],
        "9": ["Cy", ""],
        "10": ["Di", "'=1+1"],
    }
    objects = [json.loads(line) for line in exported(client, task, "ndjson")]
    assert {item["user_id"]: item["data.city"] for item in objects} == {
        "7": "Köln", "8": "Bonn", "9": "", "10": "=1+1",
    }  # fmt: skip


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
@pytest.mark.parametrize("visible_to", ["viewer", "operator", "admin"])
def test_export_has_data_for_those_who_may_see_them(queue, sign_in, settings, role, visible_to):
    task = placed(sign_in("admin" if role != "admin" else "operator"))
    settings.DATA_VISIBLE_TO = visible_to
    text = "\n".join(exported(sign_in(role), task, "csv"))
    order = ["viewer", "operator", "admin"]
    assert ("Köln" in text) == ("data.city" in text) == (order.index(role) >= order.index(visible_to))


def test_export_of_a_list_without_data_has_no_more_columns(queue, sign_in):
    client = sign_in()
    client.post(upload(client).url, {"queue": "default"})
    assert exported(client, models.Task.objects.get(), "csv")[0].endswith(",late_seconds")
