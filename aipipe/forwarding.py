"""Which headers go upstream, and which come back. Pure: lists of pairs in, lists of pairs out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

Headers = list[tuple[str, str]]

# https://www.rfc-editor.org/rfc/rfc9110#section-5.5 and 5.6.2, without the line folding of former times.
SENDABLE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")

# https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
STAY_HERE = HOP_BY_HOP | {
    "host", "content-length", "accept-encoding", "cookie", "origin", "referer", "expect",
    "authorization", "x-api-key", "x-goog-api-key",
}  # fmt: skip
STAY_HERE_FROM_SHARED_KEY = frozenset({
    "openai-organization", "openai-project", "openai-beta", "x-anthropic-beta",
    "x-http-method", "x-http-method-override", "x-method-override",
})  # fmt: skip
# Of Anthropic's and Google's own headers these alone: the others choose a workspace, features, or a part of the answer.
GO_TO_SHARED_KEY = frozenset({"anthropic-version", "anthropic-dangerous-direct-browser-access", "x-goog-api-client"})
# A provider speaks for its own site, not for ours; and about the operator's account, not to its users.
STAY_THERE = HOP_BY_HOP | {
    "server", "date", "strict-transport-security", "alt-svc", "clear-site-data", "content-security-policy", "link",
    "nel", "report-to", "reporting-endpoints", "refresh", "service-worker-allowed",
}  # fmt: skip
ABOUT_THE_ACCOUNT = frozenset({"openai-organization", "openai-project", "anthropic-organization-id", "set-cookie"})

# What front ends add about who asks: addresses, and whom they have signed in.
ABOUT_THE_CALLER = re.compile(
    r"(?:x-forwarded-|x-original-|x-envoy-|x-amzn-|x-goog-iap-|x-goog-authenticated-|x-auth-request-|x-ms-client-"
    r"|x-azure-|cf-|fly-|fastly-|tailscale-|remote-|true-client-)|(?:.*-)?client-?ip|x-real-ip|forwarded"
)

# Our own answers have a header of the same name.
RENAMED = {"x-request-id": "X-Upstream-Request-Id"}


@lru_cache(maxsize=1000)
def about_the_caller(name: str) -> bool:
    """Whether a header, its name in lower case, tells who asks rather than what."""
    return ABOUT_THE_CALLER.match(name) is not None


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> set[str]:
    values = (value for name, value in headers if name.lower() == "connection")
    return {name.strip().lower() for value in values for name in value.split(",")}


def request_headers(caller: Headers, credentials: Mapping[str, str], *, shared: bool) -> Headers:
    """The caller's headers for their way upstream, and the key's, which replace them; `shared` when that is the
    operator's.

    Identity encoding is asked for, since an answer that can't be read can't be priced.
    """
    left = STAY_HERE | _named_by_connection(caller) | {name.lower() for name in credentials}
    if shared:
        names = {name.lower() for name, _ in caller}
        left |= STAY_HERE_FROM_SHARED_KEY
        left |= {name for name in names if name.startswith(("anthropic-", "x-goog-"))} - GO_TO_SHARED_KEY
    kept = [
        (name, value)
        for name, value in caller
        if (plain := name.lower()) not in left and not plain.startswith("sec-") and not about_the_caller(plain)
    ]
    return [*kept, *credentials.items(), ("Accept-Encoding", "identity")]


def answer_headers(provider: Headers, *, shared: bool) -> Headers:
    """A provider's headers for their way to the caller; ours (CORS, cost) come on top.

    One that HTTP doesn't allow stays there too: gunicorn would refuse the whole answer for it.
    """
    left = STAY_THERE | _named_by_connection(provider)
    if shared:
        left |= ABOUT_THE_ACCOUNT
    return [
        (RENAMED.get(name.lower(), name), value)
        for name, value in provider
        if (plain := name.lower()) not in left
        and not plain.startswith(("access-control-", "x-aipipe-"))
        and SENDABLE.fullmatch(f"{name}:{value}")
    ]


# What /proxy keeps from a stranger: who the caller is to us, and how the request came here.
FOR_US = HOP_BY_HOP | {"host", "content-length", "cookie", "expect"}
# What a stranger must not tell a browser in our name, or what we tell it ourselves.
FOR_THEM = HOP_BY_HOP | {
    "server", "date", "content-length", "location", "www-authenticate",
    "set-cookie", "set-cookie2", "clear-site-data", "strict-transport-security", "service-worker-allowed", "refresh",
    "link", "alt-svc", "nel", "report-to", "reporting-endpoints", "origin-agent-cluster", "set-login",
    "speculation-rules", "activate-storage-access", "accept-ch", "critical-ch", "public-key-pins",
    "content-security-policy", "content-security-policy-report-only", "x-content-type-options", "referrer-policy",
    "x-proxy-url",
}  # fmt: skip


def stranger_request_headers(caller: Headers) -> Headers:
    """The caller's headers for their way to any site on the web; tokens of ours must be out of them already."""
    left = FOR_US | _named_by_connection(caller)
    return [
        (name, value)
        for name, value in caller
        if (plain := name.lower()) not in left and not plain.startswith("proxy-") and not about_the_caller(plain)
    ]


def stranger_answer_headers(site: Headers) -> Headers:
    """A site's headers for their way to the caller, but for its length and location. `WWW-Authenticate` is renamed,
    so that no browser asks for a password on our page."""
    left = FOR_THEM | _named_by_connection(site)
    kept = [
        (name, value)
        for name, value in site
        if name.lower() not in left
        and not name.lower().startswith(("access-control-", "cross-origin-", "x-aipipe-", "proxy-"))
    ]
    challenges = [("X-Proxy-WWW-Authenticate", value) for name, value in site if name.lower() == "www-authenticate"]
    return [
        (RENAMED.get(name.lower(), name), value)
        for name, value in kept + challenges
        if SENDABLE.fullmatch(f"{name}:{value}")
    ]
