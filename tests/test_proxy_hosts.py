"""/proxy: which hosts it refuses, however they are written, found or redirected to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import pytest
from fake_provider import FakeProvider
from hypothesis import given
from hypothesis import strategies as st
from proxies import MakeProxy, names, nowhere, refusal

from aipipe import addresses, fetching
from aipipe.addresses import closed
from aipipe.casts import PROXY_DEFAULTS
from aipipe.errors import InvalidRequest, NotAllowed

# What must never be reached, in every way to write it: each is tried literally, as where a redirect leads to, and,
# where it is an address, as what a name stands for.
HOSTS = """
127.0.0.1 127.1 2130706433 0x7f000001 0177.0.0.1 017700000001 0 0.0.0.0 localhost LOCALHOST localhost. ①②⑦.0.0.1
127。0。0。1 %31%32%37.0.0.1 [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [::ffff:0:127.0.0.1]
[64:ff9b::7f00:1] [64:ff9b:1::a00:1] [2002:7f00:1::] [2001:0:7f00:1::1] [fe80::1%25eth0] [fec0::1] [fd00:ec2::254]
[ff02::1] [3fff::1] [5f00::1] [100::1] 10.0.0.1 172.16.0.1 192.168.0.1 169.254.169.254 169.254.170.2 100.100.100.200
192.0.0.192 168.63.129.16 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255 example.com@127.0.0.1 127.0.0.1\\@example.com
example.com\\@127.0.0.1 127.0.0.1#@example.com 127.0.0.1%00 127.0.0.1%0d%0a 127.0.0.1%09 [[::1]] example.com:0
example.com:22 example.com:25 example.com:6379 example.com:65536 example.com:-1 example.com:９ aipipe.example.com
aipipe.example.com/proxy/http://example.com
""".split()  # noqa: SIM905 - easier to read
NO_SITES = [
    *(f"http://{host}/" for host in HOSTS),
    "http:/127.0.0.1",
    "http:///127.0.0.1",
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "data:text/html,x",
    "gopher://127.0.0.1:6379/_x",
    "http+unix://%2Frun%2Fdocker.sock/",
    "javascript:alert(1)",
]
UNUSED: Any = None  # nobody is counted where names alone are looked up
CLOSED: dict[str, Any] = {"loopback": False, "ports": PROXY_DEFAULTS["ports"], "per_minute": 1_000}


def this_machine(host: str, port: int) -> list[str]:
    """Knows no other name than this machine's own: nothing else may be looked up here."""
    assert host == "localhost"
    return ["127.0.0.1"]


def as_sent(url: str) -> str:
    """As it comes from a client that encodes nothing."""
    return url.encode().decode("latin-1")


def test_what_must_not_be_reached_is_refused_in_every_spelling(make_proxy: MakeProxy) -> None:
    fetch = make_proxy(this_machine, **CLOSED)
    for url in NO_SITES:
        answer = fetch(as_sent(url))
        assert answer.status_code in (400, 403), url
        assert answer.mimetype == "application/json", url
        assert len(refusal(answer)) > 20, url


def test_a_redirect_to_what_must_not_be_reached_comes_to_the_same_door(
    make_proxy: MakeProxy, provider: FakeProvider
) -> None:
    """The browser follows it, through us; the first hop is from a loopback that is open, the second is not."""
    first, second = make_proxy(per_minute=1_000), make_proxy(this_machine, **CLOSED)
    for url in NO_SITES:
        provider.answers("GET", "/", status=302, headers={"Location": as_sent(url)})
        hop = first(provider.url)
        told = hop.headers.get("Location", "/proxy/nowhere")
        assert (hop.status_code, told.startswith("/proxy/")) == (302, True), url
        assert second(told.removeprefix("/proxy/")).status_code in (400, 403), (url, told)


def addresses_in(hosts: list[str]) -> Iterator[str]:
    for host in hosts:
        with suppress(ValueError):
            yield str(ip_address(host.strip("[]").replace("%25", "%")))


@pytest.mark.parametrize("found", [*addresses_in(HOSTS)])
def test_a_name_that_stands_for_what_must_not_be_reached_is_refused(found: str) -> None:
    for answer in ([found], ["8.8.8.8", found], [found, "8.8.8.8"]):
        fetcher = fetching.build(PROXY_DEFAULTS, UNUSED, loopback=False, look_up=names(*answer))
        with pytest.raises(NotAllowed, match=r"doesn't reach example.com: it is not on the public internet"):
            fetcher.resolve("example.com", 80)


NO_URLS = """
http:/127.0.0.1 http:///127.0.0.1 https:// file:///etc/passwd ftp://example.com/ data:text/html,x gopher://example.com/
http+unix://x/ javascript:alert(1) example.com //example.com /etc/passwd http%3A//example.com
http://example.com@127.0.0.1/ http://a:b@example.com/ http://127.0.0.1\\@example.com/ http://example.com\\@127.0.0.1/
http://127.0.0.1#@example.com/ http://example.com/#x http://%31%32%37.0.0.1/ http://a%00b/ http://a%0d%0ab/ http://a%09b/
http://127.1/ http://2130706433/ http://0x7f000001/ http://0177.0.0.1/ http://017700000001/ http://0/ http://127.0.0.1.5/
http://1.2.3.0x4/ http://①②⑦.0.0.1/ http://127。0。0。1/ http://[fe80::1%25eth0]/ http://[[::1]]/ http://[::1/ http://[1]/
http://example.com:0/ http://example.com:65536/ http://example.com:-1/ http://example.com:９/ http://example.com:/
http://.example.com/ http://a..b/ http://exa$mple.com/
""".split()  # noqa: SIM905 - easier to read


def test_a_url_that_can_be_read_differently_is_refused(make_proxy: MakeProxy) -> None:
    fetch = make_proxy(nowhere)
    for url in ("", *NO_URLS):
        answer = fetch(url.encode().decode("latin-1"))
        assert answer.status_code == 400, url
        assert refusal(answer).startswith(("The URL after /proxy/", "AI Pipe's proxy takes no user name")), url
        assert "X-Proxy-URL" not in answer.headers, url


PRIVATE = """
127.0.0.1 127.255.255.254 0.0.0.0 10.0.0.1 172.16.0.1 192.168.0.1 169.254.169.254 169.254.170.2 100.100.100.200
192.0.0.192 192.88.99.1 168.63.129.16 198.18.0.1 192.0.2.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1
255.255.255.255
::1 :: ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:8.8.8.8 ::127.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808
64:ff9b:1::a00:1 2002:7f00:1:: 2002:808:808:: 2001:0:7f00:1::1 2a00:1450::5efe:7f00:1 2a00:1450::200:5efe:7f00:1 fe80::1
fec0::1 fc00::1 fd00:ec2::254 ff02::1 3fff::1 5f00::1 100::1 2001:db8::1 4000::1
""".split()  # noqa: SIM905 - easier to read
PUBLIC = ("8.8.8.8", "172.15.0.1", "172.32.0.1", "192.167.1.1", "2606:4700:4700::1111", "2001:4860:4860::8888")


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused_literally_and_behind_a_name(address: str) -> None:
    fetcher = fetching.build(PROXY_DEFAULTS, UNUSED, loopback=False, look_up=names("8.8.8.8", address))
    for host in (address, "example.com"):
        with pytest.raises(NotAllowed, match=f"doesn't reach {host}: it is not on the public internet"):
            fetcher.resolve(host, 80)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "LocalHost:80", "127.0.0.1", "[::1]", "[::ffff:7f00:1]"])
