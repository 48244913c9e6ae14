import html
import re
from datetime import UTC, datetime, timedelta

import pytest

from dashboard.views import queues as views
from scheduling import models, store
from scheduling.core import clock
from scheduling.core.errors import NoFreeSlot
from tests.dashboard.conftest import squeezed

pytestmark = pytest.mark.django_db


def fields(client, name="default") -> dict:
    form = client.get(f"/dashboard/queues/{name}/").context["form"]
    shown = {field.html_name: field.value() for field in form}
    return {key: "" if value is None else value for key, value in shown.items()} | {"webhook_headers": ""}


def test_rpm_change_shows_its_effect_first(queue, place, sign_in):
    place(range(1, 3001))
    client = sign_in()

    effect = client.get("/dashboard/queues/default/?rpm=240").context["effect"]

    assert (effect.before.over_count, effect.after.over_count) == (3000 - 15 * 120, 0)
    queue.refresh_from_db()
    assert queue.rpm == 120


def test_settings_change_is_logged(queue, sign_in):
    client = sign_in()

    client.post("/dashboard/queues/default/", {**fields(client), "max_attempts": "9"})

    queue.refresh_from_db()
    assert queue.max_attempts == 9
    line = models.Activity.objects.get(verb="changed")
    assert (line.after, line.face) == ({"max_attempts": 9}, "page")


def test_rpm_is_set_only_by_the_form_that_shows_its_effect(queue, sign_in):
    client = sign_in()
    settings = client.get("/dashboard/queues/default/").content.decode()
    shown = client.get("/dashboard/queues/default/?rpm=200")

    assert 'name="rpm"' not in settings.partition('id="fields-name"')[2]
    assert 'type="hidden" name="rpm"' not in settings
    assert 'type="hidden" name="rpm" value="200"' in shown.content.decode()
    client.post("/dashboard/queues/default/", {"rpm": "200", "version": queue.version})

    queue.refresh_from_db()
    assert queue.rpm == 200
    line = models.Activity.objects.get(verb="changed")
    assert (line.before, line.after, line.face) == ({"rpm": 120}, {"rpm": 200}, "page")


def test_rpm_change_of_a_stale_page_shows_its_effect_again(queue, sign_in):
    client = sign_in()
    models.Queue.objects.update(version=7)

    answer = client.post("/dashboard/queues/default/", {"rpm": "200", "version": "1"}, follow=True)

    assert "changed in the meantime" in answer.content.decode()
    assert answer.context["effect"].rpm_after == 200
    queue.refresh_from_db()
    assert queue.rpm == 120


def test_refused_setting_is_explained_beside_its_field(queue, sign_in):
    client = sign_in()

    answer = client.post("/dashboard/queues/default/", {**fields(client), "handler": "webhook"})

    assert answer.status_code == 422
    assert answer.context["form"].errors["webhook_url"] == ["The handler webhook needs a URL."]
    queue.refresh_from_db()
    assert queue.handler == "record"


def test_concurrent_settings_change_is_reported(queue, sign_in):
    client = sign_in()
    filled = fields(client)
    models.Queue.objects.update(version=7)

    answer = client.post("/dashboard/queues/default/", {**filled, "max_attempts": "9"})

    assert answer.status_code == 422
    assert "changed in the meantime" in answer.content.decode()


def test_secret_is_saved_and_never_shown(queue, sign_in):
    client = sign_in()
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    client.post("/dashboard/queues/default/", {**fields(client), "webhook_secret": secret})
    page = client.get("/dashboard/queues/default/").content.decode()
    client.post("/dashboard/queues/default/", {**fields(client), "max_attempts": "9"})

    queue.refresh_from_db()
    assert queue.webhook_secret == secret
    assert secret not in page
    assert "One is set" in page


def test_secrets_of_a_refused_form_are_not_shown_again(queue, sign_in):
    client = sign_in()
    secrets = {
        "webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "oauth_client_secret": "open sesame",
    }

    page = client.post("/dashboard/queues/default/", {**fields(client), **secrets, "webhook_url": "nonsense"})

    assert page.status_code == 422
    assert not any(secret in page.content.decode() for secret in secrets.values())
    assert page.content.decode().count("Enter it again") == 2


