"""From a file to a placed list, in a real browser."""

import re
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from operators.models import Operator
from scheduling import models, store
from tests.browser.test_board import LOOKS, assert_fits, place, press_while_answers_arrive

pytestmark = pytest.mark.django_db(transaction=True)

CSV = {"name": "renewals.csv", "mimeType": "text/csv"}


@pytest.fixture(autouse=True)
def queue(transactional_db) -> models.Queue:
    made, _ = models.Queue.objects.get_or_create(
        name="default", defaults={"rpm": 120, "created_at": store.now()}
    )
    return made


def rows(count: int, first: int = 70_001) -> bytes:
    return ("user_id;name\n" + "".join(f"{first + k};x\n" for k in range(count))).encode()


def choose(page, content: bytes, name: str = "renewals.csv") -> None:
    page.get_by_label("A file").set_input_files({**CSV, "name": name, "buffer": content})
    page.get_by_role("button", name="Show the preview").click()


def open_preview(open_page, count: int):
    """Upload a list of so many IDs, and return the page with its preview."""
    page = open_page("/dashboard/upload/")
    choose(page, rows(count))
    page.wait_for_url(re.compile(r"/upload/\d+/"))
    return page


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_file_with_faults_is_previewed_and_placed_without_them(open_page, size, scheme):
    page = open_page("/dashboard/upload/", size=size, scheme=scheme)
    assert_fits(page)

    choose(page, rows(200) + b"1e+05;bad\n")
    page.wait_for_url(re.compile(r"/upload/\d+/"))

    expect(page.locator("#preview")).to_contain_text("200 IDs")
    expect(page.locator("#faults")).to_contain_text("line 202")
    expect(page.locator("#overlap")).to_contain_text("never seen before")
    assert_fits(page)

    page.get_by_role("button", name="Place 200 IDs in default without the 1 fault").click()
    page.wait_for_url(re.compile(r"/tasks/\d+/"))
    expect(page.get_by_role("status")).to_contain_text("Placed 200 IDs")
    assert models.Task.objects.get().ids_count == 200
    assert_fits(page)


def test_rpm_slider_redraws_the_bars_and_removes_the_button(open_page):
    page = open_preview(open_page, 3000)
    expect(page.locator("#preview")).to_contain_text("80 over 120")

    page.locator("#rpm").focus()
    page.locator("#rpm").fill("240")

    expect(page.locator("#preview")).to_contain_text("240 a minute of 240")
    expect(page.locator("#preview")).to_contain_text("only a preview")
    expect(page.get_by_role("button", name=re.compile("^Place"))).to_have_count(0)


def test_choosing_another_queue_uses_its_rpm_and_no_stale_plan(open_page):
    models.Queue.objects.create(name="slow", rpm=5, created_at=store.now())
    page = open_preview(open_page, 40)

    page.get_by_label("Queue", exact=True).select_option("slow")
    expect(page.locator("#preview")).to_contain_text("Place 40 IDs in slow")
    expect(page.locator("#what-if output")).to_have_text("5")
    expect(page.locator("#rpm")).to_have_value("5")
    page.get_by_label("Not before").fill("9999-12-31T23:59")
    expect(page.locator("#preview")).to_contain_text("There is no preview of this")
    expect(page.locator("#preview button")).to_have_count(0)
    page.get_by_label("Not before").fill("")
    page.get_by_role("button", name="Place 40 IDs in slow").click()
    page.wait_for_url(re.compile(r"/tasks/\d+/"))
    assert models.Task.objects.get().queue.name == "slow"


def test_dragged_slider_ends_at_its_last_value_without_failed_requests(open_page):
    page = open_preview(open_page, 3000)
    slider = page.locator("#rpm").bounding_box()

    page.mouse.move(slider["x"] + 20, slider["y"] + 8)
    page.mouse.down()
    for step in range(30):
        page.mouse.move(slider["x"] + 20 + 4 * step, slider["y"] + 8)
        page.wait_for_timeout(25)
    page.mouse.up()

    rpm = int(page.locator("#rpm").input_value())
    assert rpm != 120
    expect(page.locator("#preview")).to_contain_text(re.compile(f"(of|over) {rpm:,}"))
    page.locator("#rpm").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Back to 120")).to_be_focused()


