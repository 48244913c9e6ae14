"""Every list as a file: of all that the page counts, and visibly cut where it isn't whole."""

import csv
import json

import pytest

from dashboard import exports
from dashboard.views import failures
from scheduling import clock, store

pytestmark = pytest.mark.django_db


def lines(client, address: str) -> list[str]:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return b"".join(answer.streaming_content).decode().splitlines()


def objects(client, address: str) -> list[dict]:
    return [json.loads(line) for line in lines(client, address)]


def records(client, address: str) -> list[dict]:
    return list(csv.DictReader(lines(client, address)))


def test_a_file_that_breaks_in_the_middle_says_so_in_its_last_line():
    def rows():
        yield from ([n] for n in range(700))
        raise RuntimeError

    for form, said in (("csv", "# CUT: the export broke here"), ("ndjson", '{"cut": "the export broke here"}')):
        got = []
        with pytest.raises(RuntimeError):
            got.extend(exports.named(form, "a", ["n"], rows()).streaming_content)
        written = b"".join(got).decode().splitlines()
        assert written[-1] == said
        assert len([line for line in written if "69" in line]) == 17


def test_a_list_that_a_page_doesn_t_have_is_refused_by_name(db, sign_in):
    answer = sign_in("viewer").get("/dashboard/failures/?format=csv&list=grops")

    assert answer.status_code == 400
    assert "grops" in answer.content.decode()


def test_the_groups_of_failures_are_a_file_with_the_counts_of_the_page(place, fail, sign_in, monkeypatch):
    then = store.now() - 3 * clock.QUARTER
    fail(place(range(1, 8), at=then), 404, "=no such customer")
    fail(place(range(10, 13), at=then + clock.QUARTER), 410, "gone")
    client = sign_in("viewer")

    found = records(client, "/dashboard/failures/?format=csv&list=groups")

    assert [(each["http_status"], each["message"], each["ids"]) for each in found] == [
        ("404", "'=no such customer", "7"),
        ("410", "gone", "3"),
    ]
    of_one = objects(client, "/dashboard/failures/?status=410&format=ndjson&list=groups")
    assert [each["ids"] for each in of_one] == [3]
    assert len(records(client, "/dashboard/failures/?format=csv")) == 10
    monkeypatch.setattr(failures, "GROUPS_AT_MOST", 1)
    assert objects(client, "/dashboard/failures/?format=ndjson&list=groups")[1:] == [
        {"cut": "the largest 1 groups"}
    ]


def test_the_page_of_failures_says_that_it_shows_the_largest_groups(place, fail, sign_in, monkeypatch):
    monkeypatch.setattr(failures.failing, "GROUPS_SHOWN", 1)
    for quarters, status in ((3, 404), (4, 410)):
        fail(place([status], at=store.now() - quarters * clock.QUARTER), status, "gone")

    said = sign_in("viewer").get("/dashboard/failures/").content.decode()

    assert "The largest 1 groups; more as" in said
