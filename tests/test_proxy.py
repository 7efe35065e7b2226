"""/proxy: what passes in both directions, and what is never fetched. The web is a scripted server on loopback."""

from __future__ import annotations

import gzip
import io
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import gevent
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fake_provider import DROP, FakeProvider, Gate
from proxies import Fetch, MakeProxy, names, nowhere, refusal
from raw_server import Peer, Server
from wire import PATIENCE, chunk, head, requests

from aipipe import addresses, fetching
from aipipe.addresses import Rules
from aipipe.casts import PROXY_DEFAULTS
from aipipe.errors import NotAllowed

ELSEWHERE = {"REMOTE_ADDR": "203.0.113.9"}


def test_a_url_is_fetched_byte_for_byte(fetch: Fetch, provider: FakeProvider) -> None:
    path = "/a%2Fb/..//c;d?x=1&y=%20+&z"
    provider.answers("GET", path.partition("?")[0], json={"args": {"x": "1"}})
    answer = fetch(provider.url + path, headers={"Accept": "*/*", "User-Agent": "curl/8.5.0"})
    assert (answer.status_code, answer.json) == (200, {"args": {"x": "1"}})
    assert answer.headers["X-Proxy-URL"] == provider.url + path
    [request] = provider.requests
    assert request.target == path
    assert request.header("Host") == provider.url.removeprefix("http://")
    assert request.header("User-Agent") == "curl/8.5.0"
    assert request.header("Via") == "1.1 aipipe"


def test_what_a_client_did_not_encode_is_encoded(fetch: Fetch, provider: FakeProvider) -> None:
    provider.answers("GET", "/wiki/%E6%97%A5", body=b"sun")
    assert fetch(f"{provider.url}/wiki/" + "日".encode().decode("latin-1")).data == b"sun"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_every_method_passes_with_its_body(fetch: Fetch, provider: FakeProvider, method: str) -> None:
    provider.answers(method, "/", status=201, body=b"made")
    answer = fetch(provider.url, method, data=b"\x00\xff", headers={"Content-Type": "image/x"})
    assert (answer.status_code, answer.data) == (201, b"made")
    [request] = provider.requests
    assert (request.method, request.target, request.body) == (method, "/", b"\x00\xff")
    assert request.header("Content-Type") == "image/x"


def test_a_head_has_the_length_and_no_body(fetch: Fetch, provider: FakeProvider) -> None:
    provider.answers("HEAD", "/", steps=[head(200, {"Content-Length": "12345"})])
    answer = fetch(provider.url, "HEAD")
    assert (answer.status_code, answer.data, answer.headers["Content-Length"]) == (200, b"", "12345")


@pytest.mark.parametrize("status", [204, 206, 304, 404, 500, 999])
def test_a_status_passes(fetch: Fetch, provider: FakeProvider, status: int) -> None:
    provider.answers("GET", "/", steps=[head(status, {"ETag": '"1"', "Content-Length": "0"})])
    answer = fetch(provider.url)
    assert (answer.status_code, answer.headers["ETag"]) == (status, '"1"')


def test_a_preflight_is_answered_here(fetch: Fetch) -> None:
    asked = {"Origin": "https://a.example.com", "Access-Control-Request-Headers": "x-one, x-two"}
    answer = fetch("http://127.0.0.1:9/", "OPTIONS", headers=asked)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Headers"]) == (204, "x-one, x-two")


def test_what_tells_who_the_caller_is_stays_here(
    fetch: Fetch, provider: FakeProvider, token: Callable[[str], str]
) -> None:
    provider.answers("GET", "/", times=3)
    caller = {
        "Cookie": "session=1",
        "Forwarded": "for=1.2.3.4",
        "X-Forwarded-For": "1.2.3.4",
        "X-Real-IP": "1.2.3.4",
        "Proxy-Authorization": "Basic x",
        "Proxy-Anything": "x",
        "CF-Connecting-IP": "1.2.3.4",
        "True-Client-IP": "1.2.3.4",
        "X-Client-IP": "1.2.3.4",
        "X-Amzn-Oidc-Data": "x",
        "X-Goog-IAP-JWT-Assertion": "x",
        "X-Auth-Request-Email": "alice@example.com",
        "Remote-User": "alice",
        "Connection": "X-Named",
        "X-Named": "x",
        "TE": "trailers",
        "Upgrade": "h2c",
        "X-App": "passes",
    }
    mine = token("alice@example.com")
    fetch(provider.url, headers={**caller, "Authorization": f"Bearer {mine}", "x-api-key": mine})
    fetch(provider.url, headers={"Authorization": "Bearer theirs", "X-Goog-Api-Key": mine})
    first, second = provider.requests
    names = {name.lower() for name, _ in first.headers}
    assert names == {"host", "user-agent", "x-app", "connection", "via"}
    assert (first.header("Connection"), first.header("X-App")) == ("close", "passes")
    assert (second.header("Authorization"), second.header("X-Goog-Api-Key")) == ("Bearer theirs", None)
    fetch(provider.url)


