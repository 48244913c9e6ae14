"""Inner addresses are refused in whatever clothes."""

import ipaddress
import socket

import pytest

from scheduling.handlers import guard

DISGUISED = [
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:7f00:1::]",
    "[2001::80ff:fefe]",
    "[2001:db8::5efe:7f00:1]",
    "[2a00:1450::200:5efe:7f00:1]",
    "[fec0::1]",
    "[fe80::1%25eth0]",
    "[fc00::1]",
    "[ff02::1]",
    "[::]",
    "[::1]",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "①②⑦.0.0.1",
    "127.0.0.1.",
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "169.254.169.254",
    "172.31.255.255",
    "192.168.0.1",
    "198.19.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "localhost",
    "localhost.",
]


@pytest.mark.parametrize("host", DISGUISED)
def test_an_inner_address_is_refused_when_it_is_saved(host):
    with pytest.raises(guard.AddressNotAllowed):
        guard.check_url(f"https://{host}/in", ())


@pytest.mark.parametrize(
    "url",
    [
        "https://1.1.1.1@127.0.0.1/",
        "https://user:word@1.1.1.1/",
        "ftp://1.1.1.1/",
        "//1.1.1.1/",
        "https:///in",
        "https://1.1.1.1:99999/",
        "https://1.1.1.1:0/",
        "https://hook..test/",
        "https://.../",
        "https://1.1.1.1/ a",
        "javascript:alert(1)",
    ],
)
def test_what_is_no_plain_web_address_is_refused(url):
    with pytest.raises(guard.AddressNotAllowed):
        guard.check_url(url, ())


@pytest.mark.parametrize(
    "host", ["1.1.1.1", "[2606:4700::1111]", "[64:ff9b::101:101]", "no-such-name.invalid", "[::ffff:1.1.1.1]"]
)
def test_public_addresses_and_names_that_cannot_be_known_yet_are_taken(host):
    guard.check_url(f"https://{host}:8443/in?x=1", ())


def test_an_allowed_network_opens_exactly_what_it_says():
    allowed = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("fd00::/64")]
    guard.check_url("http://127.0.0.1:9000/", allowed)
    guard.check_url("http://[fd00::1]/", allowed)
    for host in ("10.0.0.1", "[fd00:0:0:1::1]", "[64:ff9b::7f00:1]", "[::127.0.0.1]", "[2002:7f00:1::]"):
        with pytest.raises(guard.AddressNotAllowed):
            guard.check_url(f"http://{host}/", allowed)


def test_a_name_with_one_public_and_one_private_address_is_refused():
    def found(*addresses):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]

    assert guard.judged(found("1.1.1.1", "1.0.0.1"), ()) == ("1.1.1.1", socket.AF_INET)
    with pytest.raises(guard.AddressNotAllowed):
        guard.judged(found("1.1.1.1", "10.0.0.1"), ())
