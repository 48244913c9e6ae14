"""How many statements the most frequent request takes."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("at_once", [0, 1])
def test_list_of_one_id_is_accepted_in_few_statements(api, settings, at_once):
    settings.WRITE_AT_ONCE_IDS = at_once
    assert api.list([1]).status_code == 201
    with CaptureQueriesContext(connection) as captured:
        assert api.list([2]).status_code == 201
    # One for the token, BEGIN, 15 for the acceptance, COMMIT; on PostgreSQL also the clock and the locks. Writing
    # the row takes three more than queuing a job that writes it.
    assert len(captured) <= (22 if connection.vendor == "postgresql" else 18) + 3 * at_once
