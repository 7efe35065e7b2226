"""Where a sign-in may lead: what `/login?redirect=…` asks for, read once. What is checked here is what is used.

A URL is taken apart by a grammar that is narrower than any browser's, and put together again from its parts: nothing
is left in it that browsers read in different ways. Pure: texts in, values out.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import parse_qsl, quote, unquote

from aipipe.errors import InvalidRequest

# Stays as it was written; the rest of ASCII that may not stand in a URL, and all beyond it, is percent-encoded.
_AS_WRITTEN = "!#$%&'()*+,/:;=?@[]^{|}~"
_OURS = re.compile(r"(?:^|&)redirect=(.*)", re.DOTALL)
_UNENCODED = re.compile(r"https?://|/", re.IGNORECASE | re.ASCII)
_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE | re.ASCII | re.DOTALL)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_-]{1,63}", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)  # as a last label it makes browsers read an IPv4 address
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_GIVEN_TO_APPS = ("aipipe_token", "aipipe_email")


@dataclass(frozen=True, slots=True)
class Target:
    """`origin` as browsers write it in `Origin`, empty for a path on this site. `rest` is path, query and hash."""

    origin: str
    rest: str

    @property
    def url(self) -> str:
        return self.origin + self.rest

    def carrying(self, **parameters: str) -> str:
        """The URL with these parameters added. The others, and the hash, stay as they were written; older ones of
        the kind that AI Pipe hands over go: apps read the first."""
        before, sign, fragment = self.rest.partition("#")
        path, _, query = before.partition("?")
        kept = [text for text in query.split("&") if text and unquote(text.partition("=")[0]) not in _GIVEN_TO_APPS]
        added = [f"{name}={quote(value, safe='')}" for name, value in parameters.items()]
        return f"{self.origin}{path}?{'&'.join(kept + added)}{sign}{fragment}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a sign-in page was asked for: where to go, and the PKCE challenge of an app that wants a code."""

    target: Target
    challenge: str | None = None

    @property
    def path(self) -> str:
        """The same question in its plainest form. Whatever is appended to it belongs to the redirect."""
        challenge = f"code_challenge={self.challenge}&code_challenge_method=S256&" if self.challenge else ""
        return f"/login?{challenge}redirect={quote(self.target.url, safe='')}"


def read(query: str, own: str) -> Asked | None:
    """What the raw query string of `/login` asks for; None when it has no redirect. `own` is this site's origin.

    `redirect` is everything behind `redirect=`, as apps write it unencoded: a URL with `&` in it survives whole. An
    encoded one ends where the next parameter begins, and is decoded once. Only what isn't the redirect's is ours.
    Raises InvalidRequest, with a sentence for the person in front of the browser.
    """
    found = _OURS.search(query)
    if not found or not found[1]:
        return None
    text, others = found[1], query[: found.start()]
    if not _UNENCODED.match(text):
        text, _, behind = text.partition("&")
        others = f"{others}&{behind}"
        try:
            text = unquote(text, errors="strict")
        except UnicodeDecodeError:
            raise refused("it can't be read") from None
    return Asked(parse(text, own), _challenge(others))


def parse(text: str, own: str) -> Target:
    """A place that people may be sent to: https anywhere, http on this very machine, or a path on this site.

    Raises InvalidRequest.
    """
    if _CONTROL.search(text) or "\\" in text:
        raise refused("it has backslashes or control characters")
    if text.startswith("/"):
        return _path(text)
    found = _URL.fullmatch(text)
    if not found:
        raise refused("it doesn't begin with https://")
    scheme = found["scheme"].lower()
    host, port = _host_and_port(found["authority"])
    if scheme == "http" and not is_loopback(host):
        raise refused("it is not https")
    origin = f"{scheme}://{host}" + (f":{port}" if port not in (None, _PORTS[scheme]) else "")
    rest = quote(found["rest"], safe=_AS_WRITTEN)
    rest = rest if rest.startswith("/") else f"/{rest}"
    return _path(rest) if origin == own else Target(origin, rest)


def own_path(text: str) -> str | None:
    """`text` if it is a path on this site, else None."""
    try:
        return parse(text, "").url if text.startswith("/") else None
    except InvalidRequest:
        return None


def challenge_of(verifier: str) -> str | None:
    """The S256 challenge of a PKCE verifier; None when it isn't one (RFC 7636, section 4)."""
    if not _VERIFIER.fullmatch(verifier):
        return None
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def refused(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"AI Pipe doesn't send you to the address that this link asks for: {why}. Tell whoever made the link."
    )


def _path(text: str) -> Target:
    if text.startswith("//"):
        raise refused("it begins with two slashes")
    if "proxy" in unquote(text.partition("?")[0]).split("/"):
        raise refused("it is somebody else's page")
    return Target("", quote(text, safe=_AS_WRITTEN))


def _host_and_port(authority: str) -> tuple[str, int | None]:
    if "@" in authority:
        raise refused("it has a user name in it")
    found = _AUTHORITY.fullmatch(authority.lower()) if authority.isascii() else None
    if not found:
        raise refused("its host is not written as browsers write it")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65_536:
        raise refused("there is no such port")
    return _host(found["host"]), port


def _host(host: str) -> str:
    labels = host.split(".")
    try:
        if host.startswith("["):
            address = IPv6Address(host[1:-1])
            if address.ipv4_mapped:  # which Python and browsers write differently
                raise ValueError
            return f"[{address.compressed}]"
        if _NUMBER.fullmatch(labels[-1]):
            return str(IPv4Address(host))
    except ValueError:
        raise refused("its host is not an address as browsers write it") from None
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise refused("its host is not a name")
    return host


def _challenge(query: str) -> str | None:
    """The PKCE challenge among the other parameters."""
    given = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0].startswith("code_challenge")]
    if not given:
        return None
    told = dict(given)
    if len(told) != len(given) or told.get("code_challenge_method") != "S256":
        raise InvalidRequest("AI Pipe takes one code_challenge, with code_challenge_method=S256. Tell the app's maker.")
    if not _CHALLENGE.fullmatch(told.get("code_challenge", "")):
        raise InvalidRequest("This code_challenge is not a SHA-256 in base64url (43 characters). Tell the app's maker.")
    return told["code_challenge"]
