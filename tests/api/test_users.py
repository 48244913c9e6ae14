"""Users."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling import models, store

from .test_reading import walk

pytestmark = pytest.mark.django_db


def test_user_is_created_renamed_and_deleted(api):
    made = api.send("POST", "/users/", {"id": 5, "name": "Ann"})
    assert made.status_code == 201
    assert made["Location"] == "5/"
    user = made.json()
    assert user.keys() == {"id", "id_str", "external_id", "name", "date_created"}
    assert (user["id"], user["name"]) == (5, "Ann")
    assert user["date_created"].endswith("Z")
    assert api.get("/users/5/").json() == user
    assert api.send("PUT", "/users/5/", user | {"name": "Anna"}).json() == user | {"name": "Anna"}
    assert api.send("PATCH", "/users/5/", {"name": "An"}).json()["name"] == "An"
    assert api.send("PATCH", "/users/5/", {}).json()["name"] == "An"
    assert api.send("DELETE", "/users/5/").status_code == 204
    assert api.get("/users/5/").status_code == 404


def test_user_id_that_is_taken_is_409_and_a_missing_one_is_chosen(api):
    assert api.send("POST", "/users/", {"id": 9223372036854775807, "name": "last"}).status_code == 201
    taken = api.send("POST", "/users/", {"id": "9223372036854775807", "name": "again"})
    assert taken.status_code == 409
    assert taken.json()["type"].endswith(":id-taken")
    chosen = {api.send("POST", "/users/", {"name": "x"}).json()["id"] for _ in range(5)}
    assert len(chosen) == 5
    assert models.User.objects.count() == 6


def test_users_of_a_list_have_no_name(api, write_lists):
    api.list([7, 8, 9])
    write_lists()
    assert [(user["id"], user["name"]) for user in api.get("/users/").json()] == [(9, ""), (8, ""), (7, "")]
    api.send("PATCH", "/users/8/", {"name": "Bo"})
    assert [user["id"] for user in api.get("/users/?name=Bo").json()] == [8]
    assert [user["id"] for user in api.get("/users/?id=9").json()] == [9]
    assert [user["id"] for user in walk(api, "/users/?limit=1&name=")] == [9, 7]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": 0, "name": "x"}, "id"),
        ({"id": 9223372036854775808, "name": "x"}, "id"),
        ({"id": True, "name": "x"}, "id"),
        ({"id": 1.5, "name": "x"}, "id"),
        ({"id": "5 ", "name": "x"}, "id"),
        ({"name": "n" * 201}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": 5}, "name"),
        ({"name": None}, "name"),
        ({"name": "x", "nmae": "y"}, "nmae"),
        ({"name": "x", "payload": [1]}, "payload"),
    ],
)
def test_invalid_fields_are_named(api, body, field):
    answer = api.send("POST", "/users/", body)
    assert answer.status_code == 422, answer.content
    assert [place["field"] for place in answer.json()["errors"]] == [field]
    assert not models.User.objects.exists()


@pytest.mark.parametrize(
    ("body", "type", "status"),
    [
        ("", "application/json", 422),
        ("{", "application/json", 422),
        ("[]", "application/json", 422),
        ('{"name": "a", "name": "b"}', "application/json", 422),
        ('{"name": "a"}', "text/plain", 415),
        ('{"name": "a"}', "application/json; charset=latin-1", 415),
        ('{"name": "' + "a" * 2_000_000 + '"}', "application/json", 413),
        ("[" * 60_000, "application/json", 422),
        ('{"name": "a"}', "Application/JSON; charset=UTF8", 201),
        ("name=Ann&id=5", "application/x-www-form-urlencoded", 201),
    ],
)
def test_bodies_of_other_types(api, body, type, status):
    assert api.send("POST", "/users/", body, type=type).status_code == status


def test_if_match_with_a_stale_tag_is_412(api):
    tag = api.send("POST", "/users/", {"id": 5, "name": "Ann"})["ETag"]
    assert api.send("PUT", "/users/5/", {"name": "Bo"}, If_Match=tag).status_code == 200
    for method in ("PUT", "PATCH", "DELETE"):
        assert api.send(method, "/users/5/", {"name": "Cy"}, If_Match=tag).status_code == 412
    assert api.get("/users/5/").json()["name"] == "Bo"


def test_put_requires_the_name(api):
    api.send("POST", "/users/", {"id": 5, "name": "Ann"})
    assert api.send("PUT", "/users/5/", {}).status_code == 422


def test_name_filter_uses_the_index(api):
    with CaptureQueriesContext(connection) as queries:
        assert api.get("/users/?name=Ann").json() == []
    (statement,) = [query["sql"] for query in queries if 'FROM "scheduling_user"' in query["sql"]]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
        else:
            # Of a small table PostgreSQL reads the only page, whatever the indexes.
            store.insert_users(range(1, 5_001), at=store.now())
            cursor.execute("ANALYZE scheduling_user")
            cursor.execute(f"EXPLAIN {statement}")
        plan = str(cursor.fetchall())
    assert "user_named" in plan, plan


def test_users_are_newest_first_whatever_their_ids(api):
    for number in (5, 9223372036854775807, 1, 7):
        api.send("POST", "/users/", {"id": number, "name": "x"})
    assert [user["id"] for user in api.get("/users/").json()] == [7, 1, 9223372036854775807, 5]
    assert [user["id"] for user in walk(api, "/users/?limit=1&name=x")] == [7, 1, 9223372036854775807, 5]


def test_users_of_one_moment_are_paged_without_repeats(api, write_lists):
    api.list(list(range(1, 26)))
    write_lists()
    api.send("POST", "/users/", {"id": 100, "name": "x"})
    assert [user["id"] for user in walk(api, "/users/?limit=4")] == [100, *range(25, 0, -1)]
