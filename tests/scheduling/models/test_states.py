"""One table of states: each state has everything by which it is shown, counted and drawn."""

import pytest

from scheduling import models
from scheduling.models import Group, MoveReason, Status, TaskState


@pytest.mark.parametrize("table", [models.Task, models.TaskBucket, models.Bucket])
def test_status_has_a_counter_in_every_table_that_counts(table):
    columns = {field.name for field in table._meta.get_fields()}
    assert {status.counter for status in Status} <= columns


def test_status_words_are_those_of_the_api():
    assert [status.word for status in Status] == [
        "waiting", "in_flight", "succeeded", "failed", "cancelled", "expired",
    ]  # fmt: skip
    assert all(Status.of_word(status.word) is status for status in Status)
    with pytest.raises(ValueError, match="gone"):
        Status.of_word("gone")


def test_status_orders_and_signs_are_all_different():
    assert len({status.order for status in Status}) == len(Status)
    assert len({status.sign for status in Status}) == len(Status)
    assert len({state.sign for state in TaskState}) == len(TaskState)


def test_status_groups_contain_the_right_states():
    assert Status.of(Group.UNFINISHED) == (Status.WAITING, Status.IN_FLIGHT)
    assert Status.of(Group.SENT) == (Status.SUCCEEDED, Status.FAILED)
    assert set(Status) - set(Status.of(Group.PLACED)) == {Status.CANCELLED}
    assert Status.in_charts() == (
        Status.SUCCEEDED, Status.FAILED, Status.EXPIRED, Status.IN_FLIGHT, Status.WAITING,
    )  # fmt: skip


def test_ended_states_are_all_but_the_unfinished():
    assert Status.ended() == (Status.SUCCEEDED, Status.FAILED, Status.EXPIRED, Status.CANCELLED)


def test_move_reasons_that_made_an_id_late():
    assert set(MoveReason.what_made_late()) == {MoveReason.LATE, MoveReason.WRITTEN_LATE, MoveReason.BRAKE}
