import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agent.browser.web.urls import Refused, join_url, parse_url

REFUSED = [
    # addresses of this machine and its networks, in every way to write them
    "http://127.0.0.1/", "http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/",
    "http://0x7f.0.0.1/", "http://0177.0.0.1/", "http://017700000001/", "http://0/", "http://0.0.0.0/",
    "http://127.0.0.1./", "http://127.0.0.0x1/", "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/", "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://[fd00:ec2::254]/",
    "http://169.254.169.254/latest/meta-data/", "http://2852039166/", "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/", "http://[::ffff:a9fe:a9fe]/", "http://100.100.100.200/", "http://192.0.0.192/",
    "http://168.63.129.16/", "http://10.0.0.1/", "http://192.168.0.1/", "http://172.16.0.1/", "http://256.1.1.1/",
    "http://1.2.3.4.5/", "http://999999999999/", "http://example.org.0x7f/",
    # digits, dots and letters that fold to those
    "http://１２７.０.０.１/", "http://127。0。0。1/", "http://127．0．0．1/", "http://①②⑦.0.0.1/", "http://ｌｏｃａｌｈｏｓｔ/",
    "http://local\u00adhost/", "http://⑯⑨。②⑤④。⑯⑨｡②⑤④/",
    # local names
    "http://localhost/", "http://localhost./", "http://LOCALHOST/", "http://foo.localhost/", "http://router/",
    "http://metadata.google.internal/", "http://printer.local/", "http://nas.lan/", "http://x.home.arpa/",
    "http://1.0.0.127.in-addr.arpa/", "http://hidden.onion/",
    # other schemes, user names, ports, broken ones
    "file:///etc/passwd", "file://localhost/etc/passwd", "gopher://example.org/_x", "ftp://example.org/",
    "data:text/html,x", "javascript:alert(1)", "dict://example.org:11211/", "unix:///var/run/docker.sock",
    "jar:http://example.org!/", "ws://example.org/", "http+unix://%2Ftmp/x", "view-source:http://example.org/",
    "http://user@example.org/", "http://user:word@example.org/", "http://example.org@127.0.0.1/",
    "http://127.0.0.1@example.org/", "http://example.org:22/", "http://example.org:8080/", "https://example.org:0/",
    "http://example.org:99999/", "http://example.org:/x:y", "http://example.org:80:80/", "http://", "http:///x",
    "//example.org/", "example.org", "/etc/passwd", "", "http:example.org", "http:/example.org", "http://exa mple.org/",
    "http://example.org\\@127.0.0.1/", "http://127.0.0.1\\.example.org/", "http://example.org\r\nHost: x/",
    "http://example.org/\r\nX-Injected: 1", "http://exam\x00ple.org/", "http://127.0.0.%31/", "http://[::1/",
    "http://::1/", "http://[::1]x/", "http://[127.0.0.1]/", "http://-example.org/", "http://example..org/",
    "http://.org/", "http://example.org../", f"http://{'a' * 64}.org/", f"http://{'a.' * 130}org/",
    f"http://example.org/{'a' * 2000}"]
OPEN = {
    "http://example.org": "http://example.org/", "HTTPS://Example.ORG:443/A?b=c#d": "https://example.org/A?b=c",
    " http://example.org./x ": "http://example.org/x", "http://example.org:443/": "http://example.org:443/",
    "https://例子.中国/河 流?问=答": "https://xn--fsqu00a.xn--fiqs8s/%E6%B2%B3%20%E6%B5%81?%E9%97%AE=%E7%AD%94",
    "http://ｅｘａｍｐｌｅ。org/": "http://example.org/", "https://bücher.example/": "https://xn--bcher-kva.example/",
    "http://93.184.216.34/": "http://93.184.216.34/", "http://[2606:4700:4700::1111]/": "http://[2606:4700:4700::1111]/",
    "http://my_site.example.org/%41?a=%20&b=1+2": "http://my_site.example.org/%41?a=%20&b=1+2",
    "http://example.org?x=http://127.0.0.1/": "http://example.org/?x=http://127.0.0.1/",
    "http://127.0.0.1.nip.io/": "http://127.0.0.1.nip.io/",  # what it resolves to is checked when it is connected to
    "http://example.org/\\x": "http://example.org/%5Cx"}


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_an_address_that_leads_elsewhere_is_refused(text):
    with pytest.raises(Refused):
        parse_url(text)


@pytest.mark.parametrize(("text", "reason"), [
    ("file:///etc/passwd", "only http"), ("http://a:b@example.org/", "user name"),
    ("http://example.org:22/", "port 22"), ("http://localhost/", "local"),
    ("http://127.1/", "usual form"), ("http://10.0.0.1/", "not public"),
    ("example.org", "not a web address"), ("http://exa_mple..org/", "no name"), ("http://[::z]/", "host")])
def test_the_reason_is_told(text, reason):
    with pytest.raises(Refused, match=reason):
        parse_url(text)


@pytest.mark.parametrize("text", OPEN, ids=ascii)
def test_a_public_address_is_taken_in_one_form(text):
    assert str(parse_url(text)) == OPEN[text]
    assert str(parse_url(str(parse_url(text)))) == OPEN[text]


def test_an_origin_that_the_user_trusts_may_lie_anywhere():
    trusted = frozenset([("127.0.0.1", 8888)])
    assert str(parse_url("http://127.0.0.1:8888/search", trusted)) == "http://127.0.0.1:8888/search"
    for other in ("http://127.0.0.1:8889/", "http://127.0.0.2:8888/", "http://localhost:8888/"):
        with pytest.raises(Refused):
            parse_url(other, trusted)


@given(st.text(max_size=40) | st.text(max_size=30).map("http://{}".format) | st.text(max_size=20).map(
    "http://example.org{}".format))
def test_any_text_is_refused_or_taken_in_a_form_that_is_safe_to_send(text):
    try:
        url = parse_url(text)
    except Refused:
        return
    assert str(url).isascii()
    assert not any(sign.isspace() for sign in str(url))
    assert url.scheme in ("http", "https")
    assert url.port in (80, 443)
    assert url == parse_url(str(url))


def test_a_reference_that_is_no_address_leads_nowhere():
    assert join_url("http://example.org/a/b", "../c?d") == "http://example.org/c?d"
    assert join_url("http://example.org/", "http://[") == ""
