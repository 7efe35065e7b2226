"""Which URLs and addresses `/proxy` may be asked for: nothing that only this machine can reach. Pure.

A URL is read once, here, and strictly: what is checked is what is dialled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urljoin

from aipipe.errors import InvalidRequest, NotAllowed

Address = IPv4Address | IPv6Address

# Beyond what Python's `is_global` knows. https://www.iana.org/assignments/iana-ipv4-special-registry,
# and Azure's own service: https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16
CLOSED_V4 = tuple(map(IPv4Network, ("0.0.0.0/8", "192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "224.0.0.0/3")))
# Only 2000::/3 is routed, and in it not everything: https://www.iana.org/assignments/iana-ipv6-special-registry.
# 2001::/23 has Teredo in it and 2002::/16 is 6to4, both with an IPv4 address inside. The other forms with one
# (mapped, compatible, translated, NAT64) are outside of 2000::/3.
ROUTED_V6 = IPv6Network("2000::/3")
CLOSED_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
ISATAP = (0x00005EFE, 0x02005EFE)  # then an IPv4 address: https://www.rfc-editor.org/rfc/rfc5214#section-6.1

DEFAULT_PORTS = {"http": 80, "https": 443}
URL = re.compile(r"(https?)://([^/?]*)(.*)", re.IGNORECASE)
HOST = re.compile(r"(\[[0-9a-f:.]+\]|(?:[a-z0-9_-]+\.)*[a-z0-9_-]+)\.?(?::([0-9]{1,5}))?", re.IGNORECASE)
PLAIN = re.compile(r"[!\"$-\[\]-~]*")  # printable, but for the backslash and #
BYTE = re.compile(r"[\x80-\xff]")  # of text that a client didn't encode; browsers do
NUMERIC = re.compile(r"([0-9]+|0x[0-9a-f]*)")


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be fetched. `host` is a name in lower case or an address without brackets; `path` has the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """As the `Host` header tells it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def read(url: str) -> Target:
    """Takes a URL apart, its bytes given as characters. Raises InvalidRequest for one that can be read differently."""
    found = URL.fullmatch(url)
    if not found:
        raise InvalidRequest("The URL after /proxy/ must begin with http:// or https://.")
    scheme, authority = found[1].lower(), found[2]
    path = BYTE.sub(lambda byte: f"%{ord(byte[0]):02X}", found[3])
    if not PLAIN.fullmatch(authority + path):
        raise InvalidRequest("The URL after /proxy/ holds characters that must be percent-encoded.")
    if "@" in authority:
        raise InvalidRequest("AI Pipe's proxy takes no user name in a URL: send it in a header.")
    parts = HOST.fullmatch(authority)
    port = int(parts[2] or DEFAULT_PORTS[scheme]) if parts else 0
    if not parts or not 1 <= port <= 65_535:
        raise InvalidRequest("The URL after /proxy/ has no proper host name and port.")
    return Target(scheme, _host(parts[1].lower()), port, path if path.startswith("/") else f"/{path}")


def _host(text: str) -> str:
    """A name, or an address in its usual form; the other ways to write numbers are not for telling in advance."""
    if not text.startswith("[") and not NUMERIC.fullmatch(text.rpartition(".")[2]):
        return text
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        raise InvalidRequest("The URL after /proxy/ has an address in an unusual form.") from None


def location(url: str, told: str) -> str | None:
    """Where a redirect from `url` leads when it goes through us again; None when that is nowhere on the web."""
    try:
        absolute = urljoin(url, told.strip())
    except ValueError:
        return None
    return f"/proxy/{absolute}" if URL.match(absolute) else None


def closed(address: Address) -> bool:
    """Whether an address is not one of the public internet, or hides another one."""
    if isinstance(address, IPv4Address):
        return not address.is_global or any(address in network for network in CLOSED_V4)
    if address not in ROUTED_V6 or not address.is_global or address.scope_id:
        return True
    return any(address in network for network in CLOSED_V6) or int(address) >> 32 & 0xFFFFFFFF in ISATAP


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator lets `/proxy` reach: hosts by glob, ports, and with `loopback` (for tests) this machine."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    ports: tuple[range, ...] = (range(80, 81), range(443, 444), range(8000, 10_000))
    loopback: bool = False

    def check(self, target: Target) -> None:
        """Raises NotAllowed for a host or a port that the operator doesn't open."""
        if not any(target.port in ports for ports in self.ports):
            raise NotAllowed(f"AI Pipe's proxy doesn't reach port {target.port}.")
        if _matches(target.host, self.deny) or (self.allow and not _matches(target.host, self.allow)):
            raise NotAllowed("AI Pipe's operator doesn't let the proxy reach that host.")

    def admits(self, address: Address) -> bool:
        """Whether an address that a name stands for may be dialled."""
        if self.loopback and address.is_loopback:
            return True
        return not closed(address) and not _matches(str(address), self.deny)


def _matches(host: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(host, glob.lower()) for glob in globs)


def rules(proxy: Mapping[str, Any], *, loopback: bool) -> Rules:
    """The rules that the settings `PROXY` and `UNSAFE_LOOPBACK` make."""
    bounds = [str(item).partition("-") for item in proxy["ports"]]
    ports = tuple(range(int(first), int(last or first) + 1) for first, _, last in bounds)
    return Rules(tuple(proxy["allow"]), tuple(proxy["deny"]), ports, loopback)