def test_address_on_another_server_asks_for_the_headers_again(queue, sign_in):
    client = sign_in()
    queue.webhook_url, queue.webhook_headers = "https://1.1.1.1/", {"X-Key": "hush"}
    queue.save()
    moved = {**fields(client), "webhook_url": "https://2.2.2.2/", "webhook_headers": "X-Key: (not shown)"}

    page = client.post("/dashboard/queues/default/", moved)

    assert page.status_code == 422
    assert (
        "Enter the value of X-Key again, because webhook_url names another server." in page.content.decode()
    )
    entered = client.post("/dashboard/queues/default/", moved | {"webhook_headers": "X-Key: hush"})
    queue.refresh_from_db()
    assert (entered.status_code, queue.webhook_url) == (302, "https://2.2.2.2/")


def test_pause_brake_and_resume_are_logged(queue, sign_in):
    client = sign_in()

    client.post("/dashboard/queues/default/pause/")
    client.post("/dashboard/queues/default/resume/")
    client.post("/dashboard/queues/default/brake/", {"per_minute": "30"})
    client.post("/dashboard/queues/default/brake/", {"per_minute": ""})

    verbs = list(models.Activity.objects.order_by("pk").values_list("verb", flat=True))
    assert verbs == ["paused", "resumed", "braked", "released"]


def test_second_pause_is_reported_and_logged_once(queue, sign_in):
    client = sign_in()

    client.post("/dashboard/queues/default/pause/")
    answer = client.post("/dashboard/queues/default/pause/", follow=True)

    assert "already paused" in answer.content.decode()
    assert models.Activity.objects.filter(verb="paused").count() == 1


def test_all_queues_are_paused_and_resumed_but_never_braked(queue, sign_in):
    models.Queue.objects.create(name="other", rpm=5, created_at=store.now(), paused_at=store.now())
    client = sign_in()

    # It resumed all of them once.
    assert client.post("/dashboard/all-queues/brake/").status_code == 404
    assert models.Queue.objects.filter(paused_at=None).count() == 1

    text = [client.post("/dashboard/all-queues/pause/", follow=True) for _ in range(2)]
    assert [str(each) for answer in text for each in answer.context["messages"]] == [
        "1 queue paused.",
        "There was nothing to do: all queues were already paused.",
    ]
    page = text[-1].content.decode()
    assert ">2, 2 of them paused" in page
    assert re.search(r'<button class="button small" disabled title="All are paused.">Pause all', page)
    client.post("/dashboard/all-queues/resume/")
    assert not models.Queue.objects.exclude(paused_at=None).exists()


def test_queue_list_is_paged_by_name_and_its_export_is_complete(queue, sign_in, monkeypatch):
    monkeypatch.setattr(views, "ROWS", 2)
    for name in ("a", "b"):
        models.Queue.objects.create(name=name, rpm=5, created_at=store.now())
    client = sign_in("viewer")

    first = client.get("/dashboard/queues/").context
    second = client.get("/dashboard/queues/", {"before": first["page"].next_before}).context
    lines = b"".join(client.get("/dashboard/queues/?format=csv").streaming_content).decode().splitlines()

    shown = [row.record[0].name for page in (first, second) for row in page["table"].rows]
    assert shown == ["a", "b", "default"]
    assert second["page"].next_before is None
    assert [line.split(",")[0] for line in lines] == ["name", *shown]


def test_open_breaker_is_on_the_board_and_closed_by_its_button(queue, sign_in):
    models.Queue.objects.update(handler="webhook", webhook_url="https://hook.test/in")
    models.Target.objects.create(origin="https://hook.test:443", opened_at=store.now(), failures_count=20)
    client = sign_in()

    assert "breaker open since" in client.get("/dashboard/").content.decode()
    client.post("/dashboard/queues/default/release/")

    assert models.Target.objects.get().opened_at is None
    assert models.Activity.objects.get(verb="released_target").object_name == "https://hook.test:443"


def test_test_request_is_sent_in_a_free_slot_and_shows_its_answer(queue, sign_in):
    answer = sign_in().post("/dashboard/queues/default/test/", follow=True)

    assert "Test request at" in answer.content.decode()


