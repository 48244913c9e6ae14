from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from operators import tokens
from operators.actor import Actor
from operators.errors import AlreadyRevoked, InvalidTokenName
from operators.models import Scope, Token
from operators.roles import Permission
from operators.signals import action_taken

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def issue(**changes) -> tuple[Token, str]:
    options = {"name": "billing", "scope": Scope.WRITE, "by": Actor.command_line(), "at": NOON}
    return tokens.issue(**{**options, **changes})


def test_token_is_found_by_its_secret_and_only_a_hash_is_stored():
    token, secret = issue()
    assert tokens.authenticate(secret, at=NOON) == token
    row = Token.objects.filter(pk=token.pk).values().get()
    assert secret not in str(row)
    assert row["hash"] == tokens.hashed(secret)


@pytest.mark.parametrize("wrong", ["", "qd_", "qd_unknown", "x" * 100_000, "qd_" + "\ud800", "qd_é"])
def test_wrong_secrets_authenticate_nobody(wrong):
    issue()
    assert tokens.authenticate(wrong, at=NOON) is None


def test_revoked_token_authenticates_nobody_and_is_revoked_once():
    token, secret = issue()
    tokens.revoke(token, by=Actor.command_line(), at=NOON)
    assert tokens.authenticate(secret, at=NOON) is None
    with pytest.raises(AlreadyRevoked):
        tokens.revoke(token, by=Actor.command_line(), at=NOON)


def test_token_ends_with_its_operators_access(make_operator):
    operator = make_operator("operator")
    _, secret = issue(operator=operator)
    assert tokens.authenticate(secret, at=NOON)
    operator.is_active = False
    operator.save()
    assert tokens.authenticate(secret, at=NOON) is None


def test_token_is_allowed_its_scope_and_never_more_than_its_operator(make_operator):
    assert [issue(scope=Scope.READ)[0].may(act) for act in Permission] == [True, False, False]
    assert [issue(scope=Scope.WRITE)[0].may(act) for act in Permission] == [True, True, False]
    viewers, _ = issue(scope=Scope.WRITE, operator=make_operator("viewer"))
    assert [viewers.may(act) for act in Permission] == [True, False, False]


def test_last_use_of_a_token_is_written_once_a_minute(django_assert_num_queries):
    token, secret = issue()
    tokens.authenticate(secret, at=NOON)
    with django_assert_num_queries(1):
        tokens.authenticate(secret, at=NOON + timedelta(seconds=50))
    tokens.authenticate(secret, at=NOON + timedelta(seconds=70))
    token.refresh_from_db()
    assert token.last_used_at == NOON + timedelta(seconds=70)


@pytest.mark.parametrize("name", ["", "   ", "x" * 101])
def test_token_needs_a_name(name):
    with pytest.raises(InvalidTokenName):
        issue(name=name)
    assert not Token.objects.exists()


def test_every_action_sends_a_signal():
    calls = []

    def listen(sender, by, act, target, at, details, **_):
        calls.append((by.name, act, target.name, at))

    action_taken.connect(listen)
    try:
        token, _ = issue()
        tokens.revoke(token, by=Actor.system(), at=NOON)
    finally:
        action_taken.disconnect(listen)
    assert calls == [("command line", "issued", "billing", NOON), ("system", "revoked", "billing", NOON)]


def test_command_prints_the_token_and_nothing_else():
    out, err = StringIO(), StringIO()
    call_command("create_token", "billing", "--scope", "write", stdout=out, stderr=err)
    assert err.getvalue() == ""
    (line,) = out.getvalue().splitlines()
    token = tokens.authenticate(line, at=NOON)
    assert (token.name, token.scope, token.operator) == ("billing", "write", None)


@pytest.mark.parametrize("arguments", [["billing", "--scope", "all"], ["billing"], ["", "--scope", "read"]])
def test_command_refuses_what_makes_no_sense(arguments):
    with pytest.raises(CommandError):
        call_command("create_token", *arguments)
    assert not Token.objects.exists()
