"""Erasing a person: nothing of it remains in the tables, nor in the file."""

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from scheduling import models
from scheduling.models import Status
from tests.api.conftest import ApiClient, finish, queue, write_lists  # noqa: F401

TEXT, NAME, CITY = "zaphod@heart-of-gold.example", "Zaphod Beeblebrox", "Betelgeuse-Five"


def everywhere() -> str:
    """All that the database holds, as text."""
    result = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f'SELECT * FROM "{table}"')
            result += [
                repr(bytes(v) if isinstance(v, memoryview) else v) for row in cursor.fetchall() for v in row
            ]
    return "\n".join(result)


@pytest.fixture
def api(make_token, queue) -> ApiClient:  # noqa: F811
    return ApiClient(make_token("write"))


def submit(api: ApiClient, *, key: str = "k", other: str = "other@example.com,Earth\n") -> int:
    body = f"id,city\n{TEXT},{CITY}\n{other}"
    query = "?task_name=x&id_type=text&data=*"
    answer = api.list(body, query=query, type="text/csv", Idempotency_Key=key)
    assert answer.status_code == 201, answer.content
    return answer.json()["task_id"]


def erase(api: ApiClient, number: int = -1):
    return api.send("DELETE", f"/users/{number}/?erase=true")


@pytest.mark.django_db
def test_waiting_request_is_cancelled_and_its_place_freed(api, write_lists):  # noqa: F811
    task_id = submit(api)
    write_lists()
    assert erase(api).status_code == 204
    task = models.Task.objects.get(pk=task_id)
    assert (task.waiting_count, task.cancelled_count) == (1, 1)
    assert sum(models.Bucket.objects.values_list("filled_count", flat=True)) == 1
    row = api.get(f"/celery_ids_tasks/{task_id}/ids/?data=true").json()[0]
    assert (row["user_id"], row["user_id_str"], row["external_id"], row["data"]) == (None, None, None, None)
    assert row["status"] == "cancelled"
    other = api.get(f"/celery_ids_tasks/{task_id}/ids/?data=true").json()[1]
    assert other["data"] == {"city": "Earth"}
    assert api.get("/users/-1/").status_code == 404
    assert api.get(f"/ids/{TEXT}/").status_code == 404
    assert models.Activity.objects.filter(verb="erased", count=1).exists()


@pytest.mark.django_db
def test_nothing_about_the_person_remains(api, write_lists, finish):  # noqa: F811
    made = api.send("POST", "/users/", {"external_id": TEXT, "name": NAME})
    assert made.json()["id"] == -1
    api.send("PATCH", "/users/-1/", {"name": NAME + " II"})
    task_id = submit(api, other="")
    write_lists()
    finish(task_id, Status.FAILED, 404, f"no customer {TEXT} in {CITY}")
    before = everywhere()
    assert all(word in before for word in (TEXT, NAME, CITY))
    assert erase(api).status_code == 204
    after = everywhere()
    assert not [word for word in (TEXT, NAME, CITY) if word in after]
    assert models.Task.objects.get(pk=task_id).failed_count == 1


@pytest.mark.django_db(transaction=True)
def test_nothing_about_the_person_remains_in_the_file(api, write_lists):  # noqa: F811
    if connection.vendor != "sqlite":
        pytest.skip("the file of a server is its own")
    submit(api)
    write_lists()
    assert erase(api).status_code == 204
    name = str(settings.DATABASES["default"]["NAME"])
    name = str(connection.settings_dict["NAME"]) or name
    for ending in ("", "-wal"):
        with open(f"{name}{ending}", "rb") as file:
            content = file.read()
        assert TEXT.encode() not in content, ending
        assert CITY.encode() not in content, ending


@pytest.mark.django_db
def test_erasing_waits_for_what_is_being_written_or_sent(api, write_lists):  # noqa: F811
    submit(api)
    assert erase(api).status_code == 409
    write_lists()
    models.Assignment.objects.filter(user_id=-1).update(status=Status.IN_FLIGHT)
    assert erase(api).status_code == 409
    assert models.ExternalId.objects.filter(pk=-1).exists()


