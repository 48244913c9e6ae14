"""`manage.py reencrypt` may be killed at any moment: every secret stays readable, and it can be run again."""

import os
import signal
from io import StringIO
from itertools import count

import pytest
from django.core.management import call_command
from django.db import connection

from operators import second_factor
from operators.actor import Actor
from operators.models import AuthenticatorApp
from scheduling import models, store
from scheduling.alerts import channels
from scheduling.queues import operations, secrets_at_rest
from scheduling.reports import receipt_files

NEW_KEY = "the key that replaces the earlier one"
FIELDS = {
    "handler": "webhook",
    "webhook_url": "https://hook.example.com/",
    "webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "webhook_headers": {"Authorization": "Bearer hush-hush"},
}


def reencrypt_killed_after(statements: int) -> bool:
    """Run it in a process that is killed after this many statements that write; return whether it was."""
    connection.close()
    child = os.fork()
    if not child:
        done = count(1)

        def kill(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            if sql.startswith(("UPDATE", "INSERT")) and next(done) == statements:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        try:
            with connection.execute_wrapper(kill):
                call_command("reencrypt", stdout=StringIO())
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def readable() -> list[object]:
    """Every secret there is, as this installation's keys decrypt it."""
    rows: list[object] = [
        (queue.webhook_secret, queue.webhook_headers, queue.unreadable_secrets)
        for queue in models.Queue.objects.order_by("pk")
    ]
    rows.append(secrets_at_rest.state())
    rows.append(secrets_at_rest.signing_key(models.Installation.current()))
    rows += [app.bin_key for app in AuthenticatorApp.objects.all()]
    return rows


@pytest.mark.django_db(transaction=True)
def test_reencrypt_that_is_killed_at_any_statement_can_be_run_again(settings, make_operator):
    by, at = Actor.command_line(), store.now()
    for name in ("one", "two", "three"):
        operations.create(name=name, fields=FIELDS, by=by, at=at)
    fields = {"name": "ops", "address": "https://hook.example.com/", "types": ["task.done"]}
    channels.create(kind="webhook", fields=fields, base_url="", by=by, at=at)
    second_factor.begin(make_operator())
    receipt_files.public_key()
    before, earlier = readable(), settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW_KEY, [earlier]
    killed = 0
    for statements in count(1):
        is_killed = reencrypt_killed_after(statements)
        # Some secrets are encrypted with the one key, some with the other.
        assert readable() == before, statements
        if not is_killed:
            break
        killed += 1
    # The log, three queues, a channel, an authenticator app and the signing key, at least.
    assert killed >= 7
    settings.SECRET_KEY_FALLBACKS = []
    assert readable() == before
