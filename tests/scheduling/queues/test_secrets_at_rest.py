"""Secrets of queues are encrypted in the database; a host whose keys don't decrypt them sends nothing."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from operators import second_factor
from operators.actor import Actor
from operators.models import AuthenticatorApp
from scheduling import models, store
from scheduling.alerts import channels
from scheduling.dispatch import breakers
from scheduling.management.commands.doctor import examine
from scheduling.models.fields import UnreadableSecret
from scheduling.queues import operations, secrets_at_rest
from scheduling.reports import receipt_files
from tests.scheduling.tasks.test_erasure import everywhere

pytestmark = pytest.mark.django_db

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD+W6ZAl4="
HEADERS = {"Authorization": "Bearer of-the-vendor", "X-Key": "{{data.key}} hush-hush"}
SECRETS = (OLD, NEW, "of-the-vendor", "hush-hush")
EARLIER_KEY, OTHER_KEY = "an earlier key of this installation", "the key of another installation"


@pytest.fixture
def queue() -> models.Queue:
    by, at = Actor.command_line(), store.now()
    fields = {"handler": "webhook", "webhook_url": "https://hook.example.com/", "webhook_secret": OLD}
    queue = operations.create(name="sealed", fields=fields | {"webhook_headers": HEADERS}, by=by, at=at)
    operations.rotate_secret(queue, NEW, overlap_seconds=3_600, by=by, at=at)
    return models.Queue.objects.get(name="sealed")


def stored(queue: models.Queue) -> models.Queue:
    return models.Queue.objects.get(pk=queue.pk)


def earlier_release_stores(queue: models.Queue, **values: str) -> None:
    """Write as a release does that knows nothing of encryption."""
    with connection.cursor() as cursor:
        for name, value in values.items():
            cursor.execute(f"UPDATE scheduling_queue SET {name} = %s WHERE id = %s", [value, queue.pk])


def test_secrets_are_nowhere_in_the_database_and_can_be_used(queue):
    assert not [secret for secret in SECRETS if secret in everywhere()]
    assert (queue.webhook_secret, queue.webhook_previous_secret) == (NEW, OLD)
    assert queue.webhook_headers == HEADERS
    assert secrets_at_rest.state() == secrets_at_rest.State((), ())


def test_secret_is_encrypted_differently_each_time(queue):
    before = everywhere()
    models.Queue.objects.update(webhook_secret=NEW)
    assert stored(queue).webhook_secret == NEW
    assert everywhere() != before


def test_plain_text_of_an_earlier_release_is_read_until_it_is_encrypted(queue):
    models.Installation.objects.update(encrypts_secrets=False)
    earlier_release_stores(queue, webhook_secret=OLD, webhook_headers='{"X-Key": "hush-hush"}')
    assert (stored(queue).webhook_secret, stored(queue).webhook_headers) == (OLD, {"X-Key": "hush-hush"})
    # An earlier release beside this one has to read what this one stores.
    changes = {"webhook_headers": {"X-Key": None, "X-New": "of-the-vendor"}}
    operations.update(queue, changes, by=Actor.command_line(), now=store.now)
    operations.rotate_secret(queue, NEW, overlap_seconds=60, by=Actor.command_line(), at=store.now())
    operations.create(name="plain", fields={"webhook_secret": OLD}, by=Actor.command_line(), at=store.now())
    assert all(item in everywhere() for item in SECRETS)
    assert secrets_at_rest.state().plain == ("plain", "sealed")
    [finding] = [item for item in examine() if item.subject == "secrets"]
    assert "plain, sealed are stored as plain text" in finding.text
    assert "manage.py reencrypt" in finding.advice

    call_command("reencrypt", stdout=StringIO())
    assert not [item for item in SECRETS if item in everywhere()]
    assert stored(queue).webhook_headers == {"X-Key": "hush-hush", "X-New": "of-the-vendor"}
    # From now on.
    operations.update(queue, {"webhook_secret": OLD}, by=Actor.command_line(), now=store.now)
    assert OLD not in everywhere()


def test_text_that_looks_encrypted_is_encrypted_like_any_other(queue):
    models.Installation.objects.update(encrypts_secrets=False)
    operations.update(
        queue, {"webhook_headers": {"X-Key": "g1:AAAA"}}, by=Actor.command_line(), now=store.now
    )
    assert stored(queue).webhook_headers == {"X-Key": "g1:AAAA"}


@pytest.mark.parametrize("setting", ["SECRET_KEY", "ENCRYPTION_KEYS"])
def test_reencrypt_moves_secrets_and_authenticator_apps_to_the_current_key(
    queue, settings, setting, make_operator
):
    operator = make_operator()
    second_factor.begin(operator)
    key = AuthenticatorApp.objects.get().bin_key
    replaced = settings.SECRET_KEY
    if setting == "SECRET_KEY":
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OTHER_KEY, [replaced]
    else:
        # What SECRET_KEY encrypted stays readable.
        settings.ENCRYPTION_KEYS = [OTHER_KEY]
    assert stored(queue).webhook_headers == HEADERS
    call_command("reencrypt", stdout=StringIO())
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "nobody's key any more, and long", []
    settings.ENCRYPTION_KEYS = [OTHER_KEY]
    assert (stored(queue).webhook_secret, stored(queue).webhook_headers) == (NEW, HEADERS)
    assert AuthenticatorApp.objects.get().bin_key == key


def test_reencrypt_names_what_no_key_decrypts_and_leaves_it(queue, settings):
    key, settings.SECRET_KEY = settings.SECRET_KEY, OTHER_KEY
    with pytest.raises(CommandError, match="No key decrypts secrets of: sealed"):
        call_command("reencrypt", stdout=StringIO())
    settings.SECRET_KEY = key
    assert (stored(queue).webhook_secret, stored(queue).webhook_headers) == (NEW, HEADERS)


def test_reencrypt_names_channels_apps_and_the_signing_key_that_no_key_decrypts(settings, make_operator):
    operator = make_operator()
    second_factor.begin(operator)
    receipt_files.public_key()
    fields = {"name": "ops", "address": "https://hook.example.com/", "types": ["task.done"]}
    channels.create(kind="webhook", fields=fields, base_url="", by=Actor.command_line(), at=store.now())
    settings.SECRET_KEY = OTHER_KEY
    names = f"the channel ops, the authenticator app of {operator.username}, the receipts"
    with pytest.raises(CommandError, match=names):
        call_command("reencrypt", stdout=StringIO())
    [finding] = [item for item in examine() if item.subject == "secrets"]
    assert names in finding.text


def test_database_without_its_key_cannot_be_read_and_doctor_says_so(queue, settings):
    key, settings.SECRET_KEY = settings.SECRET_KEY, OTHER_KEY
    read = stored(queue)
    assert isinstance(read.webhook_secret, UnreadableSecret)
    assert read.unreadable_secrets == [
        "webhook_headers Authorization",
        "webhook_headers X-Key",
        "webhook_secret",
        "webhook_previous_secret",
    ]
    [finding] = [item for item in examine() if item.subject == "secrets"]
    assert "this host's keys don't decrypt those of sealed" in finding.text
    assert "SECRET_KEY_FALLBACKS" in finding.advice
    # Nothing is lost, whatever is saved meanwhile.
    operations.update(queue, {"rpm": 7}, by=Actor.command_line(), now=store.now)
    read.save()
    settings.SECRET_KEY = key
    assert (stored(queue).webhook_secret, stored(queue).webhook_headers) == (NEW, HEADERS)


def test_secrets_are_replaced_although_the_stored_ones_cannot_be_read(queue, settings):
    settings.SECRET_KEY = OTHER_KEY
    by = Actor.command_line()
    models.Queue.objects.update(blocked_until=store.now() + timedelta(seconds=30), block_reason="no key")
    operations.rotate_secret(stored(queue), OLD, overlap_seconds=60, by=by, at=store.now())
    operations.update(queue, {"webhook_headers": {"X-Key": "7"}}, by=by, now=store.now)
    read = stored(queue)
    assert (read.webhook_secret, read.webhook_previous_secret) == (OLD, "")
    assert read.unreadable_secrets == []
    # Its credentials are tried at once.
    assert read.blocked_until is None


def test_blocked_queue_is_released_by_hand(queue):
    at = store.now()
    models.Queue.objects.update(blocked_until=at + timedelta(seconds=30), block_reason="no key")
    breakers.release_queue(stored(queue), by=Actor.command_line(), at=at)
    assert not stored(queue).is_blocked(at)
    assert models.Activity.objects.filter(verb="released_target", object_name="sealed").exists()
