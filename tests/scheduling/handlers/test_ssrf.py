"""The SSRF guard refuses internal addresses in every notation."""

import ipaddress

import pytest

from scheduling.handlers import ssrf

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
def test_check_url_refuses_internal_addresses_in_every_notation(host):
    with pytest.raises(ssrf.AddressNotAllowed):
        ssrf.check_url(f"https://{host}/in", ())


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
def test_check_url_refuses_anything_but_a_plain_web_address(url):
    with pytest.raises(ssrf.AddressNotAllowed):
        ssrf.check_url(url, ())


@pytest.mark.parametrize(
    "host", ["1.1.1.1", "[2606:4700::1111]", "[64:ff9b::101:101]", "no-such-name.invalid", "[::ffff:1.1.1.1]"]
)
def test_check_url_accepts_public_addresses_and_names_that_do_not_resolve_yet(host):
    ssrf.check_url(f"https://{host}:8443/in?x=1", ())


def test_allowed_network_opens_exactly_itself():
    allowed = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("fd00::/64")]
    ssrf.check_url("http://127.0.0.1:9000/", allowed)
    ssrf.check_url("http://[fd00::1]/", allowed)
    for host in ("10.0.0.1", "[fd00:0:0:1::1]", "[64:ff9b::7f00:1]", "[::127.0.0.1]", "[2002:7f00:1::]"):
        with pytest.raises(ssrf.AddressNotAllowed):
            ssrf.check_url(f"http://{host}/", allowed)


def test_name_with_one_private_address_is_refused():
    public, private = (ipaddress.ip_address(text) for text in ("1.1.1.1", "10.0.0.1"))
    ssrf.check_addresses([public], ())
    for result in ([public, private], [private, public], []):
        with pytest.raises(ssrf.AddressNotAllowed):
            ssrf.check_addresses(result, ())


def test_localhost_is_the_loopback_addresses_that_are_allowed():
    def allowed(*networks):
        result = ssrf.allowed_literals("localhost", [ipaddress.ip_network(network) for network in networks])
        return [str(address) for address in result]

    assert allowed("127.0.0.0/8") == ["127.0.0.1"]
    assert allowed("127.0.0.0/8", "::1/128") == ["127.0.0.1", "::1"]
    with pytest.raises(ssrf.AddressNotAllowed):
        allowed("10.0.0.0/8")
    assert ssrf.allowed_literals("hook.test", ()) == []
