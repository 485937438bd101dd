from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agent.browser.web.addresses import is_public, read_address

CLOSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
    "168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.0.170",
    "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8", "64:ff9b::7f00:1",
    "64:ff9b:1::a9fe:a9fe", "100::1", "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:db8::1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fe80::1",
    "fe80::1%eth0", "fec0::1", "ff02::1", "2606:4700::1111%lo"]
OPEN = ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0",
        "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "198.17.255.255", "198.20.0.0",
        "223.255.255.255", "2001:200::1", "2001:4860:4860::8888", "2400:3200::1", "2606:4700:4700::1111", "2a00::1"]


@pytest.mark.parametrize("text", CLOSED)
def test_an_address_that_is_not_public_is_closed(text):
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", OPEN)
def test_a_public_address_is_open(text):
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", ["64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "192.0.0.192"])
def test_addresses_that_the_standard_library_calls_global_are_closed(text):
    assert not is_public(ip_address(text))


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_what_is_public_here_is_global_to_the_standard_library_too(address):
    assert address.is_global or not is_public(address)


@given(st.sampled_from([text for text in CLOSED if ":" not in text]).map(IPv4Address))
def test_a_closed_address_inside_another_is_closed(inner):
    number = int(inner)
    for outer in (number, 0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80,
                  0x20010000 << 96 | number ^ 0xFFFFFFFF):
        assert not is_public(IPv6Address(outer))


@pytest.mark.parametrize("text", ["127.1", "0177.0.0.1", "0x7f.0.0.1", "2130706433", "127.0.0.1.", "１２７.0.0.1", ""])
def test_only_the_usual_form_is_an_address(text):
    assert read_address(text) is None