def test_worsened_plan_is_shown_again_without_console_errors(open_page):
    page = open_preview(open_page, 10)
    expect(page.locator("#overlap")).to_contain_text("never seen before")
    place(15 * 120, name="the other")

    page.get_by_role("button", name=re.compile("^Place 10 IDs")).click()

    expect(page.locator(".messagelist")).to_contain_text("Nothing was placed")
    assert models.Task.objects.count() == 1
    page.get_by_role("button", name=re.compile("^Place 10 IDs")).click()
    page.wait_for_url(re.compile(r"/tasks/\d+/"))


def test_place_pressed_straight_after_typing_places_what_was_typed(open_page):
    page = open_preview(open_page, 40)
    page.get_by_text("Stop automatically").click()
    answers: list = []
    page.route(re.compile("part=plan"), lambda route: answers.append(route))
    page.get_by_label("Canary: number of IDs to send first").fill("10")
    page.get_by_label("On hold above this % of failed IDs").press_sequentially("25")

    press_while_answers_arrive(page, "#place", answers)

    page.wait_for_url(re.compile(r"/tasks/\d+/"))
    task = models.Task.objects.get()
    assert (task.canary_ids, task.max_failed_percent) == (10, 25)


def test_press_that_ends_elsewhere_shows_the_plan_that_arrived(open_page):
    page = open_preview(open_page, 40)
    page.get_by_text("Stop automatically").click()
    page.get_by_label("Canary: number of IDs to send first").fill("10")
    page.locator("#place").hover()
    page.mouse.down()
    page.wait_for_timeout(700)
    page.mouse.move(5, 5)
    page.mouse.up()

    expect(page.locator("#stops")).to_contain_text("The first 10 IDs are sent")
    assert not models.Task.objects.exists()


def test_place_pressed_by_keyboard_straight_after_typing_places_what_was_typed(open_page):
    page = open_preview(open_page, 40)
    page.get_by_text("Stop automatically").click()
    page.get_by_label("Canary: number of IDs to send first").press_sequentially("10")

    page.locator("#place").focus()
    page.keyboard.press("Enter")

    page.wait_for_url(re.compile(r"/tasks/\d+/"))
    assert models.Task.objects.get().canary_ids == 10


def test_enter_in_a_field_shows_its_plan_and_places_nothing(open_page):
    page = open_preview(open_page, 40)
    page.get_by_text("Stop automatically").click()
    page.get_by_label("Canary: number of IDs to send first").press_sequentially("10")

    page.keyboard.press("Enter")

    expect(page.locator("#stops")).to_contain_text("The first 10 IDs are sent")
    assert not models.Task.objects.exists()


def test_place_pressed_with_a_later_start_shows_the_new_plan_first(open_page):
    page = open_preview(open_page, 40)
    tomorrow = store.now() + timedelta(days=1)
    # The plan for it doesn't arrive before the press.
    unanswered = []
    page.route(re.compile("not_before=2"), lambda route: unanswered.append(route))
    page.get_by_label("Not before").fill(f"{tomorrow:%Y-%m-%dT%H:%M}")

    page.get_by_role("button", name="Place 40 IDs").click()

    expect(page.locator(".messagelist")).to_contain_text("The choices changed after the preview was made")
    expect(page.get_by_label("Not before")).to_have_value(f"{tomorrow:%Y-%m-%dT%H:%M}")
    assert not models.Task.objects.exists()
    page.get_by_role("button", name="Place 40 IDs").click()
    page.wait_for_url(re.compile(r"/tasks/\d+/"))


def test_place_pressed_with_a_field_out_of_range_names_the_field(open_page):
    page = open_preview(open_page, 40)
    page.get_by_text("Stop automatically").click()
    page.get_by_label("On hold above this % of failed IDs").fill("200")

    page.get_by_role("button", name="Place 40 IDs").click()

    expect(page.get_by_label("On hold above this % of failed IDs")).to_be_focused()
    assert not models.Task.objects.exists()


def test_button_excludes_ids_waiting_in_other_tasks(open_page):
    place(3, name="the other", first=70_001)
    page = open_page("/dashboard/upload/")
    choose(page, rows(10))

    page.get_by_role("button", name="Leave these 3 out").click()

    expect(page.get_by_role("button", name=re.compile("Place 7 IDs"))).to_be_visible()


