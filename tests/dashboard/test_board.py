import re
from datetime import UTC, datetime, timedelta

import pytest

from scheduling import board, clock, late, models, store

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 25, 12, 7, tzinfo=UTC)


def poll(client, version="", query=""):
    return client.get(f"/dashboard/?version={version}{query}", headers={"HX-Request": "true"})


def shown(answer) -> str:
    return re.search(r'name="version" value="([^"]+)"', answer.content.decode())[1]


def test_what_was_sent_in_stands_in_the_window_that_fills(place):
    place(range(1, 301), at=NOON)

    found = board.snapshot("default", at=NOON).board()

    assert found.filling.filled == 300
    assert [minute.filled for minute in found.filling.minutes[:4]] == [120, 120, 60, 0]
    assert found.running.filled == 0


def test_a_quarter_later_it_runs(place):
    place(range(1, 301), at=NOON)

    found = board.snapshot("default", at=NOON + clock.QUARTER).board()

    assert found.running.filled == 300
    assert found.filling.filled == 0


def test_what_is_past_rpm_is_said_per_minute_and_in_all(place):
    place(range(1, 120 * 15 + 31), at=NOON)

    filling = board.snapshot("default", at=NOON).board().filling

    assert filling.peak.filled == 122
    assert filling.peak.over == 2
    assert filling.over == 30


def test_all_queues_together_are_added_up_with_the_rpm_of_those_without_a_window(place, queue):
    models.Queue.objects.create(name="other", rpm=60, created_at=NOON)
    models.Queue.objects.create(name="idle", rpm=7, created_at=NOON)
    place(range(1, 101), at=NOON)
    place(range(1, 101), at=NOON, into="other")

    first = board.snapshot("", at=NOON).board().filling.minutes[0]

    assert first.filled == 160
    assert first.capacity == 187


def test_what_stayed_behind_is_late_since_its_minute(place):
    place(range(1, 301), at=NOON)

    found = board.snapshot("default", at=NOON + clock.QUARTER + timedelta(minutes=10)).board()

    assert found.late_count == 300
    assert found.late[0].since == clock.quarter_start(NOON) + clock.QUARTER


def test_the_fingerprint_changes_with_an_id_and_not_with_a_second(place):
    before = board.snapshot("default", at=NOON)
    place([1], at=NOON)

    after = board.snapshot("default", at=NOON)

    assert after.version != before.version
    assert board.snapshot("default", at=NOON + timedelta(seconds=1)).version == after.version


def test_the_fingerprint_changes_with_the_minute_since_another_bar_is_marked(queue):
    assert (
        board.snapshot("default", at=NOON).version
        != board.snapshot("default", at=NOON + clock.MINUTE).version
    )


def test_a_poll_is_two_queries_beside_session_and_operator(place, sign_in, django_assert_max_num_queries):
    place(range(1, 301))
    client = sign_in("viewer")

    with django_assert_max_num_queries(2 + 2):
        assert poll(client).status_code == 200


def test_a_poll_that_knows_everything_is_answered_204_with_nothing(place, sign_in):
    place(range(1, 301))
    client = sign_in("viewer")
    version = shown(poll(client))

    answer = poll(client, version)

    # A minute may have begun in between: then the answer is the new board.
    if answer.status_code == 200:
        answer = poll(client, shown(answer))
    assert answer.status_code == 204
    assert answer.content == b""


def test_page_and_fragment_say_that_they_differ_by_header(queue, sign_in):
    client = sign_in("viewer")

    page, fragment = client.get("/dashboard/"), poll(client)

    assert b"<html" in page.content
    assert b"<html" not in fragment.content
    assert "HX-Request" in page["Vary"]
    assert "HX-Request" in fragment["Vary"]


def test_a_fragment_sets_no_cookie_so_that_open_forms_stay_good(queue, sign_in):
    assert not poll(sign_in("viewer")).cookies


@pytest.mark.parametrize("query", ["?queu=default", "?queue=nosuch", "?queue=default&queue=other"])
def test_a_parameter_that_means_nothing_is_refused_by_name(queue, sign_in, query):
    answer = sign_in("viewer").get(f"/dashboard/{query}")

    assert answer.status_code == 400
    assert b"queu" in answer.content


def test_a_signed_out_poll_is_sent_to_the_sign_in_page_and_not_given_it(queue, client):
    answer = poll(client)

    assert answer.status_code == 204
    assert "HX-Redirect" in answer.headers


def test_an_empty_board_says_what_to_do_first(queue, sign_in):
    assert b"Nothing is planned yet" in sign_in("viewer").get("/dashboard/").content


def test_times_are_in_the_operators_zone_which_is_named(queue, sign_in):
    page = sign_in("viewer", time_zone="Asia/Kathmandu").get("/dashboard/").content.decode()

    filling = page.split("Filling")[1].split("</h2>")[0]
    runs_at = clock.runs_at(clock.open_window_start(store.now()))
    assert "Asia/Kathmandu" in page
    # 5:45 ahead of UTC: the hour and the minute differ.
    assert (runs_at + timedelta(hours=5, minutes=45)).strftime(">%H:%M<") in filling


def test_a_fragment_holds_nothing_of_who_asks_so_that_all_may_share_it(place, sign_in, make_operator, client):
    place(range(1, 30))
    first = poll(sign_in("viewer")).content
    client.force_login(make_operator("admin"))

    assert poll(client).content == first
    assert b"csrfmiddlewaretoken" not in first


def test_two_who_read_times_in_different_zones_are_not_given_each_others(place, client, make_operator):
    place(range(1, 30))
    bodies = []
    for zone in ("UTC", "Asia/Kathmandu"):
        operator = make_operator("viewer", username=zone)
        operator.time_zone = zone
        operator.save()
        client.force_login(operator)
        bodies.append(poll(client).content)

    assert bodies[0] != bodies[1]


def test_what_was_late_and_has_another_minute_is_said_with_its_minutes(place, sign_in):
    place(range(1, 31), at=store.now() - 2 * clock.QUARTER)
    late.run(store.now)

    page = sign_in("viewer").get("/dashboard/").content.decode()

    assert "30 IDs of default were late and have another minute" in page


def test_the_numbers_of_a_sentence_lead_to_the_window_that_they_count(queue, place, sign_in):
    client = sign_in("viewer")
    page = client.get("/dashboard/").content.decode()
    assert "filling-counts" not in page, "nothing to count, nothing to look at"
    place([1, 2, 3], at=store.now())
    page = client.get("/dashboard/").content.decode()
    [address] = re.findall(r'<a id="filling-counts" href="([^"]+)"><b>3</b> IDs</a>', page)
    assert client.get(address).status_code == 200