def test_this_machine_is_refused_however_it_is_written(make_proxy: MakeProxy, host: str) -> None:
    assert make_proxy(loopback=False)(f"http://{host}/").status_code == 403


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_that_is_public_is_not_closed(address: str) -> None:
    assert not closed(ip_address(address))


@given(st.integers(0, 2**32 - 1))
def test_no_ipv6_form_of_an_ipv4_address_is_open(number: int) -> None:
    forms = [number, 0xFFFF << 32 | number, 0xFFFF << 48 | number, 0x64FF9B << 96 | number]
    forms += [0x2002 << 112 | number << 80, 0x20010000 << 96 | number, 0x2A001450 << 96 | 0x5EFE << 32 | number]
    assert all(closed(addresses.IPv6Address(form)) for form in forms)


def test_the_address_that_was_checked_is_the_one_that_is_dialled(make_proxy: MakeProxy, provider: FakeProvider) -> None:
    """The name would be elsewhere at a second look-up."""
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    provider.answers("GET", "/", body=b"ok")
    port = provider.url.rpartition(":")[2]
    answer = make_proxy(lambda host, port: next(answers))(f"http://Example.COM.:{port}/")
    assert answer.data == b"ok"
    assert provider.requests[0].header("Host") == f"example.com:{port}"
    assert next(answers) == ["169.254.169.254"]


def test_the_next_address_is_tried_where_one_does_not_answer(make_proxy: MakeProxy, provider: FakeProvider) -> None:
    provider.answers("GET", "/", body=b"ok")
    port = provider.url.rpartition(":")[2]
    assert make_proxy(names("127.0.0.9", "127.0.0.1"))(f"http://example.com:{port}/").data == b"ok"


def test_an_address_of_this_machine_is_refused_however_public(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetching.is_ours(ip_address("127.0.0.1"))
    assert not fetching.is_ours(ip_address("8.8.8.8"))
    monkeypatch.setattr(fetching, "is_ours", lambda address: True)
    fetcher = fetching.build(PROXY_DEFAULTS, UNUSED, loopback=False, look_up=names("8.8.8.8"))
    with pytest.raises(NotAllowed):
        fetcher.resolve("example.com", 80)


@pytest.mark.parametrize("port", [22, 25, 81, 6379, 7999, 10_000])
def test_only_the_operators_ports_are_reached(make_proxy: MakeProxy, port: int) -> None:
    fetch = make_proxy(nowhere, ports=[80, 443, "8000-9999"])
    answer = fetch(f"http://example.com:{port}/")
    assert (answer.status_code, refusal(answer)) == (403, f"AI Pipe's proxy doesn't reach port {port}.")


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    for url in (text, f"http://{text}", f"https://example.com{text}"):
        try:
            target = addresses.read(url)
        except InvalidRequest:
            continue
        assert target.path.isascii() and target.path.startswith("/")
        assert not set(target.host) - set("abcdefghijklmnopqrstuvwxyz0123456789.-_:")