def test_ambiguous_column_is_chosen_by_a_button_and_the_file_is_kept(open_page):
    page = open_page("/dashboard/upload/")
    choose(page, b"order,customer\n1,90017\n2,90018\n")

    page.get_by_role("button", name=re.compile("^customer")).click()

    page.wait_for_url(re.compile(r"/upload/\d+/"))
    expect(page.locator("main")).to_contain_text("90017, 90018")
    _expect_refusal(open_page)


def _expect_refusal(open_page) -> None:
    """A refused upload is a status that the browser names in its console."""
    open_page.errors[:] = [error for error in open_page.errors if "status of 422" not in error]


def test_upload_after_the_session_ended_says_so_and_works_after_sign_in(open_page):
    page = open_page("/dashboard/upload/")
    cookies = page.context.cookies()
    page.get_by_label("Or paste IDs").fill("1001 1002 1003")
    page.context.clear_cookies()

    page.get_by_role("button", name="Show the preview").click()

    expect(page.get_by_role("alert")).to_have_text("You are signed out. The list was not stored.")
    # The browser's own words for the 401.
    assert len(open_page.errors) == 1
    open_page.errors.clear()
    assert not models.IdList.objects.exists()
    expect(page.get_by_label("Or paste IDs")).to_have_value("1001 1002 1003")

    page.context.add_cookies(cookies)
    page.get_by_role("button", name="Show the preview").click()
    page.wait_for_url(re.compile(r"/upload/\d+/"))


def test_placing_with_a_lowered_role_is_refused_with_the_reason(open_page):
    page = open_preview(open_page, 5)
    expect(page.locator("#overlap")).to_contain_text("never seen before")
    Operator.objects.update(role="viewer")
    page.get_by_role("button", name=re.compile("^Place")).click()

    expect(page.locator("main")).to_contain_text("You can view but not change things")
    assert not models.Task.objects.exists()
    open_page.errors[:] = [error for error in open_page.errors if "status of 403" not in error]


def test_pasted_list_is_placed_without_javascript(open_page):
    page = open_page("/dashboard/upload/", javascript=False)

    page.get_by_label("Or paste IDs").fill("1001, 1002, x")
    page.get_by_role("button", name="Show the preview").click()
    page.wait_for_url(re.compile(r"/upload/\d+/"))
    page.get_by_role("link", name="Which IDs are new, and which wait in other tasks?").click()
    expect(page.locator("#overlap")).to_contain_text("never seen before")
    page.get_by_role("link", name="back to the preview").click()
    page.get_by_role("button", name=re.compile("Place 2 IDs")).click()

    page.wait_for_url(re.compile(r"/tasks/\d+/"))
    assert models.Task.objects.get().ids_count == 2


@pytest.mark.parametrize("where", ["[data-drop]", "h1"])
def test_dropping_a_file_anywhere_selects_it(open_page, where):
    page = open_page("/dashboard/upload/")
    handle = page.evaluate_handle(
        "() => { const data = new DataTransfer();"
        " data.items.add(new File(['1\\n2\\n'], 'dropped.txt', {type: 'text/plain'})); return data; }"
    )

    page.dispatch_event(where, "dragover", {"dataTransfer": handle})
    page.dispatch_event(where, "drop", {"dataTransfer": handle})

    expect(page.locator("[data-file-words]")).to_have_text("1 kB")
    assert page.get_by_label("A file").evaluate("field => field.files[0].name") == "dropped.txt"


def test_sign_in_in_a_second_tab_keeps_the_button_of_the_first_valid(open_page, live_server):
    page = open_preview(open_page, 5)
    expect(page.locator("#overlap")).to_contain_text("never seen before")

    page.context.clear_cookies()
    second = page.context.new_page()
    second.goto(f"{live_server.url}/sign-in/")
    second.get_by_label("Username").fill("m.ortiz")
    second.get_by_label("Password").fill("a long passphrase")
    second.get_by_role("button", name="Sign in").click()
    second.wait_for_url(re.compile("/dashboard/"))
    page.get_by_role("button", name=re.compile("^Place")).click()

    page.wait_for_url(re.compile(r"/tasks/\d+/"))
    assert models.Task.objects.get().ids_count == 5