def test_what_a_site_may_not_say_in_our_name_stays_there(fetch: Fetch, provider: FakeProvider) -> None:
    told = {
        "Set-Cookie": "session=stolen",
        "Clear-Site-Data": '"*"',
        "Strict-Transport-Security": "max-age=1",
        "Service-Worker-Allowed": "/",
        "Refresh": "0; url=https://charlie.example.org",
        "Link": "</x>; rel=preload",
        "Alt-Svc": "h3",
        "NEL": "{}",
        "Report-To": "{}",
        "Reporting-Endpoints": "x",
        "Content-Security-Policy": "default-src *",
        "X-Content-Type-Options": "other",
        "Referrer-Policy": "unsafe-url",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Access-Control-Allow-Origin": "https://charlie.example.org",
        "Access-Control-Allow-Credentials": "true",
        "WWW-Authenticate": "Basic",
        "X-Proxy-URL": "https://charlie.example.org",
        "X-AIPipe-Cost": "1",
        "X-Request-Id": "theirs",
        "Server": "theirs",
        "Content-Type": "text/html",
        "Cache-Control": "max-age=5",
        "X-Theirs": "passes",
    }
    provider.answers("GET", "/", status=401, headers=told, body=b"<script>")
    answer = fetch(provider.url)
    ours = {"content-security-policy", "x-content-type-options", "referrer-policy", "cross-origin-resource-policy"}
    ours |= {"access-control-allow-origin", "access-control-expose-headers", "x-proxy-url", "content-length"}
    ours |= {"x-request-id"}
    passed = {"content-type", "cache-control", "x-theirs", "x-proxy-www-authenticate", "x-upstream-request-id"}
    assert {name.lower() for name, _ in answer.headers} == ours | passed
    assert answer.headers["X-Proxy-WWW-Authenticate"] == "Basic"
    assert "theirs" not in answer.headers.getlist("X-Request-Id")
    assert answer.headers["X-Proxy-URL"] == provider.url


LOCATIONS = {
    "absolute": ("https://charlie.example.org/b?c#d", "/proxy/https://charlie.example.org/b?c#d"),
    "relative": ("b?c", "/proxy/{url}/a/b?c"),
    "rooted": ("/b", "/proxy/{url}/b"),
    "of the same scheme": ("//charlie.example.org/b", "/proxy/http://charlie.example.org/b"),
    "a script": ("javascript:alert(1)", None),
    "a file": ("file:///etc/passwd", None),
    "nothing": ("http://[", None),
}


@pytest.mark.parametrize(("told", "expected"), LOCATIONS.values(), ids=LOCATIONS)
def test_a_redirect_leads_through_us_again(
    fetch: Fetch, provider: FakeProvider, told: str, expected: str | None
) -> None:
    provider.answers("GET", "/a/", status=302, headers={"Location": told})
    answer = fetch(f"{provider.url}/a/?q")
    assert answer.status_code == 302
    assert answer.headers.get("Location") == (expected and expected.format(url=provider.url))


def test_pieces_pass_as_they_come(fetch: Fetch, provider: FakeProvider) -> None:
    steps = [head(200, {"Transfer-Encoding": "chunked"}), chunk(b"one"), Gate("two"), chunk(b"two"), chunk(b"")]
    provider.answers("GET", "/", steps=steps)
    answer = fetch(provider.url, buffered=False)
    pieces = answer.iter_encoded()
    assert next(pieces) == b"one"
    provider.release("two")
    assert b"".join(pieces) == b"two"
    answer.close()