@pytest.mark.django_db
def test_number_is_erased_and_may_come_again(api, write_lists):  # noqa: F811
    body = f"id,city\n7,{CITY}\n8,Earth\n"
    task_id = api.list(body, query="?task_name=x&data=*", type="text/csv").json()["task_id"]
    write_lists()
    api.send("PATCH", "/users/7/", {"name": NAME})
    assert erase(api, 7).status_code == 204
    assert CITY not in everywhere()
    assert api.get(f"/celery_ids_tasks/{task_id}/ids/").json()[0]["user_id"] == 7
    assert erase(api, 99).status_code == 404
    api.list([7])
    write_lists()
    assert api.get("/users/7/").json()["name"] == ""


@pytest.mark.django_db
@pytest.mark.parametrize(("id_type", "text", "number"), [("text", TEXT, -1), ("integer", "7", 7)])
def test_previews_with_the_person_are_discarded(api, client, make_operator, id_type, text, number):
    client.force_login(make_operator("operator"))
    form = {"task_name": "x", "queue": "default", "start": "next_window", "id_type": id_type, "data": "*"}
    preview = client.post("/dashboard/upload/", {**form, "payload": f"id,city\n{text},{CITY}\n"}).url
    other = client.post("/dashboard/upload/", {**form, "payload": "id,city\n8,Earth\n"}).url
    assert CITY in everywhere()
    assert erase(api, number).status_code == 204
    assert CITY not in everywhere()
    assert id_type == "integer" or TEXT not in everywhere()
    assert client.get(preview).status_code == 404
    assert client.get(other).status_code == 200


@pytest.mark.django_db
def test_list_that_is_read_keeps_the_person_until_it_is_accepted(api, write_lists):  # noqa: F811
    task_id = submit(api)
    write_lists()
    draft = models.IdList.objects.get(task=task_id)
    models.IdList.objects.filter(pk=draft.pk).update(accepted_at=None, about={"writing": True})
    assert erase(api).status_code == 409
    assert models.ExternalId.objects.filter(pk=-1).exists()


@pytest.mark.django_db
@pytest.mark.parametrize(("fields", "number"), [({"external_id": TEXT}, -1), ({"id": 7}, 7)])
def test_kept_response_of_the_request_that_made_the_person_is_forgotten(api, fields, number):
    body = {**fields, "name": NAME}
    assert api.send("POST", "/users/", body, Idempotency_Key="k").status_code == 201
    assert erase(api, number).status_code == 204
    assert not [word for word in (TEXT, NAME) if word in everywhere()]
    again = api.send("POST", "/users/", body, Idempotency_Key="k")
    assert (again.status_code, again.json()["name"]) == (201, "(erased)")
    assert not models.User.objects.filter(pk=number).exists()


@pytest.mark.django_db
def test_command_erases_by_text(api, write_lists, capsys):  # noqa: F811
    submit(api)
    write_lists()
    call_command("erase_person", TEXT, id_type="text")
    assert "cancelled: 1" in capsys.readouterr().out
    assert TEXT not in everywhere()
    with pytest.raises(CommandError):
        call_command("erase_person", TEXT, id_type="text")


@pytest.mark.django_db
def test_command_never_erases_another_person(api, write_lists, capsys):  # noqa: F811
    for payload, id_type in ((["7", "008", "8", "ann@x"], "text"), ([8, 9], "integer")):
        body = {"task_name": "a", "payload": payload, "id_type": id_type}
        assert api.send("POST", "/celery_ids_tasks/", body).status_code == 201
    write_lists()
    with pytest.raises(CommandError, match="are two people"):
        call_command("erase_person", "8")
    call_command("erase_person", "8", id_type="text")
    for text in ("008", "7", "ann@x"):
        call_command("erase_person", text)
        with pytest.raises(CommandError):
            call_command("erase_person", text)
    assert not models.ExternalId.objects.exists()
    assert set(models.User.objects.values_list("pk", flat=True)) == {8, 9}
    call_command("erase_person", "8")
    call_command("erase_person", "09", id_type="integer")
    assert not models.User.objects.exists()
    with pytest.raises(CommandError, match="There is no such ID"):
        call_command("erase_person", "nobody@x")


@pytest.mark.django_db
def test_reader_may_not_erase(api, write_lists, make_token):  # noqa: F811
    submit(api)
    write_lists()
    assert erase(ApiClient(make_token("read"))).status_code == 403
