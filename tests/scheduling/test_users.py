"""Users are made, named and deleted; what lists hold of their IDs is another thing."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from operators.actor import Actor
from scheduling import models, users
from scheduling.core.errors import BadFields, IdTaken

from .lists_of_ids import NOON, check_counters, submit, write_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def by():
    return Actor.command_line()


def test_user_gets_the_requested_id(by):
    user = users.create(user_id=1029, name="Ann", by=by, at=NOON)
    assert (user.pk, user.name, user.created_at) == (1029, "Ann", NOON)
    assert models.User.objects.get() == user


def test_taken_id_is_refused_and_not_logged(by):
    users.create(user_id=7, by=by, at=NOON)
    with pytest.raises(IdTaken, match="the ID 7"):
        users.create(user_id=7, name="other", by=by, at=NOON)
    assert models.User.objects.get().name == ""
    assert models.Activity.objects.count() == 1


def test_user_without_an_id_gets_the_one_after_the_largest(by):
    assert users.create(by=by, at=NOON).pk == 1
    users.create(user_id=500, by=by, at=NOON)
    assert users.create(by=by, at=NOON).pk == 501


def test_free_id_is_found_after_the_largest_is_taken(by):
    users.create(user_id=models.MAX_ID, by=by, at=NOON)
    new_ids = {users.create(by=by, at=NOON).pk for _ in range(5)}
    assert len(new_ids) == 5
    assert max(new_ids) < 2**53


@pytest.mark.parametrize("user_id", [0, -1, models.MAX_ID + 1])
def test_id_out_of_range_is_refused(by, user_id):
    with pytest.raises(BadFields):
        users.create(user_id=user_id, by=by, at=NOON)


def test_concurrent_users_without_an_id_get_different_ones(by):
    def create_user(_):
        try:
            return users.create(by=by, at=NOON).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create_user, range(40))) == list(range(1, 41))


def test_rename_of_a_user_logs_the_previous_name(by):
    user = users.create(user_id=7, name="Ann", by=by, at=NOON)
    assert users.rename(user, "Anna", by=by, at=NOON).name == "Anna"
    line = models.Activity.objects.get(verb="renamed")
    assert (line.object_id, line.before, line.after) == (7, {"name": "Ann"}, {"name": "Anna"})


def test_rename_to_the_same_name_is_not_logged(by):
    user = users.create(user_id=7, name="Ann", by=by, at=NOON)
    users.rename(user, "Ann", by=by, at=NOON)
    assert not models.Activity.objects.filter(verb="renamed").exists()


@pytest.mark.parametrize("name", ["x" * 201, "a\0b"])
def test_name_that_no_database_stores_is_refused(by, name):
    with pytest.raises(BadFields):
        users.create(name=name, by=by, at=NOON)


def test_deleting_a_user_leaves_lists_unchanged(by, tmp_path):
    models.Queue.objects.create(name="default", rpm=120, created_at=NOON)
    task = submit([7, 8], tmp_path, by=by).task
    write_all()
    users.delete(models.User.objects.get(pk=7), by=by, at=NOON)
    assert set(models.Assignment.objects.filter(task=task).values_list("user_id", flat=True)) == {7, 8}
    check_counters()
    submit([7], tmp_path, by=by)
    write_all()
    assert models.User.objects.get(pk=7).name == ""


def test_second_delete_of_a_user_is_not_logged(by):
    user = users.create(user_id=7, by=by, at=NOON)
    users.delete(user, by=by, at=NOON)
    users.delete(user, by=by, at=NOON)
    assert models.Activity.objects.filter(verb="deleted").count() == 1
