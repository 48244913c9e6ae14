"""Each ID's place can be explained by one of the two rules, at any time."""

from datetime import timedelta

import pytest

from operators.actor import Actor
from scheduling import models
from scheduling.core import allocator, keys
from scheduling.placement import rules
from scheduling.reports import stories
from scheduling.tasks import edits
from tests.scheduling.lists_of_ids import NOON, places, shuffled, spool_of, submit, write_all

pytestmark = pytest.mark.django_db(transaction=True)
LATER = NOON + timedelta(minutes=2)


@pytest.fixture
def by():
    return Actor.command_line()


@pytest.fixture
def queue(transactional_db):
    return models.Queue.objects.create(name="default", rpm=3, created_at=NOON)


def test_rule_of_each_id_is_the_one_the_allocator_used(queue, by, tmp_path):
    first, second = (submit(shuffled(20, first=start), tmp_path, by=by).task for start in (1, 101))
    third = submit(shuffled(40, first=201), tmp_path, by=by).task
    write_all()
    fill = [0] * 15
    for task, ids in (
        (first, shuffled(20)),
        (second, shuffled(20, first=101)),
        (third, shuffled(40, first=201)),
    ):
        where = places(task)
        for user in ids:
            expected = rules.Rule.CONSECUTIVE if min(fill) < 3 else rules.Rule.DISPERSED
            window, k = where[user]
            assert rules.of_places(user, {task.pk: keys.bucket_id(window, k)}).get(task.pk).rule == expected
            assert next(allocator.places(fill, 3)) == k
            fill[k] += 1


def test_rule_is_explained_in_a_sentence(queue, by, tmp_path):
    task = submit(range(1, 51), tmp_path, by=by).task
    write_all()
    text = [
        rules.of_places(user, {task.pk: keys.bucket_id(*places(task)[user])}).get(task.pk) for user in (1, 50)
    ]
    assert text[0].sentence == "the first minute filled below 3 (rule 1)"
    assert text[1].sentence == "every minute was filled to 3 or more, and this one the least (rule 2)"
    assert text[0].at == NOON


def test_id_added_by_an_edit_has_the_time_of_the_edit(queue, by, tmp_path):
    task = submit(range(1, 5), tmp_path, by=by).task
    write_all()
    with spool_of([1, 2, 77], tmp_path) as spool:
        edits.replace(task, spool, by=by, now=lambda: LATER)
    write_all(LATER)
    given_places = [
        rules.of_places(user, {task.pk: keys.bucket_id(*places(task)[user])}).get(task.pk) for user in (1, 77)
    ]
    assert [item.at for item in given_places] == [NOON, LATER]


def test_place_that_no_list_gave_has_no_rule(queue, by, tmp_path):
    task = submit([1], tmp_path, by=by).task
    write_all()
    window, k = places(task)[1]
    assert rules.of_places(1, {task.pk: keys.bucket_id(window, k + 1)}).get(task.pk) is None


def test_id_story_names_the_rule(queue, by, tmp_path):
    submit(range(1, 51), tmp_path, by=by)
    (story,) = stories.stories(50, at=LATER)
    placed = story.history[0]
    assert placed.kind == "placed"
    assert placed.details["rule"] == "every minute was filled to 3 or more, and this one the least (rule 2)"
