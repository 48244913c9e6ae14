"""The storm on PostgreSQL: the seeds that failed once, and operations that fail at a statement."""

import pytest

from tests import postgresql

from .test_storm import KEPT, python, storm


@pytest.fixture(scope="module")
def url():
    with postgresql.server(durable=False) as url:
        yield url


def test_each_seed_that_failed_once_passes(url):
    done = storm(*KEPT, DATABASE_URL=url)
    assert done.returncode == 0, done.stdout[-4000:]


def test_every_operation_is_atomic(url):
    """One statement of many, and every commit: each takes longer there."""
    done = python("-m", "tests.storm.statements", "--every", "40", DATABASE_URL=url)
    assert done.returncode == 0, done.stdout[-4000:]
