"""The request log of a queue, as a page."""

import pytest

from scheduling import models, store
from scheduling.core import clock
from tests.dashboard.conftest import squeezed

pytestmark = pytest.mark.django_db

ADDRESS = "/dashboard/queues/default/requests/"


def test_request_log_shows_status_response_and_task(queue, place, fail, sign_in):
    task = place([7, 8], name="a short list", at=store.now() - 3 * clock.QUARTER)
    fail(task, 404, "no such customer" + "x" * 200)
    page = squeezed(sign_in("viewer").get(ADDRESS))
    assert page.count('<span class="bad">404</span>') == 2
    assert "no such customer" in page
    assert "x" * 120 not in page
    assert f'<a href="/dashboard/tasks/{task.pk}/">a short list</a>' in page
    assert "/dashboard/ids/7/" in page


def test_request_log_of_an_idle_queue_says_what_to_do(queue, place, sign_in):
    models.Queue.objects.update(handler="webhook", webhook_url="http://t.test/")
    place([7])
    page = squeezed(sign_in("viewer").get(ADDRESS))
    assert "The queue has not sent a request yet." in page
    assert "send one test request" in page


def test_queue_page_links_to_its_request_log(queue, sign_in):
    client = sign_in("viewer")
    assert ADDRESS in client.get("/dashboard/queues/default/").content.decode()
    assert client.get("/dashboard/queues/nosuch/requests/").status_code == 404
