"""IDs that are text, and the numbers that stand for them."""

from datetime import UTC, datetime

import pytest

from operators.actor import Actor
from scheduling import models, store
from scheduling.lists import external_ids
from tests.scheduling.lists_of_ids import submit
from tests.scheduling.placed import make_queue, place

pytestmark = pytest.mark.django_db
MINUTE = datetime(2031, 3, 5, 12, 15, tzinfo=UTC)


def test_numbers_are_given_in_the_order_of_the_list_and_never_twice():
    assert list(external_ids.number(["b", "a"])) == [-1, -2]
    assert list(external_ids.number(["c", "a", "d", "b"])) == [-3, -2, -4, -1]
    assert models.Installation.current().last_external_number == -4
    assert external_ids.texts([-1, -2, -3, -4, -5]) == {-1: "b", -2: "a", -3: "c", -4: "d"}


def test_numbers_of_many_ids_are_given_in_the_order_of_the_texts(monkeypatch):
    monkeypatch.setattr(external_ids, "_NUMBERED_AT_ONCE", 3)
    assert list(external_ids.number(["b"])) == [-1]
    texts = ["e", "b", "g", "a", "f", "d", "c"]
    numbers = external_ids.number(texts)
    assert external_ids.texts(numbers) == dict(zip(numbers, texts, strict=True))
    # g, f and e in one transaction, d and c in the next: texts that are neighbours have numbers that are.
    assert list(numbers) == [-4, -1, -2, -7, -3, -5, -6]
    assert list(external_ids.number(texts)) == list(numbers)
    assert models.Installation.current().last_external_number == -7


def test_numbers_that_others_were_given_meanwhile_are_used(monkeypatch):
    look_up = store.numbers_of_texts

    def slow_look_up(texts):
        monkeypatch.undo()
        numbers = look_up(texts)
        external_ids.number(["b", "x"])
        return numbers

    monkeypatch.setattr(store, "numbers_of_texts", slow_look_up)
    assert list(external_ids.number(["a", "b"])) == [-3, -1]


def test_written_digits_are_a_number_unless_only_the_text_was_received():
    queue = make_queue("default", rpm=5)
    place(queue, {MINUTE: [8, 9]}, at=MINUTE)
    external_ids.number(["007", "8", "+4917", "ann@x"])
    written = ("007", "7", "8", "9", "+4917", " ann@x ", "nobody@x", "0", "", "9" * 20)
    assert [external_ids.number_of_written(text) for text in written] == [
        -1,
        7,
        8,
        9,
        -3,
        -4,
        0,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("written", "as_integer", "as_text", "by_itself"),
    [
        ("8", 8, -1, -1),
        ("7", 7, 0, 7),
        ("ann@x", None, 0, 0),
        ("0", None, 0, None),
        ("9" * 20, None, 0, None),
    ],
)
def test_type_of_a_written_id_decides_what_it_is(written, as_integer, as_text, by_itself):
    external_ids.number(["8"])
    look_up = external_ids.number_of_written
    assert (look_up(written, "integer"), look_up(written, "text"), look_up(written)) == (
        as_integer,
        as_text,
        by_itself,
    )


def test_written_digits_are_a_number_of_a_list_that_is_being_written(settings):
    external_ids.number(["8"])
    make_queue("default", rpm=5)
    submit([8, 9], settings.SPOOL_DIR, by=Actor.system(), queue_name="default")
    assert not models.Assignment.objects.exists()
    assert external_ids.number_of_written("8") == 8