def test_a_compressed_answer_passes_as_it_is(fetch: Fetch, provider: FakeProvider) -> None:
    provider.answers("GET", "/", headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8bzipped")
    answer = fetch(provider.url, headers={"Accept-Encoding": "gzip"})
    assert (answer.data, answer.headers["Content-Encoding"]) == (b"\x1f\x8bzipped", "gzip")
    assert provider.requests[0].header("Accept-Encoding") == "gzip"


def test_a_gzip_bomb_passes_as_it_is_and_is_bounded_by_its_own_bytes(
    make_proxy: MakeProxy, provider: FakeProvider
) -> None:
    bomb = gzip.compress(b"0" * 5_000_000)
    for most in (len(bomb), len(bomb) - 1):
        provider.answers("GET", "/", headers={"Content-Encoding": "gzip"}, body=bomb)
        answer = make_proxy(max_bytes=most)(provider.url)
        assert (answer.status_code, answer.data == bomb) == ((200, True) if most == len(bomb) else (502, False))


def test_an_interim_answer_is_not_taken_for_the_real_one(fetch: Fetch, provider: FakeProvider) -> None:
    hints = head(103, {"Link": "</x>"})
    provider.answers("GET", "/", steps=[hints + hints + head(200, {"Content-Length": "2", "X-Real": "1"}) + b"ok"])
    answer = fetch(provider.url)
    assert (answer.status_code, answer.data, answer.headers["X-Real"]) == (200, b"ok", "1")


NO_ANSWERS = {
    "no HTTP": [b"SSH-2.0-OpenSSH\r\n", DROP],
    "nothing": [DROP],
    "only interim answers": [head(103, {}) * 20, DROP],
    "another protocol": [head(101, {"Upgrade": "websocket"}), DROP],
    "endless headers": [b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200 + b"\r\n", DROP],
}


@pytest.mark.parametrize("steps", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_is_said_to_be_none(fetch: Fetch, provider: FakeProvider, steps: Any) -> None:
    provider.answers("GET", "/", steps=steps)
    answer = fetch(provider.url)
    assert (answer.status_code, refusal(answer)) == (502, "127.0.0.1 did not answer as a web server does.")


@pytest.mark.parametrize("told", [{"Content-Length": "10"}, {"Transfer-Encoding": "chunked"}])
def test_an_answer_that_breaks_off_does_not_look_whole(
    fetch: Fetch, provider: FakeProvider, told: dict[str, str]
) -> None:
    piece = b"half" if "Content-Length" in told else chunk(b"half")
    provider.answers("GET", "/", steps=[head(200, told) + piece, DROP])
    with pytest.raises(ConnectionResetError):
        fetch(provider.url)


def test_lengths_that_contradict_each_other_are_not_told_on(fetch: Fetch, provider: FakeProvider) -> None:
    lines = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    provider.answers("GET", "/", steps=[lines, chunk(b"whole"), chunk(b"")])
    answer = fetch(provider.url)
    assert (answer.data, "Content-Length" in answer.headers) == (b"whole", False)


SLOW = {
    "a head that drips": [b"HTTP/1.1 200 OK\r\nX-A: ", Gate("never")],
    "no head at all": [Gate("never")],
}


@pytest.mark.parametrize("steps", SLOW.values(), ids=SLOW)
def test_what_takes_too_long_is_a_504(make_proxy: MakeProxy, provider: FakeProvider, steps: Any) -> None:
    provider.answers("GET", "/", steps=steps)
    answer = make_proxy(timeout=0.3)(provider.url)
    assert answer.status_code == 504
    assert refusal(answer) == "Requests timeout after 0.3 seconds: 127.0.0.1 took longer."


@pytest.mark.parametrize("piece", [b"X-A: b\r\n", b"x"], ids=["whole lines", "a line without end"])
def test_a_head_that_drips_for_ever_is_a_504(make_proxy: MakeProxy, piece: bytes) -> None:
    """No byte is late: together they are."""

    def play(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n")
        peer.drip(piece)

    site = Server()
    site.plays(play)
    answer = make_proxy(timeout=0.3)(site.url)
    assert (answer.status_code, refusal(answer)) == (
        504,
        "Requests timeout after 0.3 seconds: 127.0.0.1 took longer.",
    )
    site.done()
    site.close()


def test_a_body_that_takes_too_long_is_cut(make_proxy: MakeProxy, provider: FakeProvider) -> None:
    provider.answers("GET", "/", steps=[head(200, {"Content-Length": "9"}), b"drip", Gate("never")])
    with pytest.raises(ConnectionResetError):
        make_proxy(timeout=0.3)(provider.url)
    provider.closed.wait()


def test_an_answer_that_says_it_is_too_large_is_refused(make_proxy: MakeProxy, provider: FakeProvider) -> None:
    provider.answers("GET", "/", body=b"x" * 1_001)
    answer = make_proxy(max_bytes=1_000)(provider.url)
    assert (answer.status_code, "1,000 bytes" in refusal(answer)) == (502, True)


def test_an_endless_answer_is_cut(make_proxy: MakeProxy, provider: FakeProvider) -> None:
    pieces = [chunk(b"x" * 400)] * 3
    provider.answers("GET", "/", steps=[head(200, {"Transfer-Encoding": "chunked"}), *pieces, Gate("never")])
    with pytest.raises(ConnectionResetError):
        make_proxy(max_bytes=1_000)(provider.url)
    provider.closed.wait()


def test_a_request_that_is_too_large_is_refused(make_proxy: MakeProxy) -> None:
    fetch = make_proxy(nowhere, max_bytes=10)
    assert fetch("http://example.com/", "POST", data=b"x" * 11).status_code == 413
    chunked = {"wsgi.input": io.BytesIO(b"x" * 11), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert fetch("http://example.com/", "POST", environ=chunked).status_code == 413


def test_a_request_that_breaks_off_goes_nowhere(make_proxy: MakeProxy) -> None:
    half = {"wsgi.input": io.BytesIO(b"half"), "wsgi.input_terminated": True, "CONTENT_LENGTH": "100"}
    assert make_proxy(nowhere)("http://example.com/", "POST", environ=half).status_code == 400


def test_nothing_is_taken_from_the_environment(
    fetch: Fetch, provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login operator password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    provider.answers("GET", "/", body=b"here")
    assert fetch(provider.url).data == b"here"
    assert provider.requests[0].header("Authorization") is None


def test_two_fetches_share_neither_connection_nor_cookies(fetch: Fetch, provider: FakeProvider) -> None:
    """A 103 on a connection that is used again would hand the next caller the answer before."""
    hinted = head(103, {"Link": "</x>"}) + head(200, {"Content-Length": "5", "Set-Cookie": "a=b"}) + b"first"
    provider.answers("GET", "/1", steps=[hinted, head(200, {"Content-Length": "5"}) + b"stale"])
    provider.answers("GET", "/2", body=b"second")
    assert fetch(f"{provider.url}/1").data == b"first"
    assert fetch(f"{provider.url}/2").data == b"second"
    assert [(one.header("Connection"), one.header("Cookie")) for one in provider.requests] == [("close", None)] * 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of its own for example.com, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    made = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=datetime.now(UTC) - timedelta(days=1),
        not_valid_after=datetime.now(UTC) + timedelta(days=1),
        extensions=[],
    ).add_extension(x509.SubjectAlternativeName([x509.DNSName("example.com")]), critical=False)
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = tmp_path_factory.mktemp("tls") / "example.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *plain)
        + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def secure_port(certificate: Path) -> Iterator[int]:
    """A server that speaks TLS with the certificate and answers every request with the hosts that were asked for, by
    TLS and by HTTP."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda connection, name, _context: setattr(connection, "asked", name)
    context.load_cert_chain(certificate)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                request = next(requests(secure))
                host = f"{secure.asked} {request.header('Host')}".encode()  # type: ignore[attr-defined]
                secure.sendall(head(200, {"Content-Length": str(len(host))}) + host)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("host", "trusted", "status"), [("example.com", True, 200), ("example.org", True, 502), ("example.com", False, 502)]
)
def test_a_certificate_must_be_trusted_and_the_hosts(
    make_proxy: MakeProxy, certificate: Path, secure_port: int, host: str, trusted: bool, status: int
) -> None:
    fetch = make_proxy(names("127.0.0.1"), trust=certificate if trusted else None)
    answer = fetch(f"https://{host}:{secure_port}/")
    assert answer.status_code == status
    assert (answer.data == f"{host} {host}:{secure_port}".encode()) == (status == 200)


def test_an_operator_can_turn_it_off(make_proxy: MakeProxy) -> None:
    answer = make_proxy(nowhere, enabled=False)("http://127.0.0.1:9/")
    assert (answer.status_code, refusal(answer)) == (
        403,
        "AI Pipe's proxy is off here: its operator has turned it off.",
    )


def test_a_refusal_is_json_for_browsers_too(make_proxy: MakeProxy) -> None:
    answer = make_proxy(nowhere)("file:///etc/passwd", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (answer.status_code, answer.mimetype) == (400, "application/json")


RULES: dict[str, tuple[dict[str, Any], str, bool]] = {
    "denied": ({"deny": ["*.example.com"]}, "a.example.com", False),
    "not denied": ({"deny": ["*.example.com"]}, "example.org", True),
    "allowed": ({"allow": ["*.example.com"]}, "a.example.com", True),
    "not allowed": ({"allow": ["*.example.com"]}, "example.org", False),
    "allowed and denied": ({"allow": ["*"], "deny": ["A.example.com"]}, "a.example.com", False),
}


@pytest.mark.parametrize(("settings", "host", "passes"), RULES.values(), ids=RULES)
def test_the_operators_lists_decide_about_hosts(settings: dict[str, Any], host: str, passes: bool) -> None:
    rules = addresses.rules({"ports": [80], "allow": [], "deny": [], **settings}, loopback=False)
    target = addresses.read(f"http://{host}/")
    if passes:
        rules.check(target)
    else:
        with pytest.raises(NotAllowed):
            rules.check(target)


def test_a_denied_address_is_not_reached_through_a_name() -> None:
    rules = Rules(deny=("8.8.*",))
    assert (rules.admits(ip_address("8.8.8.8")), rules.admits(ip_address("1.1.1.1"))) == (False, True)


@pytest.mark.parametrize("url", ["https://aipipe.example.com/", "https://AIPIPE.example.com./proxy/http://a.example/"])
def test_it_does_not_fetch_itself(make_proxy: MakeProxy, url: str) -> None:
    answer = make_proxy(nowhere)(url)
    assert (answer.status_code, "fetch from itself" in refusal(answer)) == (400, True)


def test_twenty_proxies_in_one_another_are_one_too_many(make_proxy: MakeProxy, provider: FakeProvider) -> None:
    """The second AI Pipe on the way sees from `Via` that there was a first."""
    ours = "https://aipipe.example.com/proxy/" * 20 + "http://example.com/"
    assert make_proxy(nowhere)(ours).status_code == 400
    provider.answers("GET", "/proxy/" + "http://other.example/proxy/" * 19 + "http://example.com/")
    fetch = make_proxy(names("127.0.0.1"))
    port = provider.url.rpartition(":")[2]
    fetch(f"http://other.example:{port}/proxy/" + "http://other.example/proxy/" * 19 + "http://example.com/")
    via = provider.requests[0].header("Via")
    assert via == "1.1 aipipe"
    answer = make_proxy(nowhere)("http://other.example/proxy/http://example.com/", headers={"Via": via})
    assert (answer.status_code, "fetch from itself" in refusal(answer)) == (400, True)


def test_it_does_not_fetch_itself_through_another_proxy(make_proxy: MakeProxy) -> None:
    answer = make_proxy(nowhere)("http://example.com/", headers={"Via": "2 other, 1.1 aipipe"})
    assert (answer.status_code, "fetch from itself" in refusal(answer)) == (400, True)


PARTS = [
    "script",
    "worker",
    "sharedworker",
    "serviceworker",
    "audioworklet",
    "xslt",
    "style",
    "image",
    "font",
    "iframe",
]


@pytest.mark.parametrize(
    "headers",
    [{"Service-Worker": "script"}, *({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": part} for part in PARTS)],
)
def test_what_would_be_a_part_of_our_own_pages_is_not_fetched(make_proxy: MakeProxy, headers: dict[str, str]) -> None:
    assert make_proxy(nowhere)("http://example.com/", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("site", "part"), [("same-origin", "empty"), ("same-origin", "document"), ("cross-site", "script")]
)
def test_what_stands_apart_or_is_for_other_origins_is_fetched(
    fetch: Fetch, provider: FakeProvider, site: str, part: str
) -> None:
    provider.answers("GET", "/", body=b"here")
    assert fetch(provider.url, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Dest": part}).data == b"here"


def test_a_host_that_is_not_found_is_a_502(make_proxy: MakeProxy) -> None:
    answer = make_proxy(names())("http://nowhere.example.com/")
    assert (answer.status_code, refusal(answer)) == (502, "AI Pipe's proxy can't find nowhere.example.com.")


@pytest.fixture
def hang() -> Iterator[fetching.LookUp]:
    """A look-up that takes for ever."""
    hanging = threading.Event()

    def look_up(host: str, port: int) -> list[str]:
        hanging.wait(PATIENCE)
        return []

    yield look_up
    hanging.set()


def test_a_look_up_that_hangs_ends_in_time(
    make_proxy: MakeProxy, hang: fetching.LookUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LOOKUP_SECONDS", 0.1)
    assert make_proxy(hang)("http://example.com/").status_code == 502


def test_a_look_up_is_a_part_of_the_time_for_the_whole(make_proxy: MakeProxy, hang: fetching.LookUp) -> None:
    answer = make_proxy(hang, timeout=0.1)("http://example.com/")
    assert (answer.status_code, refusal(answer)) == (
        504,
        "Requests timeout after 0.1 seconds: example.com took longer.",
    )


def test_twenty_slow_look_ups_keep_nobody_elses_waiting(hang: fetching.LookUp) -> None:
    """Those of providers are gevent's own, in ten threads."""
    nobody: Any = None
    begun = threading.Semaphore(0)

    def look_up(host: str, port: int) -> list[str]:
        if host == "example.org":
            return ["8.8.8.8"]
        begun.release()
        return hang(host, port)

    fetcher = fetching.build(PROXY_DEFAULTS, nobody, loopback=False, look_up=look_up)
    slow = [gevent.spawn(fetcher.resolve, "example.com", 80, PATIENCE) for _ in range(20)]
    with gevent.Timeout(PATIENCE / 2):
        quick = gevent.spawn(fetcher.resolve, "example.org", 80, PATIENCE).get()
        assert [str(address) for address in quick] == ["8.8.8.8"]
        assert all(begun.acquire(timeout=PATIENCE) for _ in slow)
        assert gevent.get_hub().resolver.getaddrinfo("127.0.0.1", 80)
        assert gevent.get_hub().threadpool.apply(lambda: "a look-up") == "a look-up"
    gevent.killall(slow)


def test_nobody_listening_is_a_502_that_names_no_address(make_proxy: MakeProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    answer = make_proxy(names("127.0.0.1"))(f"http://example.com:{port}/")
    assert (answer.status_code, refusal(answer)) == (502, "AI Pipe's proxy can't connect to example.com.")


def test_a_length_beyond_measure_is_none(fetch: Fetch, provider: FakeProvider) -> None:
    provider.answers("HEAD", "/", steps=[head(200, {"Content-Length": "9" * 5_000})])
    answer = fetch(provider.url, "HEAD")
    assert (answer.status_code, "Content-Length" in answer.headers) == (200, False)


def test_a_client_is_served_so_many_times_at_once(make_proxy: MakeProxy, provider: FakeProvider) -> None:
    provider.answers("GET", "/", body=b"ok", times=3)
    fetch = make_proxy(at_once=1)
    first = fetch(provider.url, buffered=False)
    assert fetch(provider.url).status_code == 429
    assert fetch(provider.url, environ=ELSEWHERE).data == b"ok"
    first.close()
    assert fetch(provider.url).data == b"ok"


def test_a_client_is_served_so_many_times_a_minute(make_proxy: MakeProxy) -> None:
    fetch = make_proxy(names(), per_minute=2)
    assert [fetch("http://example.com/").status_code for _ in range(3)] == [502, 502, 429]
    assert fetch("http://example.com/", environ=ELSEWHERE).status_code == 502
