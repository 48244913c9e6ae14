"""Whether the plan is kept: the page, and its button."""

import csv
import io
import re

import pytest

from dashboard.presenters import proof as presenter
from dashboard.views import proof as view
from scheduling import demo, models, proof, store
from scheduling.core import clock, keys
from scheduling.proof import checks
from scheduling.reports import receipt_verification

pytestmark = pytest.mark.django_db


def run_check(client) -> models.BulkAct:
    client.post("/dashboard/proof/")
    check = checks.stored().first()
    checks.resume(check.pk, store.now)
    return check


def text_of(answer) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def test_plan_page_says_when_the_first_check_will_run(queue, sign_in):
    words = text_of(sign_in("operator").get("/dashboard/proof/"))
    assert "has not been checked yet" in words
    assert "All checks" not in words


def test_check_button_starts_a_check_that_the_page_follows(place, sign_in):
    place(range(1, 41))
    client = sign_in("operator")
    answer = client.post("/dashboard/proof/", follow=True)
    assert "0 of 40 IDs checked" in text_of(answer)
    check = checks.stored().get()
    polled = f'hx-get="/dashboard/proof/?check={check.pk}"'
    assert polled in answer.content.decode()

    checks.resume(check.pk, store.now)
    part = client.get(f"/dashboard/proof/?check={check.pk}", headers={"HX-Request": "true"})
    assert "The plan was kept." in text_of(part)
    assert "40 IDs, requested by a operator" in text_of(part)
    assert polled not in part.content.decode()
    assert "<html" not in part.content.decode()


def test_violations_are_shown_with_links(place, sign_in):
    task = place(range(1, 41))
    bucket = models.Bucket.objects.filter(filled_count__gt=0).first()
    models.Bucket.objects.filter(pk=bucket.pk).update(started_count=9)
    here = models.Assignment.objects.filter(task=task).order_by("pk")
    models.Assignment.objects.filter(pk=here.first().pk).update(user_id=900)
    client = sign_in("operator")
    check = run_check(client)
    answer = client.get("/dashboard/proof/")
    words = text_of(answer)
    assert "2 differences found." in words
    minute = f"{keys.minute_of_bucket(bucket.pk):%Y-%m-%dT%H:%MZ}"
    assert f'href="/dashboard/minutes/{minute}/?queue=default"' in answer.content.decode()
    assert f'href="/dashboard/tasks/{task.pk}/"' in answer.content.decode()
    assert str(bucket.pk) not in words
    shown = client.get(f"/dashboard/proof/?check={check.pk}&format=csv").getvalue().decode()
    rows = list(csv.DictReader(io.StringIO(shown)))
    assert [row["check"] for row in rows] == ["a start is a success or an attempt", "every ID has its row"]
    assert (rows[0]["said"], rows[0]["found"]) == ("9", "0")


def test_truncated_violations_are_mentioned(place, sign_in, monkeypatch):
    monkeypatch.setattr(checks, "KEPT", 2)
    monkeypatch.setattr(view, "SHOWN", 1)
    place(range(1, 41))
    models.Bucket.objects.update(started_count=9)
    client = sign_in("operator")
    check = run_check(client)
    count = models.Bucket.objects.count()
    page = client.get("/dashboard/proof/")
    assert f"The first 1 of {count}" in text_of(page)
    assert len(page.context["difference_table"].rows) == 1
    shown = client.get(f"/dashboard/proof/?check={check.pk}&format=ndjson").getvalue().decode()
    assert f"CUT: the first 2 of {count}" in shown.splitlines()[-1]


def test_figures_say_what_was_checked_part_by_part(place, sign_in):
    place(range(1, 41))
    client = sign_in("operator")
    run_check(client)

    page = client.get("/dashboard/proof/")

    assert [part.checked for part in page.context["parts_table"].data] == [
        "1 quarter-hour, 15 minutes",
        "1 task",
        "40 IDs",
        "0 claims",
        "0 receipts",
        "0 quarter-hours",
        "0 periods",
    ]
    assert [part.found for part in page.context["parts_table"].data] == [0] * 7
    assert len(presenter.STAGES) == len(proof.STAGES)


