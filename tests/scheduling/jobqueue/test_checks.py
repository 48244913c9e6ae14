"""Each setting that would lose, double or never run jobs is found before the start, with a hint."""

from copy import deepcopy

import pytest
from django.conf import settings as live
from django.core.checks import CheckMessage
from django.core.checks.registry import registry


def messages() -> list[CheckMessage]:
    own = [check for check in registry.get_checks() if check.__module__ == "scheduling.jobqueue.checks"]
    assert len(own) == 5, "a check that isn't registered is never made"
    return [message for check in own for message in check(app_configs=None)]


@pytest.fixture
def q_cluster(settings):
    settings.Q_CLUSTER = deepcopy(live.Q_CLUSTER)
    return settings.Q_CLUSTER


def test_own_settings_pass_the_system_checks():
    assert messages() == []


@pytest.mark.parametrize(
    ("number", "change"),
    [
        ("E001", {"name": ""}),
        ("E001", {"name": "minutes"}),
        ("E002", {"ALT_CLUSTERS": {}}),
        ("E004", {"queue_limit": 1}),
        ("E004", {"workers": 0}),
        ("E004", {"queue_limit": None}),
        ("W001", {"queue_limit": 3}),
        ("E005", {"timeout": 1.5}),
        ("E005", {"timeout": None}),
        ("E005", {"retry": "240"}),
        ("E006", {"retry": 190}),
        ("E007", {"guard_cycle": 0.1}),
        ("E007", {"guard_cycle": None}),
        ("E008", {"catch_up": True}),
        ("E008", {"save_limit": 250}),
        ("E009", {"orm": "other"}),
        ("E010", {"broker_class": "django_q.brokers.redis_broker.Redis"}),
        ("E010", {"broker_class": "nowhere.Broker"}),
    ],
)
def test_invalid_cluster_setting_is_reported(q_cluster, number, change):
    q_cluster.update(change)
    messages_found = messages()
    assert f"quarterdeck.{number}" in {message.id for message in messages_found}
    assert all(message.hint for message in messages_found)


def test_settings_of_the_minutes_cluster_are_checked(q_cluster):
    q_cluster["ALT_CLUSTERS"]["minutes"]["retry"] = 100
    (messages_found,) = messages()
    assert messages_found.id == "quarterdeck.E006"
    assert "minutes" in messages_found.msg


@pytest.mark.django_db
def test_unknown_cluster_name_does_not_start(monkeypatch):
    monkeypatch.setenv("Q_CLUSTER_NAME", "minuets")
    (messages_found,) = messages()
    assert messages_found.id == "quarterdeck.E003"
    assert "minutes" in messages_found.hint
    monkeypatch.setenv("Q_CLUSTER_NAME", "minutes")
    assert messages() == []


@pytest.mark.parametrize(
    ("number", "change"),
    [
        ("E011", {"OPTIONS": {"pool": True, "transaction_mode": "IMMEDIATE"}}),
        ("E012", {"CONN_MAX_AGE": 0}),
        ("E013", {"ATOMIC_REQUESTS": True}),
        ("E014", {"ENGINE": "scheduling.sqlite", "OPTIONS": {"transaction_mode": "DEFERRED"}}),
    ],
)
def test_unsuitable_database_setting_is_reported(settings, number, change):
    # The settings of the connection itself stay: the checks read what a start would read.
    settings.DATABASES = {"default": {**live.DATABASES["default"], **change}}
    assert f"quarterdeck.{number}" in {message.id for message in messages()}
