"""Receipts are chained as they are written, and a signed file of them can be checked by anybody."""

import re
import subprocess
import sys
import threading
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from scheduling import models, proof
from scheduling.core import clock, keys, receipt_chain
from scheduling.core.errors import BadFields, NoSuchQueue, SigningKeyUnreadable
from scheduling.core.receipt_chain import Broken
from scheduling.proof import chain
from scheduling.reports import receipt_files, receipt_verification
from scheduling.upkeep import quarter_hour, retention
from tests.scheduling.placed import make_queue, place
from tests.scheduling.store.test_claims import BEFORE, MINUTE

pytestmark = pytest.mark.django_db

FIRST = clock.quarter_start(MINUTE)
AFTER = FIRST + 4 * clock.QUARTER
SINCE, UNTIL = FIRST, FIRST + 3 * clock.QUARTER


def run_minute(queue: models.Queue, minute, users) -> None:
    """Have a minute's requests made at their slots."""
    task = place(queue, {minute: users}, at=BEFORE - clock.QUARTER)
    bucket = keys.bucket_at(queue.pk, minute)
    first, last = keys.range_of_bucket(bucket)
    rows = models.Assignment.objects.filter(pk__gte=first, pk__lte=last).order_by("pk")
    for n, key in enumerate(list(rows.values_list("pk", flat=True))):
        models.Assignment.objects.filter(pk=key).update(
            status=models.Status.SUCCEEDED, attempts=1, started_after_ms=n * 1_000
        )
    count = len(users)
    counters = {"waiting_count": 0, "succeeded_count": count}
    models.Bucket.objects.filter(pk=bucket).update(**counters, started_count=count)
    models.TaskBucket.objects.filter(bucket_id=bucket).update(**counters)
    models.Task.objects.filter(pk=task.pk).update(**counters)


@pytest.fixture
def queue():
    """A queue with three quarter-hours that ended, in each of which 30 requests were made."""
    queue = make_queue(rpm=60)
    for n in range(3):
        run_minute(queue, FIRST + n * clock.QUARTER, range(100 * n + 1, 100 * n + 31))
    assert quarter_hour.total(lambda: AFTER) == 3
    return queue


def lines(*queues, since=SINCE, until=UNTIL) -> list[bytes]:
    return list(receipt_files.write(queues, since, until, at=AFTER))


def differences() -> list[str]:
    return [str(difference) for difference in proof.check(lambda: AFTER)]


def test_receipts_are_chained_in_the_order_of_time(queue):
    chained = list(models.ChainedReceipt.objects.order_by("sequence"))

    assert [link.sequence for link in chained] == [1, 2, 3]
    assert [keys.starts_at_of_window(link.pk) for link in chained] == [
        FIRST + n * clock.QUARTER for n in (-1, 0, 1)
    ]
    assert differences() == []
    assert len({link.hash for link in chained}) == 3


@pytest.mark.parametrize("changed", ["receipt", "starts", "hash"])
def test_check_of_the_plan_names_the_first_receipt_that_does_not_fit(queue, changed):
    window = models.ChainedReceipt.objects.get(sequence=2).pk
    if changed == "receipt":
        row = models.Window.objects.get(pk=window)
        row.receipt["most_in_60_seconds"] = 1
        row.save()
    else:
        models.ChainedReceipt.objects.filter(pk=window).update(**{changed: "1" * 64})

    first = differences()[0]

    assert first.startswith(f"a receipt leads to its hash: window {window}, receipt 2: ")


def test_receipt_that_was_hashed_again_does_not_fit_the_one_after_it(queue):
    row = models.ChainedReceipt.objects.get(sequence=2)
    first, other = (
        models.Window.objects.get(pk=link.pk) for link in models.ChainedReceipt.objects.all()[1:3]
    )
    first.receipt["sent"] = 1
    first.save()
    [line] = receipt_chain_lines(queue, [row])
    own = {name: value for name, value in line.items() if name not in receipt_chain.BESIDE_CONTENT}
    models.ChainedReceipt.objects.filter(pk=row.pk).update(
        hash=receipt_chain.digest(receipt_chain.canonical(own))
    )

    assert differences() == [
        f"a receipt leads to its hash: window {other.pk}, receipt 3: 1 by the tables, 0 found"
    ]


def receipt_chain_lines(queue, rows):
    return list(chain.lines(queue, rows))