def test_placing_after_the_session_ended_continues_after_sign_in(open_page):
    page = open_preview(open_page, 5)
    expect(page.locator("#overlap")).to_contain_text("never seen before")
    token = [cookie for cookie in page.context.cookies() if cookie["name"].startswith("quarterdeck_csrf")]
    page.context.clear_cookies()
    page.context.add_cookies(token)

    page.get_by_role("button", name=re.compile("^Place")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed out")
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    assert not models.Task.objects.exists()
    # The browser's own words for the 401.
    assert len(open_page.errors) == 1
    open_page.errors.clear()
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Username").fill("m.ortiz")
    page.get_by_label("Password").fill("a long passphrase")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name=re.compile("^Place")).click()

    page.wait_for_url(re.compile(r"/tasks/\d+/"))


def test_example_of_the_empty_board_is_placed_in_three_clicks_with_a_countdown_that_counts(open_page):
    page = open_page("/dashboard/")
    page.get_by_role("link", name="try it with three example IDs").click()
    page.get_by_role("button", name="Show the preview").click()
    page.wait_for_url(re.compile(r"/upload/\d+/"))
    countdown = page.locator("#preview [data-until]").first
    before = countdown.text_content()
    expect(countdown).not_to_have_text(before)

    page.get_by_role("radio", name="In the next quarter-hour").check()
    expect(page.locator("#preview")).to_contain_text("As soon as there is room: first at")
    page.get_by_role("radio", name="As soon as there is room").check()
    expect(page.locator("#preview")).to_contain_text("The list takes free places only")
    page.get_by_role("button", name="Place 3 IDs in default").click()

    page.wait_for_url(re.compile(r"/tasks/\d+/"))
    assert (models.Task.objects.get().first_minute_at - store.now()).total_seconds() <= 65


def test_columns_are_ticked_and_text_is_offered(open_page, tmp_path):
    table = tmp_path / "people.csv"
    table.write_text('user_id;"first;name";city\nann@x;Ann;Köln\nbo@x;Bo;Bonn\n')
    page = open_page("/dashboard/upload/")
    page.set_input_files("#file", str(table))

    page.get_by_label("first;name").check()
    page.get_by_label("city").check()
    assert page.input_value("#data") == "first;name, city"
    page.get_by_role("button", name="Read text").click()
    assert page.input_value("#id_type") == "text"
    page.get_by_label("first;name").uncheck()
    page.get_by_role("button", name="Show the preview").click()
    page.wait_for_url(re.compile(r"/upload/\d+/"))
    expect(page.locator("#preview")).to_contain_text("Köln")
    expect(page.locator("main")).to_contain_text("ann@x")
    assert_fits(page)


def test_columns_of_a_file_in_utf16_are_ticked(open_page, tmp_path):
    table = tmp_path / "people.txt"
    table.write_text("sep=\t\nKunden-Nr\tGr\u00f6\u00dfe\n007\t5,3\n", encoding="utf-16")
    page = open_page("/dashboard/upload/")
    page.set_input_files("#file", str(table))

    page.get_by_label("Gr\u00f6\u00dfe").check()
    assert page.input_value("#data") == "Gr\u00f6\u00dfe"
    # The column with the IDs is none that travels with them.
    expect(page.get_by_label("Kunden-Nr")).to_have_count(1)
    page.get_by_text("The file has several columns").click()
    page.fill("#column", "kunden nr")
    page.locator("#column").press("Tab")
    expect(page.get_by_label("Kunden-Nr")).to_have_count(0)


def test_overlap_counts_for_the_queue_that_the_preview_names(open_page):
    models.Queue.objects.create(name="slow", rpm=5, created_at=store.now())
    page = open_preview(open_page, 20)
    expect(page.locator("#overlap")).to_contain_text("sent by default")

    page.goto(page.url.partition("?")[0] + "?queue=slow")
    expect(page.locator("#overlap")).to_contain_text("sent by slow")
    # And it follows the choice, more than once.
    for name in ("default", "slow"):
        page.get_by_label("Queue", exact=True).select_option(name)
        expect(page.locator("#overlap")).to_contain_text(f"sent by {name}")
