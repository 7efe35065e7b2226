"""Plays every scenario of scenarios/*.json: what goes upstream, what the caller sees, what the ledger holds.

README.md tells how one is written. What holds for all of them is checked here, and is not written there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import forms
import pytest
from conftest import OPERATOR_KEYS, SECRET, MakeApp
from fake_provider import DROP, RESET, FakeProvider
from flask import Flask
from werkzeug.wrappers import Response
from wire import Received, head

Scenario = dict[str, Any]

ALICE = "alice@example.com"
ENDINGS = {"drop": DROP, "reset": RESET}
COMMENT = re.compile(rb": aipipe cost=([\d.]+) remaining=([\d.]+)\n\n")
PARTS = {
    "scenario": {"name", "why", "source", "settings", "model_list", "request", "upstream", "answer", "ledger"},
    "request": {"method", "path", "headers", "json", "form", "body", "native_key"},
    "upstream": {"expects", "status", "headers", "json", "body", "sse", "array", "ends"},
    "expects": {"target", "json_includes", "json_lacks", "headers", "headers_lack"},
    "answer": {"status", "headers", "headers_lack", "error_type", "message_includes"},
    "ledger": {"cost", "input_tokens", "output_tokens", "cached_tokens", "ended", "model", "answer_id"},
}
KEY_HEADERS = {"geminiv1beta": "x-goog-api-key", "anthropic": "x-api-key"}  # the others: Authorization
FILES = {
    file.stem: json.loads(file.read_text()) for file in sorted((Path(__file__).parent / "scenarios").glob("*.json"))
}


def streamed(upstream: Scenario | None) -> bool:
    return upstream is not None and ("sse" in upstream or "array" in upstream)


def scenarios(*, streams_only: bool = False) -> list[Any]:
    return [
        pytest.param(one, id=f"{name}/{one['name']}")
        for name, file in FILES.items()
        for one in file["scenarios"]
        if not streams_only or streamed(one["upstream"])
    ]


@pytest.mark.parametrize("scenario", scenarios())
def test_scenario(scenario: Scenario, provider: FakeProvider, make_app: MakeApp, token: Callable[[str], str]) -> None:
    play(scenario, provider, make_app, token(ALICE), events(scenario["upstream"] or {}))


@pytest.mark.parametrize("scenario", scenarios(streams_only=True))
def test_a_stream_that_comes_byte_by_byte_is_the_same_stream(
    scenario: Scenario, provider: FakeProvider, make_app: MakeApp, token: Callable[[str], str]
) -> None:
    stream = b"".join(events(scenario["upstream"]))
    play(scenario, provider, make_app, token(ALICE), [bytes([byte]) for byte in stream])


def test_scenarios_say_where_they_come_from_and_what_they_prove() -> None:
    for name, file in FILES.items():
        assert file.keys() <= {"source", "prices_source", "scenarios"}, name
        names = [one["name"] for one in file["scenarios"]]
        assert len(names) == len(set(names)), f"{name} has two scenarios of one name"
        for one in file["scenarios"]:
            assert one.get("source", file.get("source", "")).startswith("https://"), f"{name}/{one['name']}: no source"
            assert "prices_source" in file or not (one["ledger"] or {}).get("cost"), f"{name}: no source of prices"
            assert one["ledger"] is None or one.get("why"), f"{name}/{one['name']} doesn't say how its cost comes about"
            parts = {"scenario": one, **{part: one[part] or {} for part in ("request", "upstream", "answer", "ledger")}}
            parts["expects"] = parts["upstream"].get("expects", {})
            for part, content in parts.items():
                assert content.keys() <= PARTS[part], f"{name}/{one['name']}: unknown words in {part}"


def play(scenario: Scenario, provider: FakeProvider, make_app: MakeApp, token: str, chunks: list[bytes]) -> None:
    settings = {name: fill(value, url=provider.url) for name, value in scenario.get("settings", {}).items()}
    app = make_app(**settings)
    upstream, request = scenario["upstream"], scenario["request"]
    credential = request.get("native_key") or token
    body = written(request)
    if "model_list" in scenario:
        provider.answers("GET", "/api/v1/models", json=scenario["model_list"])
    if upstream:
        plan(provider, request["method"], upstream, chunks)
    headers = {name: fill(value, credential=credential) for name, value in request.get("headers", {}).items()}
    if "form" in request:
        headers["Content-Type"] = forms.CONTENT_TYPE
    if not any(credential in value for value in headers.values()):
        headers["Authorization"] = f"Bearer {credential}"
    path = request["path"]
    with (
        app.test_client() as client,
        client.open(
            path, method=request["method"], headers=headers, data=body, environ_overrides={"RAW_URI": path}
        ) as answer,
    ):
        content = answer.data

    requests = provider.requests
    if "model_list" in scenario:
        check_list_request(requests.pop(0))
    if upstream:
        assert len(requests) == 1
        check_upstream(requests[0], scenario, body, token)
    else:
        assert requests == []
    check_headers(answer, scenario["answer"])
    check_body(content, answer, scenario, b"".join(chunks))
    check_ledger(app, answer, content, scenario)


def fill(value: Any, **words: str) -> Any:
    """`value` with `{word}` replaced, wherever it is a text."""
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace(f"{{{word}}}", text)
    return value


def written(message: Scenario) -> bytes:
    if "json" in message:
        return json.dumps(message["json"]).encode()
    if "form" in message:
        return forms.write(form(message))
    return str(message.get("body", "")).encode()


def form(request: Scenario) -> list[forms.Part]:
    """A form's parts: a text, or a file of so many bytes, which are of every value."""
    return [
        forms.Part(part["name"], bytes(range(256)) * (part["bytes"] // 256 + 1), part["filename"], part["type"])
        if "bytes" in part
        else forms.Part(part["name"], part["text"].encode())
        for part in request["form"]
    ]


def events(upstream: Scenario) -> list[bytes]:
    """A stream's events as bytes: an object is data, under a name if it has an `event`; a text is lines as they are.

    An array has its brackets and commas in front of its elements, and at its end unless the connection breaks.
    """
    if "array" in upstream:
        elements = [json.dumps(element, indent=2).encode() for element in upstream["array"]]
        pieces = [(b"[" if not number else b",\r\n") + element for number, element in enumerate(elements)]
        return pieces if "ends" in upstream else [*pieces, b"\n]\n"]
    found = []
    for item in upstream.get("sse", ()):
        if isinstance(item, str):
            lines = item
        elif "event" in item:
            lines = f"event: {item['event']}\ndata: {json.dumps(item['data'])}"
        else:
            lines = f"data: {json.dumps(item)}"
        found.append(f"{lines}\n\n".encode())
    return found


def plan(provider: FakeProvider, method: str, upstream: Scenario, chunks: list[bytes]) -> None:
    path = upstream["expects"]["target"].partition("?")[0]
    status, headers = upstream.get("status", 200), upstream.get("headers", {})
    ending = [ENDINGS[upstream["ends"]]] if "ends" in upstream else []
    if "array" in upstream:
        headers = {"Content-Type": "application/json; charset=UTF-8", **headers}
    if streamed(upstream):
        provider.answers(method, path, status=status, headers=headers, sse=[*chunks, *ending])
        return
    body = written(upstream)
    headers = {"Content-Type": "application/json" if "json" in upstream else "text/plain", **headers}
    if ending:
        promised = head(status, {**headers, "Content-Length": str(len(body) + 1)})
        provider.answers(method, path, steps=[promised + body, *ending])
    else:
        provider.answers(method, path, status=status, headers=headers, body=body)


# What goes upstream


def check_upstream(received: Received, scenario: Scenario, body: bytes, token: str) -> None:
    expects, request = scenario["upstream"]["expects"], scenario["request"]
    assert (received.method, received.target) == (request["method"], expects["target"])
    assert not [value for _, value in received.headers if token in value]
    assert received.header("Accept-Encoding") in (None, "identity")
    assert len(received.all("Host")) == 1
    segment = request["path"].split("/")[1]
    if key := request.get("native_key") or OPERATOR_KEYS.get(segment):
        check_key(received, KEY_HEADERS.get(segment, "Authorization"), key)
    if "form" in request:
        assert forms.read(str(received.header("Content-Type")), received.body) == form(request)
    if request.get("native_key"):
        assert received.body == body
        assert not any(key in value for key in OPERATOR_KEYS.values() for _, value in received.headers)
    for name, value in expects.get("headers", {}).items():
        assert received.header(name) == value, name
    for name in expects.get("headers_lack", ()):
        assert received.all(name) == [], name
    if "json_includes" in expects:
        assert included(expects["json_includes"], received.json()) == []
    for path in expects.get("json_lacks", ()):
        assert not has(received.json(), path.split(".")), path


def check_key(received: Received, header: str, key: str) -> None:
    """The key is in its provider's header, and in no other."""
    assert received.header(header) == (f"Bearer {key}" if header == "Authorization" else key)
    assert [name for name, value in received.headers if key in value] == [header]


def check_list_request(received: Received) -> None:
    """Prices are asked for once, in nobody's name."""
    assert (received.method, received.target) == ("GET", "/api/v1/models")
    assert received.all("Authorization") == []


def included(expected: Any, found: Any, path: str = "") -> list[str]:
    """Where `found` lacks something of `expected`: it may have more fields, but not other values or items."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        return [line for name, value in expected.items() for line in included(value, found.get(name), f"{path}.{name}")]
    return [] if expected == found else [f"{path}: {found!r}, not {expected!r}"]


def has(found: Any, path: list[str]) -> bool:
    return isinstance(found, Mapping) and path[0] in found and (len(path) == 1 or has(found[path[0]], path[1:]))


# What the caller sees


def check_headers(answer: Response, expected: Scenario) -> None:
    assert answer.status_code == expected["status"], answer.data
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert not [value for _, value in answer.headers if any(secret in value for secret in secrets())]
    for name, value in expected.get("headers", {}).items():
        assert answer.headers.getlist(name) == [value], name
    for name in expected.get("headers_lack", ()):
        assert name not in answer.headers


def secrets() -> list[str]:
    return [SECRET, *OPERATOR_KEYS.values()]


def check_body(content: bytes, answer: Response, scenario: Scenario, stream: bytes) -> None:
    """Passed on as it came, byte for byte but for our comment; or a refusal of ours, which tells no secret."""
    expected, upstream = scenario["answer"], scenario["upstream"]
    assert not [secret for secret in secrets() if secret.encode() in content]
    if streamed(upstream):
        passed = COMMENT.sub(b"", content)
        assert passed[: len(stream)] == stream
        check_stream_end(passed[len(stream) :], expected.get("error_type"), array="array" in upstream)
    elif upstream and "error_type" not in expected:
        assert content == written(upstream)
    else:
        refusal = json.loads(content)
        assert refusal["error"]["type"] == expected["error_type"]
        assert refusal["message"] == refusal["error"]["message"]
        assert expected.get("message_includes", "") in refusal["message"]
        assert answer.content_type == "application/json"


def check_stream_end(rest: bytes, error_type: str | None, *, array: bool) -> None:
    """After the provider's own bytes comes nothing, or the event or element that tells that they broke off."""
    if error_type is None:
        assert rest == b""
        return
    if array:
        assert rest.startswith(b",") and rest.endswith(b"]")
        data = rest[1:-1]
    else:
        head, _, data = rest.strip().rpartition(b"data: ")
        assert head in (b"", b"event: error\n") and rest.endswith(b"\n\n")
    assert json.loads(data)["error"]["type"] == error_type


# What the ledger holds


def check_ledger(app: Flask, answer: Response, content: bytes, scenario: Scenario) -> None:
    ledger = app.extensions["aipipe"].ledger
    assert ledger.holds() == []
    assert ledger.balanced()
    entries, expected = ledger.entries(ALICE), scenario["ledger"]
    comments = COMMENT.findall(content)
    if expected is None:
        assert entries == [] and comments == []
        assert "X-AIPipe-Cost" not in answer.headers
        return
    [entry] = entries
    for name, value in expected.items():
        assert within(value, getattr(entry, name)), f"{name}: {getattr(entry, name)}, not {value}"
    path, said = scenario["request"]["path"], scenario["upstream"].get("status", 200)
    assert (entry.provider, entry.status, entry.app) == (path.split("/")[1], said, "")
    assert entry.endpoint in path
    if entry.endpoint.endswith(("completions", "messages")):  # what says something
        said_something = streamed(scenario["upstream"]) and entry.output_tokens > 0
        assert (entry.first_token is not None) == said_something
    if "error_type" in scenario["answer"]:
        return  # it broke off: there is no place left for the cost
    if entry.provider == "geminiv1beta" and streamed(scenario["upstream"]):
        assert comments == []  # Google's SDK would take one for data
        return
    in_headers = [(answer.headers.get("X-AIPipe-Cost"), answer.headers.get("X-AIPipe-Remaining"))]
    told = comments if streamed(scenario["upstream"]) else in_headers
    limit = app.extensions["aipipe"].budgets.find(ALICE).limit
    assert [tuple(nano(amount) for amount in pair) for pair in told] == [(entry.cost, limit - entry.cost)]


def within(expected: Any, found: Any) -> bool:
    """Two numbers in a list are the least and the most: of an estimate, not of a price."""
    return bool(expected[0] <= found <= expected[1] if isinstance(expected, list) else found == expected)


def nano(dollars: str | bytes) -> Decimal:
    return Decimal(dollars if isinstance(dollars, str) else dollars.decode()) * 10**9