def test_missing_receipt_is_found(queue):
    models.ChainedReceipt.objects.get(sequence=2).delete()
    third = models.ChainedReceipt.objects.get(sequence=3).pk

    assert differences() == [
        f"a receipt follows the one before it: window {third}, receipt 3: 2 by the tables, 1 found"
    ]


def test_receipts_of_an_earlier_version_are_chained_oldest_first(queue):
    models.ChainedReceipt.objects.all().delete()
    run_minute(queue, FIRST + 3 * clock.QUARTER, range(901, 911))

    quarter_hour.total(lambda: AFTER + clock.QUARTER)

    chained = models.ChainedReceipt.objects.order_by("sequence")
    assert list(chained.values_list("pk", flat=True)) == list(
        models.Window.objects.order_by("starts_at").values_list("pk", flat=True)
    )
    assert differences() == []


@pytest.mark.django_db(transaction=True)
def test_two_hosts_that_chain_at_once_leave_one_chain():
    queue = make_queue(rpm=60)
    for n in range(8):
        run_minute(queue, FIRST + n * clock.QUARTER, [10 * n + 1])

    def total():
        quarter_hour.total(lambda: AFTER + 8 * clock.QUARTER)
        connection.close()

    threads = [threading.Thread(target=total) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    chained = models.ChainedReceipt.objects.order_by("sequence")
    assert list(chained.values_list("sequence", flat=True)) == [*range(1, 9)]
    assert list(chain.piece((0, 0), AFTER).differences) == []


def test_retention_keeps_the_hash_that_the_oldest_receipt_is_chained_to(queue, settings):
    settings.RETENTION_DAYS = 1
    at = FIRST + clock.QUARTER + timedelta(days=1, seconds=30)
    assert retention.prune(lambda: at, seconds=60)

    assert list(models.ChainedReceipt.objects.order_by("sequence").values_list("sequence", flat=True)) == [
        1,
        2,
        3,
    ]
    later = at + clock.QUARTER
    assert retention.prune(lambda: later, seconds=60)
    assert list(models.ChainedReceipt.objects.order_by("sequence").values_list("sequence", flat=True)) == [
        2,
        3,
    ]
    assert [str(difference) for difference in proof.check(lambda: later)] == []
    retention.prune(lambda: later + timedelta(days=9), seconds=60)
    assert models.ChainedReceipt.objects.get().sequence == 3


def test_file_states_the_most_starts_in_60_seconds(queue):
    statement, public_key = receipt_verification.verify(lines(queue))

    assert statement["statement"] == (
        f"At most 30 requests started in any 60 seconds between {clock.iso(SINCE)} and {clock.iso(UNTIL)}, "
        "of the queues q together."
    )
    assert (statement["requests"], statement["receipts"], statement["without_receipt"]) == (90, 3, [])
    assert public_key == receipt_files.public_key()


def test_file_counts_the_starts_of_all_its_queues_together(queue):
    other = make_queue("other", rpm=60)
    run_minute(other, FIRST, range(2_001, 2_021))
    quarter_hour.total(lambda: AFTER)

    statement, _ = receipt_verification.verify(lines(queue, other))

    assert statement["most_in_60_seconds"] == 50
    assert statement["queues"] == ["q", "other"]


def test_file_counts_only_starts_between_its_times(queue):
    within = lines(queue, since=FIRST, until=FIRST + timedelta(seconds=10))

    assert receipt_verification.verify(within)[0]["requests"] == 10


def test_file_says_which_quarter_hours_have_no_receipt(queue):
    place(queue, {FIRST + 4 * clock.MINUTE: [5_001]}, at=BEFORE - clock.QUARTER)
    models.ChainedReceipt.objects.filter(sequence=3).delete()

    statement, _ = receipt_verification.verify(lines(queue))

    assert statement["without_receipt"] == [f"q {clock.iso(FIRST + 2 * clock.QUARTER)}"]
    assert "Not included are 1 quarter-hours" in statement["statement"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda held: [held[0], *held[2:]],
            "The lines before the statement have been changed since they were signed.",
        ),
        (lambda held: [*held[:2], *held[3:]], "does not follow receipt 1, the one before it in the file."),
        (lambda held: [*held[:2], held[2].replace(b'"sent":30', b'"sent":31'), *held[3:]], "was changed"),
        (lambda held: [held[0].replace(b"2031", b"2030"), *held[1:]], "The lines before the statement"),
        (
            lambda held: [*held[:-2], held[-2].replace(b"At most 30", b"At most 20"), held[-1]],
            "The signature",
        ),
        (lambda held: held[:-1], "The signature"),
        (lambda held: held[:0], "The file does not contain receipts"),
        (lambda held: [*held[:-1], held[-1][:20]], "The file is incomplete"),
    ],
)
def test_file_that_was_changed_is_refused_with_the_place(queue, change, words):
    with pytest.raises(Broken) as raised:
        receipt_verification.verify(change(lines(queue)))

    assert words in str(raised.value)


