import ipaddress
from pathlib import Path

import pytest

from settings.env import BadSetting, Environment


def of(value: str) -> Environment:
    return Environment({"IT": value})


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("True", True), ("off", False), ("no", False)])
def test_flag_is_read_as_on_or_off(value, is_on):
    assert of(value).flag("IT", default=not is_on) is is_on


@pytest.mark.parametrize("value", ["", "  "])
def test_empty_variable_is_not_set(value):
    assert of(value).flag("IT", default=True)
    assert of(value).integer("IT", default=7, low=0, high=9) == 7
    assert of(value).hosts("IT", ("localhost",)) == ["localhost"]
    assert of(value).networks("IT") == []
    assert of(value).directory("IT", default=Path("/here")) == Path("/here")


def test_number_may_be_written_in_groups():
    assert of("10_000").integer("IT", default=1, low=1, high=10_000) == 10_000


def test_lists_are_separated_by_commas_or_blanks():
    assert of("a.example, .b.example [::1]").hosts("IT", ()) == ["a.example", ".b.example", "[::1]"]
    assert of("127.0.0.0/8,::1").networks("IT") == [
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
    ]


REFUSED = {
    "flag": (lambda it: it.flag("IT", default=False), ["maybe", "2", "yes please"]),
    "integer": (
        lambda it: it.integer("IT", default=1, low=1, high=65535),
        [
            "0",
            "65536",
            "-1",
            "8000.0",
            "1e3",
            "0x10",
            "eighty",
            "\N{FULLWIDTH DIGIT ONE}",
            "9" * 5000,
            "8000 "[:4] + "x",
        ],
    ),
    "hosts": (lambda it: it.hosts("IT", ()), ["http://a.example", "a.example:80", "a/b", "a..b"]),
    "origins": (lambda it: it.origins("IT"), ["a.example", "ftp://a.example", "https://a.example/path"]),
    "networks": (lambda it: it.networks("IT"), ["10.0.0.1/8", "everywhere", "10.0.0.0/33"]),
    "dotted_paths": (lambda it: it.dotted_paths("IT"), ["function", "a.b()", "a..b", "a.b;c"]),
    "choice": (lambda it: it.choice("IT", default="a", among=("a", "b")), ["c", "A"]),
    "directory": (lambda it: it.directory("IT", default=Path("/")), ["/dev/null", "/dev/null/x"]),
    "text": (lambda it: it.text("IT"), ["a\nb", "a\x00b"]),
}


@pytest.mark.parametrize(
    ("reader", "value"), [(name, value) for name in REFUSED for value in REFUSED[name][1]]
)
def test_invalid_value_is_refused_with_the_name_of_the_variable(reader, value):
    with pytest.raises(BadSetting, match=r"^IT must be .+, not .+\.$") as refusal:
        REFUSED[reader][0](of(value))
    assert refusal.value.name == "IT"
