"""Erasing a person beside a list that is being read, one that is being accepted, and requests that are made again."""

from array import array
from collections.abc import Iterator
from datetime import timedelta
from threading import Event, Thread

import pytest
from django.db import connection

from operators.actor import Actor
from scheduling import models, store, users
from scheduling.core.errors import ErasedMeanwhile
from scheduling.intake import acceptance
from scheduling.lists import external_ids
from scheduling.lists.record_lists import Block, RecordSource
from scheduling.models import Status
from scheduling.tasks import erasure
from tests.api.conftest import ApiClient, finish, queue, submit_past, write_lists  # noqa: F401
from tests.dashboard.conftest import sign_in  # noqa: F401
from tests.scheduling.tasks.test_erasure import CITY, TEXT, everywhere

BY = Actor.command_line()


@pytest.fixture
def api(make_token, queue) -> ApiClient:  # noqa: F811
    return ApiClient(make_token("write"))


class Lines(RecordSource):
    """A list of one person with data. then: called once its ID was looked up and its data are stored."""

    ids_count, repeats_count, same_as_digest = 1, 0, "0" * 64
    data_columns = ("city",)

    def __init__(self, person: str | int, then=lambda: None) -> None:
        self.id_type = "text" if isinstance(person, str) else "integer"
        self.person, self.then = person, then

    def records(self, size: int) -> Iterator[Block]:
        text = isinstance(self.person, str)
        ids = external_ids.number([self.person]) if text else array("q", [self.person])
        yield ids, [f'{{"city":"{CITY}"}}'.encode()]
        self.then()


def erase(number: int) -> int:
    return erasure.erase(number, by=BY, now=store.now)


def accept(source: RecordSource, *, render=lambda accepted: {}) -> acceptance.Accepted:
    submission = acceptance.Submission("x", data_columns=source.data_columns)
    return acceptance.submit(submission, source, by=BY, now=store.now, render=render)


@pytest.mark.django_db
@pytest.mark.parametrize(("person", "number"), [(TEXT, -1), (7, 7)])
def test_long_list_that_is_read_during_an_erasure_is_refused(api, write_lists, person, number):  # noqa: F811
    accept(Lines(person))
    write_lists()
    source = Lines(person, then=lambda: erase(number))
    with pytest.raises(ErasedMeanwhile):
        acceptance.write_draft(source, at=store.now())
    assert not [word for word in (TEXT, CITY) if word in everywhere()]
    assert not models.IdList.objects.filter(accepted_at=None).exists()


@pytest.mark.django_db
def test_long_list_is_stored_after_an_erasure_under_a_new_number(api, write_lists):  # noqa: F811
    accept(Lines(TEXT))
    write_lists()
    erase(-1)
    draft = acceptance.write_draft(Lines(TEXT), at=store.now())
    assert external_ids.number_of(TEXT) == -2
    assert draft.about["id_type"] == "text"


@pytest.mark.django_db
def test_erasure_of_somebody_else_refuses_no_list(api, write_lists):  # noqa: F811
    accept(Lines("somebody else"))
    accept(Lines(TEXT))
    write_lists()
    assert acceptance.write_draft(Lines(TEXT, then=lambda: erase(-1)), at=store.now()).ids_count == 1


@pytest.mark.django_db(transaction=True)
def test_short_list_that_is_accepted_during_an_erasure_is_erased_with_the_rest(api, write_lists):  # noqa: F811
    accept(Lines(TEXT))
    write_lists()
    assert api.send("POST", "/queues/", {"name": "other"}).status_code == 201
    looked_up, may_commit = Event(), Event()
    errors: list[BaseException] = []

    def render(accepted: acceptance.Accepted) -> dict:
        looked_up.set()
        assert may_commit.wait(120)
        return {}

    def submit() -> None:
        submission = acceptance.Submission("y", queue_name="other", data_columns=("city",))
        try:
            acceptance.submit(submission, Lines(TEXT), by=BY, now=store.now, render=render)
        finally:
            connection.close()

    def erase_beside() -> None:
        try:
            erase(-1)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    submitting, erasing = Thread(target=submit), Thread(target=erase_beside)
    submitting.start()
    assert looked_up.wait(120)
    erasing.start()
    # It is done, were it not to wait for the list.
    erasing.join(1)
    may_commit.set()
    submitting.join(120)
    erasing.join(120)
    write_lists()
    if errors:
        # The list was being written: nothing is erased, and whoever asked is told to ask again.
        assert type(errors[0]).__name__ == "StillPlacing"
        erase(-1)
    assert not [word for word in (TEXT, CITY) if word in everywhere()]
    assert not models.Assignment.objects.filter(user_id=-1, status=Status.WAITING).exists()


