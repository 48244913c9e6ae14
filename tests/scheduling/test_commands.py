"""What is done on the command line leaves its line in the log, as everything does."""

import pytest
from django.core.management import call_command, get_commands

from operators.models import Operator
from scheduling import demo, models, store

pytestmark = pytest.mark.django_db

# Command to what it is told, and the verb and the thing of its line.
ACTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "after_restore": ((), "drew_keys_again", "the installation"),
    "create_token": (("billing", "--scope", "read"), "issued", "billing"),
    "first_operator": ((), "created", "admin"),
    "prepare": ((), "created", "default"),
    "reencrypt": ((), "reencrypted", "the installation"),
}
# Only looks.
READS = {"check_plan"}
# Tested elsewhere, with arguments or on databases of their own: tests/runner/test_backup.py, test_erasure.py,
# test_receipt_files.py.
ELSEWHERE = {
    "backup",
    "doctor",
    "erase_person",
    "export_receipts",
    "possible_repeats",
    "restore",
    "verify_receipts",
}
# Invents lists, which come in as any others do; and its queues, see below.
INVENTS = {"demo"}


def lines() -> list[tuple[str, str, str, str]]:
    rows = models.Activity.objects.order_by("pk")
    return list(rows.values_list("actor_kind", "face", "verb", "object_name"))


@pytest.fixture(autouse=True)
def a_fresh_instance(db):
    models.Queue.objects.all().delete()
    assert not Operator.objects.exists()
    assert not lines()


def test_every_command_is_tested_here():
    own = {name for name, app in get_commands().items() if app in ("scheduling", "operators")}

    assert own == set(ACTS) | READS | ELSEWHERE | INVENTS


@pytest.mark.parametrize("command", ACTS)
def test_command_with_an_effect_is_logged_once(command, capsys):
    message, verb, name = ACTS[command]

    call_command(command, *message)

    assert lines() == [("command_line", "command_line", verb, name)]
    if command not in ("create_token", "after_restore", "reencrypt"):
        call_command(command, *message)
        assert len(lines()) == 1


@pytest.mark.parametrize("command", sorted(READS))
def test_read_only_command_is_not_logged(command, capsys):
    call_command(command)

    assert not lines()


def test_demo_queues_are_logged_once_each():
    for _ in range(2):
        demo.make_queues(at=store.now())

    assert [(verb, name) for _, _, verb, name in lines()] == [
        ("created", queue.name) for queue in demo.QUEUES
    ]
