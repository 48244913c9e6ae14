"""What the tests of alerts share."""

import ipaddress

import pytest

from tests.scheduling.alerts.watched import Installation
from tests.scheduling.store.test_claims import MINUTE
from tests.scheduling.target import Target


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]


@pytest.fixture
def target():
    with Target() as target:
        yield target


@pytest.fixture
def installation(db, target):
    return Installation(target, MINUTE)
