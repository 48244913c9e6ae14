"""Every parameter of every page: none that is unknown means "no filter", and none is too long to be read."""

import re

import pytest

from dashboard.views import errors
from tests.dashboard.test_roles import addresses, filled_in, things  # noqa: F401 (a fixture)

pytestmark = pytest.mark.django_db

# Past 64 bits; past them behind zeros; digits that int() doesn't know; less than nothing.
TOO_LONG = ["9" * 20, "9223372036854775808", "0" * 30 + "9" * 20, "²", "-" + "9" * 20]
# What takes a point of a picture as its query, and what has none of its own.
WITHOUT_NAMES = ("cell", "cell_of_all")


def pages() -> list[str]:
    """The routes that a browser may look at."""
    return [
        route
        for route, pattern in addresses()
        if pattern.name not in WITHOUT_NAMES and pattern.callback is not errors.without_slash
    ]


def looked_at(client, path: str, **query: str):
    answer = client.get(path.partition("?")[0], query)
    if answer.streaming:
        b"".join(answer.streaming_content)
    return answer


def names_of(client, path: str) -> list[str]:
    """The parameters that a page says it has, when it refuses another one."""
    answer = looked_at(client, path, nosuch="1")
    if answer.status_code == 405:
        return []
    assert answer.status_code == 400, f"{path}: takes a parameter that it doesn't know"
    text = answer.context["exception"]
    assert "nosuch" in text, f"{path}: {text}"
    return re.findall(r"\w+", text.partition("there are: ")[2])


@pytest.mark.parametrize("route", pages())
def test_page_refuses_unknown_parameters_and_survives_long_values(
    sign_in,
    things,  # noqa: F811
    route,
):
    client = sign_in("admin")
    path = filled_in(route, things)
    names = names_of(client, path)

    for name in names:
        for value in TOO_LONG:
            assert looked_at(client, path, **{name: value}).status_code in (200, 204, 302, 400, 404)


@pytest.mark.parametrize("route", [route for route in pages() if "<int:" in route])
def test_path_with_a_number_of_any_length_is_handled(sign_in, things, route):  # noqa: F811
    client = sign_in("admin")
    path = f"/{re.sub('<int:[^>]+>', '9' * 20, route)}"

    assert looked_at(client, path).status_code in (200, 404, 405)
    assert client.post(path).status_code in (302, 404, 405)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("failures/?user=99999999999999999999", "user"),
        ("failures/?task=99999999999999999999", "task"),
        ("activity/?verb=nosuch", "nosuch"),
        ("activity/?kind=nosuch", "nosuch"),
        ("activity/?face=nosuch", "nosuch"),
        ("activity/?size=²", "²"),
        ("tasks/?page=0", "page"),
        ("tasks/?page=2", "page"),
        ("tasks/?sort=ids&page=0", "page"),
        ("tasks/?state=nosuch", "nosuch"),
        ("tasks/1/?minute=2099-01-01T00:00Z", "2099"),
        ("tasks/1/?minute=1900-01-01T00:00Z", "1900"),
        ("tasks/?until=9999-12-31", "9999-12-31"),
        ("tasks/?since=0001-01-01", "0001-01-01"),
        ("activity/?until=9999-12-31", "9999-12-31"),
        ("tasks/?sort=ids&before=7", "before"),
        ("tasks/?sort=ids&before=7:x", "before"),
        ("tasks/?sort=name&before=x:a", "before"),
        ("tasks/?before=7:a", "before"),
        ("ahead/?queue=zz", "zz"),
        ("failures/?queue=zz", "zz"),
        ("ids/50100/?task=9999", "9999"),
        ("account/?x=1", "x"),
        ("tasks/1/cancel/?x=1", "x"),
        ("history/?day=2026-13-45", "2026-13-45"),
        ("tasks/cancel/?up_to=1&state=placed&at=9999-12-31T23:59:59-14:00", "9999-12-31"),
        ("tasks/cancel/?up_to=1&state=placed&at=0001-01-01T00:00:00%2B14:00", "0001-01-01"),
        ("upload/?hidden=nosuch", "nosuch"),
    ],
)
def test_unknown_filter_value_is_refused_by_name_instead_of_matching_nothing(sign_in, place, path, word):
    place([50100])

    answer = sign_in().get(f"/dashboard/{path}")

    assert answer.status_code == 400
    assert word in answer.context["exception"]


@pytest.mark.parametrize(
    "path",
    [
        "tasks/?before=1",
        "tasks/?sort=name&before=1:zzz",
        "activity/?before=0",
        "drill-down/?kind=late&after=9223372036854775807",
        "minutes/2026-11-25T12:17Z/?after=9223372036854775807",
    ],
)
def test_page_past_the_last_row_says_so_and_links_back(sign_in, place, path):
    """None of them says that there is nothing at all, or that something is being written."""
    place([50100])

    page = sign_in().get(f"/dashboard/{path}").content.decode()

    assert "There are no more " in page
    assert re.search(r">(First page|Newest)<", page)


@pytest.mark.parametrize("path", ["queues/default/pause/", "all-queues/pause/", "account/sign-out/"])
def test_get_of_an_action_address_says_that_nothing_was_done(sign_in, queue, path):
    answer = sign_in().get(f"/dashboard/{path}")

    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "Nothing was done" in answer.content.decode()


def test_search_for_zero_says_why_it_is_no_id(sign_in):
    page = sign_in("viewer").get("/dashboard/ids/0/", follow=True).content.decode()

    assert "“0” is not allowed" in page
