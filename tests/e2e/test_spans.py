"""OpenTelemetry: a span for every call of a provider, told to a collector (which the provider plays)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_provider import Gate
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from e2e.answers import CHAT, COST, answer, end, piece, question
from e2e.calls import ask, calling
from e2e.conftest import OPERATOR_KEY, PRICES, Script, Site, running
from e2e.server import Caller, Server, eventually

pytestmark = pytest.mark.e2e

TARGET = f"/openai{CHAT}"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def session_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    script = Script()
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": script.url,
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "WEB_CONCURRENCY": "1",
    }
    with running(tmp_path_factory.mktemp("spans"), script, **settings) as site:
        yield site


@pytest.fixture(autouse=True)
def collector(provider: Script) -> None:
    provider.answers("POST", "/v1/traces", headers={"Content-Type": "application/x-protobuf"}, times=None)


def exported(provider: Script) -> list[tuple[dict[str, Any], Span]]:
    """All spans that came, each with what it and its resource say."""
    found = []
    for request in [one for one in provider.requests if one.target == "/v1/traces"]:
        for each in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            about = values(each.resource.attributes)
            spans = [span for scope in each.scope_spans for span in scope.spans]
            found += [({**about, **values(span.attributes)}, span) for span in spans]
    return found


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def span_of(provider: Script) -> tuple[dict[str, Any], Span]:
    eventually(lambda: exported(provider), "the span is sent")
    (found,) = exported(provider)
    return found


def test_a_call_is_a_span_in_the_callers_trace(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, json={**answer("the secret answer"), "model": "small-2026"})
    asked = {**question(), "messages": [{"role": "user", "content": "the secret question"}]}
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "traced"}
    assert ask(server, TARGET, alice, asked, headers=headers).status == 200
    known, span = span_of(provider)

    assert (span.name, span.kind) == ("chat small", Span.SPAN_KIND_CLIENT)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.end_time_unix_nano > span.start_time_unix_nano
    assert {name: known[name] for name in known if not name.startswith(("telemetry.", "service.instance"))} == {
        "service.name": "aipipe",
        "deployment.environment.name": "test",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "small",
        "gen_ai.response.model": "small-2026",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "server.address": "127.0.0.1",
        "server.port": int(provider.url.rpartition(":")[2]),
        "aipipe.request_id": "traced",
        "aipipe.cost": COST / 1e9,
        "aipipe.ended": "complete",
    }
    told = b"".join(one.body for one in provider.requests if one.target == "/v1/traces")
    assert not [secret for secret in (b"secret", alice.token.encode(), alice.email.encode()) if secret in told]


def test_a_stream_that_is_left_and_a_refusal_end_their_spans_too(
    server: Server, provider: Script, alice: Caller
) -> None:
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("more"), *end()])
    with calling(server, TARGET, alice, question(stream=True)) as call:
        assert call.line()
        call.leave()
    eventually(lambda: len(exported(provider)) == 1, "the first span is sent")
    provider.answers("POST", CHAT, status=500, json={"error": {"message": "the secret error"}})
    assert ask(server, TARGET, alice, question()).status == 500
    eventually(lambda: len(exported(provider)) == 2, "the second span is sent")
    (left, _), (failed, failure) = exported(provider)

    assert (left["aipipe.ended"], left["gen_ai.request.stream"]) == ("partial", True)
    assert left["gen_ai.response.time_to_first_chunk"] > 0
    assert (failed["aipipe.ended"], failed["error.type"], failed["aipipe.cost"]) == ("released", "500", 0)
    assert failure.status.code == failure.status.STATUS_CODE_ERROR


def test_a_server_that_ends_sends_what_is_left(tmp_path: Path) -> None:
    with closing(Script()) as script:
        script.answers("POST", "/v1/traces", headers={"Content-Type": "application/x-protobuf"}, times=None)
        script.answers("POST", CHAT, json=answer())
        later = {"OTEL_EXPORTER_OTLP_ENDPOINT": script.url, "OTEL_BSP_SCHEDULE_DELAY": "600000", "WEB_CONCURRENCY": "1"}
        providers = {"openai": {"base": script.url}}
        server = Server(
            tmp_path, AIPIPE_PROVIDERS=providers, AIPIPE_PRICES=PRICES, OPENAI_API_KEY=OPERATOR_KEY, **later
        )
        server.start()
        try:
            assert ask(server, TARGET, server.caller(), question()).status == 200
            assert not exported(script)
        finally:
            with server.ending():
                pass
        assert len(exported(script)) == 1