def test_part_that_is_not_checked_yet_has_no_tick(place, sign_in):
    place(range(1, 41))
    client = sign_in("operator")
    client.post("/dashboard/proof/")
    check = checks.stored().first()
    checks.resume(check.pk, store.now, seconds=-1)

    page = client.get("/dashboard/proof/")

    assert [part.is_done for part in page.context["parts_table"].data] == [True, *[False] * 6]
    assert text_of(page).count("✓") == 1
    assert text_of(page).count("not yet") == 6


def test_quarter_hours_are_listed_with_their_figures_and_differences(place, sign_in):
    early = place(range(1, 41), at=store.now() - 2 * clock.QUARTER)
    demo.catch_up(early.first_minute_at, at=store.now())
    place(range(41, 61))
    bucket = models.Bucket.objects.filter(filled_count__gt=0).order_by("pk").first()
    models.Bucket.objects.filter(pk=bucket.pk).update(started_count=99)
    client = sign_in("operator")
    run_check(client)

    windows = client.get("/dashboard/proof/").context["windows"]

    assert [window.planning.first_planned for window in windows] == [20, 40]
    assert [window.found for window in windows] == [0, 1]
    assert windows[1].runs_at == early.first_minute_at


def test_check_without_figures_is_shown_without_them(place, sign_in):
    place(range(1, 41))
    client = sign_in("operator")
    check = run_check(client)
    models.BulkAct.objects.filter(pk=check.pk).update(asked={})

    page = client.get("/dashboard/proof/")

    assert page.context["parts_table"] is None
    assert "The plan was kept." in text_of(page)


def test_viewer_reads_the_check_but_cannot_start_one(place, sign_in):
    client = sign_in("viewer")
    page = client.get("/dashboard/proof/").content.decode()
    assert re.search(r"<button[^>]*disabled[^>]*>Check the plan", page)
    assert client.post("/dashboard/proof/").status_code == 403
    assert not checks.stored().exists()


def test_unknown_check_or_parameter_is_refused(queue, sign_in):
    client = sign_in("viewer")
    assert client.get("/dashboard/proof/?check=77").status_code == 404
    assert client.get("/dashboard/proof/?check=x").status_code == 400
    assert client.get("/dashboard/proof/?chekc=1").status_code == 400
    assert client.get("/dashboard/proof/?format=csv").status_code == 400


def test_receipts_are_downloaded_as_a_signed_file(queue, sign_in):
    client = sign_in("viewer")

    page = client.get("/dashboard/proof/")
    form = page.context["receipts_form"]
    chosen = {"queue": queue.name, "since": form["since"].value(), "until": form["until"].value()}
    answer = client.get("/dashboard/proof/receipts/", chosen)

    assert answer["Content-Disposition"] == 'attachment; filename="receipts.ndjson"'
    statement, _ = receipt_verification.verify(answer.getvalue().splitlines(keepends=True))
    assert statement["queues"] == [queue.name]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({}, "From: This field is required."),
        ({"queue": "nope"}, "Queue: there is no queue with that name"),
        ({"since": "2026-11-25T00:00", "until": "2026-11-24T00:00"}, "To: It must be after the beginning"),
        ({"since": "2001-11-24T00:00", "until": "2001-11-25T00:00"}, "From: Receipts are kept for 90 days."),
    ],
)
def test_times_without_receipts_are_refused_on_the_page(queue, sign_in, chosen, words):
    answer = sign_in("viewer").get("/dashboard/proof/receipts/", chosen, follow=True)

    assert answer.redirect_chain == [("/dashboard/proof/", 302)]
    assert words in text_of(answer)
