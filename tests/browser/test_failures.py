"""Trying again in a browser: one number in the question, the progress and the result."""

import pytest
from playwright.sync_api import expect

from scheduling import models
from tests.browser.test_pages import things  # noqa: F401 (a fixture)

pytestmark = pytest.mark.django_db(transaction=True)


def test_retry_button_and_request_follow_the_ticks(open_page, things):  # noqa: F811
    page = open_page("/dashboard/failures/?queue=default")
    failed = models.Assignment.objects.filter(status=models.Status.FAILED).count()
    button = page.get_by_role("button", name="Try", exact=False)
    expect(button).to_have_text(f"Retry {failed}")

    boxes = page.get_by_role("checkbox")
    boxes.nth(0).check()
    boxes.nth(1).check()
    expect(button).to_have_text(f"Retry {failed - 2}")
    boxes.nth(1).uncheck()
    expect(button).to_have_text(f"Retry {failed - 1}")
    button.click()

    expect(page.get_by_role("status").first).to_contain_text(f"{failed - 1} IDs are waiting to be retried")
    assert models.Assignment.objects.filter(status=models.Status.FAILED).count() == 1


def test_retry_without_javascript_confirms_the_number_without_excluded_ids(open_page, things):  # noqa: F811
    page = open_page("/dashboard/failures/?queue=default", javascript=False)
    failed = models.Assignment.objects.filter(status=models.Status.FAILED).count()

    page.get_by_role("checkbox").nth(0).check()
    page.get_by_role("button", name=f"Retry {failed}").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Retry {failed - 1} IDs?")
    page.get_by_role("button", name=f"Retry {failed - 1}").click()

    expect(page.get_by_role("status").first).to_contain_text(f"{failed - 1} IDs are waiting to be retried")
