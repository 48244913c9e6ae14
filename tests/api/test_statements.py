"""How many statements the request that comes most often makes."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext


@pytest.mark.django_db(transaction=True)
def test_one_id_is_accepted_by_few_statements(api):
    assert api.list([1]).status_code == 201
    with CaptureQueriesContext(connection) as captured:
        assert api.list([2]).status_code == 201
    # The token, BEGIN, 15 of the acceptance, COMMIT; on PostgreSQL also the clock and its own.
    assert len(captured) <= (22 if connection.vendor == "postgresql" else 18)