def test_test_request_is_shown_with_its_headers_and_body(queue, sign_in):
    models.Queue.objects.update(
        handler="webhook", webhook_url="http://127.0.0.1:9/in", webhook_headers={"X-Token": "s3<cret>"}
    )

    body = sign_in().post("/dashboard/queues/default/test/", follow=True).content.decode()

    [shown] = re.findall(r'<pre class="token">(.*?)</pre>', body, re.DOTALL)
    shown = html.unescape(shown)
    assert shown.startswith("POST http://127.0.0.1:9/in\n")
    assert "webhook-id: msg_test_" in shown
    assert "X-Token: (not shown)" in shown
    assert '"task_name":"a test request"' in shown


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_webhook_header_values_are_shown_to_nobody(queue, sign_in, role):
    """They contain a target's credentials."""
    models.Queue.objects.update(webhook_headers={"Authorization": "Bearer SECRET-abc", "X-Team": "blue"})

    page = sign_in(role).get("/dashboard/queues/default/").content.decode()

    assert "Authorization: (not shown)" in page
    assert "SECRET-abc" not in page


def test_webhook_headers_keep_the_values_that_are_not_shown(queue, sign_in):
    models.Queue.objects.update(webhook_headers={"Authorization": "Bearer SECRET-abc", "X-Team": "blue"})
    client = sign_in("operator")
    form = client.get("/dashboard/queues/default/").context["form"]
    fields = {name: "" if form[name].value() is None else form[name].value() for name in form.fields}

    client.post("/dashboard/queues/default/", fields)
    queue.refresh_from_db()
    assert queue.webhook_headers == {"Authorization": "Bearer SECRET-abc", "X-Team": "blue"}

    headers = "Authorization: (not shown)\nX-New: 1: 2"
    client.post("/dashboard/queues/default/", {**fields, "webhook_headers": headers})
    queue.refresh_from_db()
    assert queue.webhook_headers == {"Authorization": "Bearer SECRET-abc", "X-New": "1: 2"}

    refused = client.post("/dashboard/queues/default/", {**fields, "webhook_headers": "no header"})
    assert refused.status_code == 422


def test_pausing_several_queues_asks_for_confirmation(queue, sign_in):
    models.Queue.objects.create(name="other", rpm=60, created_at=store.now())
    client = sign_in("operator")

    response = client.post("/dashboard/all-queues/pause/")
    assert "Pause 2 queues?" in response.content.decode()
    assert not models.Queue.objects.exclude(paused_at=None).exists()
    client.post("/dashboard/all-queues/pause/", {"sure": "on"})

    assert not models.Queue.objects.filter(paused_at=None).exists()


def test_slowing_down_shows_the_new_finish_before_anything_is_set(queue, place, sign_in):
    place(range(1, 601))
    client = sign_in()

    page = client.get("/dashboard/queues/default/slow-down/", {"per_minute": 30})

    effect = page.context["brake"]
    text = re.sub(r"<[^>]+>", "", squeezed(page))
    assert f"done at {effect.ends_after:%H:%M} instead of {effect.ends_before:%H:%M}" in text
    assert effect.ends_after - effect.ends_before == 15 * clock.MINUTE
    assert 'name="per_minute" value="30"' in squeezed(page)
    queue.refresh_from_db()
    assert (queue.brake_per_minute, queue.paused_at) == (None, None)


def test_slowing_down_from_the_board_leads_back_to_it(queue, sign_in):
    client = sign_in()

    answer = client.post("/dashboard/queues/default/brake/", {"per_minute": "30", "board": "default"})

    assert answer.url == "/dashboard/?queue=default"
    queue.refresh_from_db()
    assert queue.brake_per_minute == 30


def test_slowing_down_is_shown_to_viewers_who_cannot_press_it(queue, sign_in):
    page = squeezed(sign_in("viewer").get("/dashboard/queues/default/slow-down/"))

    assert page.count("disabled title=") >= 2


