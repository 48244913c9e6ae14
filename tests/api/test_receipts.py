"""GET /receipts/ and /receipts/key/: a signed file for those who may read, and the key that checks it for anybody."""

from datetime import timedelta

import pytest

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.reports import receipt_files, receipt_verification
from scheduling.upkeep import quarter_hour

pytestmark = pytest.mark.django_db


def address(**parameters: str) -> str:
    until = clock.quarter_start(store.now())
    times = {"since": clock.iso(until - timedelta(hours=2)), "until": clock.iso(until)}
    return "/receipts/?" + "&".join(f"{name}={value}" for name, value in (times | parameters).items())


def test_reader_gets_a_file_that_holds(reader):
    at = store.now()
    queue = models.Queue.objects.get(name="default")
    ended = keys.window_id(queue.pk, clock.quarter_start(at) - 3 * clock.QUARTER)
    store.create_windows([ended], capacity=120)
    quarter_hour.total(lambda: at)

    answer = reader.get(address(queue="default"))

    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/x-ndjson"
    statement, key = receipt_verification.verify(answer.getvalue().splitlines(keepends=True))
    assert (statement["receipts"], statement["requests"], statement["queues"]) == (1, 0, ["default"])
    assert key == receipt_files.public_key()


def test_key_is_readable_without_a_token(anonymous):
    answer = anonymous.get("/receipts/key/")

    assert answer.content.decode() == receipt_files.public_key()
    assert answer["Content-Type"] == "application/x-pem-file"
    assert anonymous.get("/receipts/").status_code == 401


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"queue": "nosuch"}, "queue"),
        ({"queue": ""}, "queue"),
        ({"queue": ","}, "queue"),
        ({"target": "https://nosuch.test:443"}, "target"),
        ({"until": "2060-01-01T00:00:00Z"}, "until"),
        ({"since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"}, "since"),
    ],
)
def test_parameter_that_makes_no_file_is_named(reader, parameters, name):
    answer = reader.get(address(**parameters))

    assert answer.status_code == 400
    assert [place["parameter"] for place in answer.json()["errors"]] == [name]


def test_key_that_cannot_be_read_is_503_in_words(anonymous, settings):
    receipt_files.public_key()
    settings.SECRET_KEY = "another key, of sixteen characters"

    answer = anonymous.get("/receipts/key/")

    assert answer.status_code == 503
    assert "after_restore" in answer.json()["detail"]