@pytest.mark.django_db(transaction=True)
def test_user_who_is_created_during_an_erasure_has_a_text_id(api, write_lists):  # noqa: F811
    accept(Lines(TEXT))
    write_lists()
    began, failed = Event(), []

    def now():
        if not began.is_set():
            began.set()
        return store.now()

    def create() -> None:
        try:
            assert began.wait(120)
            users.create(external_id=TEXT, by=BY, at=store.now())
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    creating = Thread(target=create)
    creating.start()
    erasure.erase(-1, by=BY, now=now)
    creating.join(120)
    # Before the erasure the number is taken; after it there is another one.
    for user in models.User.objects.filter(pk__lt=0):
        assert models.ExternalId.objects.filter(pk=user.pk).exists()
    assert [type(error).__name__ for error in failed] in ([], ["IdTaken"])


@pytest.mark.django_db
@pytest.mark.parametrize(("id_type", "person", "number"), [("text", TEXT, -1), ("integer", 7, 7)])
def test_nothing_of_an_erased_person_is_sent_again(api, submit_past, finish, id_type, person, number):  # noqa: F811
    people = [{"id": person, "city": CITY}, {"id": "8", "city": "Earth"}]
    task_id = submit_past(people, query=f"?task_name=x&id_type={id_type}&data=*")
    finish(task_id, Status.FAILED, 404, "no")
    erase(number)
    assert api.send("POST", f"/celery_ids_tasks/{task_id}/retry/?expect=2").json()["found"] == 1
    retried = api.send("POST", f"/celery_ids_tasks/{task_id}/retry/?expect=1")
    assert retried.json() == {"ids": 1, "done": 1, "is_finished": True}
    [waiting] = models.Assignment.objects.filter(task_id=task_id, status=Status.WAITING)
    assert waiting.user_id != number


@pytest.mark.django_db
@pytest.mark.parametrize(("id_type", "person", "number"), [("text", TEXT, -1), ("integer", 7, 7)])
def test_erased_person_does_not_count_in_a_resend(api, submit_past, finish, id_type, person, number):  # noqa: F811
    task_id = submit_past([person, "8"], query=f"?task_name=x&id_type={id_type}")
    finish(task_id, Status.SUCCEEDED)
    erase(number)
    resent = api.send("POST", f"/celery_ids_tasks/{task_id}/resend/?expect=1")
    assert resent.json() == {"ids": 1, "done": 1, "is_finished": True}


@pytest.mark.django_db
def test_page_of_failures_retries_all_but_erased_people(api, submit_past, finish, sign_in):  # noqa: F811
    task_id = submit_past([TEXT, "8"], query="?task_name=x&id_type=text")
    finish(task_id, Status.FAILED, 404, "no")
    erase(-1)
    client, at = sign_in("operator"), store.now().isoformat()
    address = f"/dashboard/failures/?task={task_id}"
    question = client.post(address, {"at": at, "shown": "2", "number": "2"})
    assert question.context["number"] == 1
    answer = client.post(address, {"at": at, "shown": "2", "number": "1"}, follow=True)
    assert "1 ID is waiting to be retried." in answer.content.decode()


@pytest.mark.django_db
def test_number_that_comes_again_after_its_erasure_is_retried(api, submit_past, finish):  # noqa: F811
    users.create(user_id=7, name="Zaphod", by=BY, at=store.now())
    erasure.erase(7, by=BY, now=lambda: store.now() - timedelta(hours=2))
    task_id = submit_past([7])
    finish(task_id, Status.FAILED, 404, "no")
    assert api.send("POST", f"/celery_ids_tasks/{task_id}/retry/").json()["done"] == 1