def test_settings_show_each_field_once_in_a_section(queue, sign_in):
    models.Queue.objects.update(webhook_secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    form = sign_in().get("/dashboard/queues/default/").context["form"]

    shown = [field.name for section in form.sections() for field in section.fields]

    assert sorted(shown) == sorted(field.name for field in form.visible_fields())


def test_settings_without_a_secret_have_none_to_remove(queue, sign_in):
    form = sign_in().get("/dashboard/queues/default/").context["form"]

    assert "forget_secret" not in [field.name for section in form.sections() for field in section.fields]


def test_secret_is_removed_by_its_tick(queue, sign_in):
    models.Queue.objects.update(webhook_secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    client = sign_in()

    client.post("/dashboard/queues/default/", {**fields(client), "forget_secret": "on"})

    queue.refresh_from_db()
    assert queue.webhook_secret == ""


@pytest.mark.parametrize(
    ("before", "kind", "text", "after"),
    [
        (None, "standard", "", None),
        (None, "template", '{"id": "{{id}}"}', '{"id": "{{id}}"}'),
        ('{"id": "{{id}}"}', "standard", '{"id": "{{id}}"}', None),
        ('{"id": "{{id}}"}', "none", '{"id": "{{id}}"}', ""),
        ("", "none", "", ""),
        ("", "standard", "", None),
    ],
)
def test_body_of_requests_is_standard_none_or_a_template(queue, sign_in, before, kind, text, after):
    models.Queue.objects.update(webhook_body=before)
    client = sign_in()

    client.post("/dashboard/queues/default/", {**fields(client), "body_kind": kind, "webhook_body": text})

    queue.refresh_from_db()
    assert queue.webhook_body == after


def test_delays_of_retries_are_numbers_with_commas(queue, sign_in):
    client = sign_in()
    assert fields(client)["retry_delays_minutes"] == "1, 2, 4, 8, 16, 32"

    client.post("/dashboard/queues/default/", {**fields(client), "retry_delays_minutes": "3,5"})
    refused = client.post("/dashboard/queues/default/", {**fields(client), "retry_delays_minutes": "3,soon"})

    queue.refresh_from_db()
    assert queue.retry_delays_minutes == [3, 5]
    assert refused.status_code == 422


def test_id_of_a_test_request_is_chosen(queue, sign_in):
    models.Queue.objects.update(handler="webhook", webhook_url="http://127.0.0.1:9/in")
    client = sign_in()

    sent = client.post("/dashboard/queues/default/test/", {"user_id": "4711"}, follow=True)
    refused = client.post("/dashboard/queues/default/test/", {"user_id": "-1"}, follow=True)
    form = {"user_id": "+4917", "id_type": "text"}
    as_text = client.post("/dashboard/queues/default/test/", form, follow=True)

    assert "&quot;user_id&quot;:4711" in sent.content.decode()
    assert "&quot;external_id&quot;:&quot;+4917&quot;" in as_text.content.decode()
    assert "is not an ID" in refused.content.decode()


def test_next_minute_with_room_for_a_test_request_is_in_the_operators_zone(queue, sign_in, monkeypatch):
    def full(*args, **kwargs):
        raise NoFreeSlot(datetime(2026, 11, 28, 21, 13, tzinfo=UTC))

    monkeypatch.setattr("dashboard.views.queues.test_request.send_one", full)

    page = sign_in(time_zone="Asia/Kathmandu").post("/dashboard/queues/default/test/", follow=True)

    assert "02:58" in page.content.decode()


def test_hours_are_written_as_lines_and_their_effect_is_shown_before_they_are_saved(queue, sign_in, place):
    client = sign_in()
    place(range(1, 300))
    models.Queue.objects.update(overflow="carry_over")
    place(range(1, 5_000), name="a long one")
    day = (store.now() + timedelta(days=3)).strftime("%a").lower()
    form = fields(client) | {"hours": f"UTC\n{day} 00:00-24:00\nclosed 2059-12-25"}

    shown = client.post("/dashboard/queues/default/", form)

    assert "would get a later minute" in squeezed(shown)
    assert models.Queue.objects.get().hours is None
    moves = re.search(r'name="moves" value="(\d+)"', shown.content.decode())[1]
    assert client.post("/dashboard/queues/default/", form | {"moves": moves}).status_code == 302
    hours = {"zone": "UTC", "open": [f"{day} 00:00-24:00"], "closed": ["2059-12-25"]}
    assert models.Queue.objects.get().hours == hours
    assert f"{day} 00:00-24:00" in client.get("/dashboard/queues/default/").content.decode()
    again = client.post("/dashboard/queues/default/", fields(client))
    assert again.status_code == 302
    assert models.Queue.objects.get().hours == hours


def test_invalid_hours_are_explained(queue, sign_in):
    client = sign_in()
    answer = client.post("/dashboard/queues/default/", fields(client) | {"hours": "Mars\nmon 09:00-10:00"})
    assert answer.status_code == 422
    assert "There is no time zone named" in squeezed(answer)
