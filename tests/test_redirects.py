"""Where a sign-in may lead: what is asked for, however it is written, and what is refused."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipipe.errors import InvalidRequest
from aipipe.redirects import Asked, Target, own_path, parse, read

OWN = "https://aipipe.example.com"
APP = "https://alice.github.io"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # of RFC 7636, appendix B

# what stands behind `redirect=`: where it leads
TAKEN = {
    "https://alice.github.io": f"{APP}/",
    "https://alice.github.io/app/?a=1&b=2&c": f"{APP}/app/?a=1&b=2&c",
    "https://alice.github.io/?redirect=https://evil.example/&x=1": f"{APP}/?redirect=https://evil.example/&x=1",
    "https://alice.github.io/?code_challenge=mine": f"{APP}/?code_challenge=mine",
    "https://alice.github.io/?q=%26%20%2B+": f"{APP}/?q=%26%20%2B+",
    "https://alice.github.io?q": f"{APP}/?q",
    "HTTPS://Alice.GitHub.IO/App": f"{APP}/App",
    "https://alice.github.io:443/": f"{APP}/",
    "https://alice.github.io:08443/": f"{APP}:8443/",
    "https%3A%2F%2Falice.github.io%2F%3Fa%3D1%26b%3D2%23top": f"{APP}/?a=1&b=2#top",
    "https%3a%2f%2falice.github.io%2f%3fq%3d%2526": f"{APP}/?q=%26",
    "https%3A%2F%2Falice.github.io%2F&more=1": f"{APP}/",
    "https:%2F%2Falice.github.io%2F": f"{APP}/",
    "https%3A//alice.github.io/caf%C3%A9 au lait": f"{APP}/caf%C3%A9%20au%20lait",
    'https://alice.github.io/"<>`': f"{APP}/%22%3C%3E%60",
    "https://xn--bcher-kva.example/": "https://xn--bcher-kva.example/",
    "https://my_app.example/": "https://my_app.example/",
    "https://192.0.2.7/": "https://192.0.2.7/",
    "https://[2001:DB8:0:0:0:0:0:1]:8443/": "https://[2001:db8::1]:8443/",
    "https://alice.github.io//evil.example": f"{APP}//evil.example",
    "http://localhost:5500/index.html": "http://localhost:5500/index.html",
    "http://localhost:80/": "http://localhost/",
    "http://127.0.0.1:3000/?a": "http://127.0.0.1:3000/?a",
    "http://[::1]:3000/": "http://[::1]:3000/",
    "/playground": "/playground",
    "/usage?days=7&x": "/usage?days=7&x",
    "%2Fusage%3Fdays%3D7": "/usage?days=7",
    "https://aipipe.example.com/apps?x#y": "/apps?x#y",
    "/login?redirect=https://evil.example": "/login?redirect=https://evil.example",  # where that one is judged
}

REFUSED = [
    # other schemes
    "javascript:alert(1)",
    "javascript%3Aalert(1)",
    "data:text/html,x",
    "ftp://alice.github.io/",
    "blob:https://alice.github.io/x",
    "view-source:https://alice.github.io/",
    "httpſ://alice.github.io/",
    # http, but not of this machine
    "http://alice.github.io/",
    "http://localhost.evil.example/",
    "http://127.0.0.1.evil.example/",
    "http://0.0.0.0/",
    "http://192.168.0.1/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    # no origin that browsers agree on
    "https:alice.github.io",
    "https:/alice.github.io",
    "https:///alice.github.io",
    "https://",
    "https://:443/",
    "https://?x",
    "//evil.example/",
    "%2F%2Fevil.example/",
    "https://aipipe.example.com//evil.example",
    "/\\evil.example",
    "/%5Cevil.example\\",
    "https:\\\\evil.example",
    "https://alice.github.io\\@evil.example/",
    "https%3A%2F%2Falice.github.io%5C.evil.example",
    # somebody else than it seems
    "https://alice.github.io@evil.example/",
    "https://alice:pass@evil.example/",
    "https://@evil.example/",
    "https://alice.github.io%40evil.example/",
    "https://alice.github.io%2Fevil.example/",
    "https://alice.github.io%252F.evil.example/",
    "https://%61lice.github.io/",
    "https%253A%252F%252Falice.github.io",
    # letters that browsers turn into others
    "https://alice。github。io/",
    "https://ａlice.github.io/",
    "https://\u212aelvin.example/",  # the Kelvin sign
    "https://bücher.example/",
    "https%3A%2F%2Fb%C3%BCcher.example%2F",
    "https%3A%2F%2Falice.github.io%E2%80%8B%2F",
    "https://①②⑦.0.0.1/",
    # dots, numbers, ports
    "https://alice.github.io./",
    "http://localhost./",
    "https://.github.io/",
    "https://alice..io/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "https://alice.0x7f/",
    "https://[::1/",
    "https://[fe80::1%25eth0]/",
    "https://[v1.x]/",
    "https://alice.github.io:/",
    "https://alice.github.io:0/",
    "https://alice.github.io:65536/",
    "https://alice.github.io:９/",
    "https://alice.github.io:-1/",
    f"https://{'a' * 64}.example/",
    f"https://{'a.' * 130}example/",
    # controls, and what browsers leave out or trim
    "https%3A%2F%2Falice.github.io%0D%0ASet-Cookie:x",
    "https%3A%2F%2Fali%09ce.github.io",
    "java%0Ascript:alert(1)",
    "%20https%3A%2F%2Falice.github.io",
    "https%3A%2F%2Falice.github.io%2F%00",
    "https%3A%2F%2Falice.github.io%2F%C2%85",
    "%FF%FE",
    "https://alice github.io/",
    # our own pages that are somebody else's
    "/proxy/https://evil.example/",
    "/%70roxy/https://evil.example/",
    "/x/../proxy/https://evil.example/",
    "/%2e/proxy/https://evil.example/",
    "https://aipipe.example.com/proxy/https://evil.example/",
    "playground",
    "%2e%2e/usage",
]


@pytest.mark.parametrize(("text", "url"), TAKEN.items(), ids=TAKEN)
def test_a_redirect_leads_to(text: str, url: str) -> None:
    asked = read(f"redirect={text}", OWN)
    assert asked is not None
    assert asked.target.url == url
    assert asked.challenge is None


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_a_redirect_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^AI Pipe doesn't send you to the address that this link asks for: "):
        read(f"redirect={text}", OWN)


@pytest.mark.parametrize("text", [*TAKEN, *REFUSED], ids=ascii)
def test_what_is_used_has_the_origin_that_was_checked(text: str) -> None:
    """Seen by another parser, and by our own once more."""
    try:
        asked = read(f"redirect={text}", OWN)
    except InvalidRequest:
        return
    assert asked is not None
    found = urlsplit(asked.target.url)
    assert f"{found.scheme}://{found.netloc}" == (asked.target.origin or "://")
    assert read(asked.path.partition("?")[2], OWN) == asked


@pytest.mark.parametrize("query", ["", "redirect=", "next=/usage", "myredirect=/usage", "code_challenge=x"])
def test_without_a_redirect_nothing_is_asked_for(query: str) -> None:
    assert read(query, OWN) is None


PKCE = f"code_challenge={CHALLENGE}&code_challenge_method=S256"


@pytest.mark.parametrize(
    "query",
    [
        f"{PKCE}&redirect=https%3A%2F%2Falice.github.io%2F%3Fa%26b",
        f"redirect=https%3A%2F%2Falice.github.io%2F%3Fa%26b&{PKCE}",
        f"{PKCE}&redirect=https://alice.github.io/?a&b",
    ],
)
def test_a_challenge_comes_beside_the_redirect(query: str) -> None:
    assert read(query, OWN) == Asked(Target(APP, "/?a&b"), CHALLENGE)


def test_what_an_unencoded_redirect_says_of_a_challenge_is_the_apps() -> None:
    assert read(f"redirect=https://alice.github.io/?{PKCE}", OWN) == Asked(Target(APP, f"/?{PKCE}"))


@pytest.mark.parametrize(
    "others",
    [
        f"code_challenge={CHALLENGE}",
        f"code_challenge={CHALLENGE}&code_challenge_method=plain",
        "code_challenge_method=S256",
        "code_challenge=short&code_challenge_method=S256",
        f"code_challenge={CHALLENGE}=&code_challenge_method=S256",
        f"{PKCE}&code_challenge={CHALLENGE}",
    ],
)
def test_half_a_challenge_is_refused_rather_than_left_out(others: str) -> None:
    with pytest.raises(InvalidRequest, match="code_challenge"):
        read(f"{others}&redirect=/usage", OWN)


def test_what_is_appended_to_its_plainest_form_is_the_redirects() -> None:
    asked = read(f"{PKCE}&redirect=https://alice.github.io/?a", OWN)
    assert asked is not None
    again = read(asked.path.partition("?")[2] + quote("#/route?x&y", safe=""), OWN)
    assert again == Asked(Target(APP, "/?a#/route?x&y"), CHALLENGE)


@pytest.mark.parametrize(
    ("rest", "url"),
    [
        ("/", "/?aipipe_token=a%2B%26&n=1"),
        ("/?", "/?aipipe_token=a%2B%26&n=1"),
        ("/app?x=%20&y#top?z", "/app?x=%20&y&aipipe_token=a%2B%26&n=1#top?z"),
        ("/?aipipe_token=old&x&aipipe%5Femail=old", "/?x&aipipe_token=a%2B%26&n=1"),
    ],
)
def test_parameters_are_added_and_the_rest_stays_as_it_was(rest: str, url: str) -> None:
    assert Target(APP, rest).carrying(aipipe_token="a+&", n="1") == APP + url


@pytest.mark.parametrize("path", ["/usage?days=7", "/login?redirect=https%3A%2F%2Falice.github.io%2F"])
def test_a_path_on_this_site_is_one(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize("path", ["", "usage", "//evil.example", "/\\evil.example", "/\t/evil", "https://a.example/"])
def test_anything_else_is_none(path: str) -> None:
    assert own_path(path) is None


@given(st.text(), st.sampled_from(["https://", "http://", "/", ""]))
def test_whatever_is_asked_for_is_taken_or_refused(text: str, start: str) -> None:
    try:
        target = parse(start + text, OWN)
    except InvalidRequest:
        return
    assert target.url.isascii()
    assert parse(target.url, OWN) == target