def test_signing_key_of_another_secret_key_is_refused_in_words(queue, settings):
    receipt_files.public_key()
    settings.SECRET_KEY = "another key, of sixteen characters"

    with pytest.raises(SigningKeyUnreadable):
        lines(queue)


def test_signing_key_is_kept_encrypted_and_drawn_anew_after_a_restore(queue):
    before = receipt_files.public_key()
    stored = models.Installation.current().signing_key
    assert stored.startswith("g1:")

    call_command("after_restore", stdout=StringIO())

    assert receipt_files.public_key() != before


def test_signing_key_survives_a_new_secret_key_once_it_is_encrypted_again(queue, settings):
    before, former = receipt_files.public_key(), settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another key, of sixteen characters", [former]

    call_command("reencrypt", stdout=StringIO())
    settings.SECRET_KEY_FALLBACKS = []

    assert receipt_files.public_key() == before


@pytest.mark.parametrize(
    ("since", "until", "field"),
    [
        (UNTIL, SINCE, "until"),
        (SINCE, SINCE + timedelta(days=32), "until"),
        (AFTER, AFTER + timedelta(hours=1), "until"),
        (SINCE - timedelta(days=91), SINCE - timedelta(days=90), "since"),
    ],
)
def test_times_without_all_receipts_are_refused(since, until, field):
    with pytest.raises(BadFields) as raised:
        receipt_files.check_range(since, until, at=AFTER)

    assert set(raised.value.reasons) == {field}


def test_queues_of_a_file_are_chosen_by_name_or_target(queue):
    hook = make_queue("hook", handler="webhook", webhook_url="https://hook.test/x")

    assert receipt_files.chosen_queues([], target=None) == [*models.Queue.objects.order_by("name")]
    assert receipt_files.chosen_queues(["q"], target=None) == [queue]
    assert receipt_files.chosen_queues([], target="https://hook.test:443") == [hook]
    with pytest.raises(NoSuchQueue):
        receipt_files.chosen_queues(["nope"], target=None)
    with pytest.raises(BadFields):
        receipt_files.chosen_queues([], target="https://other.test:443")


def exported(tmp_path: Path, queue: str = "q") -> Path:
    out = StringIO()
    since, until = clock.iso(SINCE), clock.iso(UNTIL)
    call_command("export_receipts", "--queue", queue, "--since", since, "--until", until, stdout=out)
    path = tmp_path / "receipts.ndjson"
    path.write_text(out.getvalue())
    return path


def test_commands_export_a_file_and_verify_it(queue, tmp_path, monkeypatch):
    monkeypatch.setattr("scheduling.store.now", lambda: AFTER)
    path, text = exported(tmp_path), StringIO()

    call_command("verify_receipts", str(path), stdout=text)

    assert "At most 30 requests" in text.getvalue()
    assert "this installation has signed it" in text.getvalue()
    path.write_text(path.read_text().replace('"planned":30', '"planned":29', 1))
    with pytest.raises(CommandError, match="was changed"):
        call_command("verify_receipts", str(path))
    with pytest.raises(CommandError, match="can't be read"):
        call_command("verify_receipts", str(tmp_path / "none"))
    with pytest.raises(CommandError, match="There is no queue named nope"):
        exported(tmp_path, "nope")


DOCS = (Path(settings.BASE_DIR) / "docs" / "receipts.md").read_text()


@pytest.mark.parametrize("language", ["sh", "python"])
def test_recipes_of_the_docs_check_a_file_without_us(queue, tmp_path, monkeypatch, language):
    monkeypatch.setattr("scheduling.store.now", lambda: AFTER)
    recipe = re.search(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)[1]
    command = ["bash", "-ec", recipe] if language == "sh" else [sys.executable, "-I", "-c", recipe]
    path = exported(tmp_path)

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    path.write_text(path.read_text().replace('"planned":30', '"planned":29', 1))
    changed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)

    assert done.returncode == 0, done.stderr
    assert ("At most 30 requests" if language == "sh" else "30") in done.stdout
    assert changed.returncode != 0
