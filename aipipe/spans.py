"""A span of OpenTelemetry for every metered call of a provider, where the standard `OTEL_*` variables ask for it.

Never anything of a question or an answer. The names of the attributes:
https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-spans.md
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from aipipe.money import NANO
from aipipe.observing import Sight

try:  # the extra `otel`
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    installed = False
else:
    installed = True

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
# By the end of an endpoint's name; what is missing goes by that name itself.
OPERATIONS = {
    "chat/completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "generateContent": "generate_content",
    "streamGenerateContent": "generate_content",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
}
PROVIDERS = {"geminiv1beta": "gcp.gemini", "mistral": "mistral_ai", "xai": "x_ai"}

log = logging.getLogger(__name__)


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether spans are to go anywhere, and can."""
    asked = any(environ.get(name) for name in ENDPOINTS) and environ.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
    if not asked or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if not installed:
        log.warning("OTEL_* is set, but spans need the extra: pip install -c constraints.txt -e '.[otel]'")
    return installed


class Spans:
    """An observer of this worker's calls. Make one after the fork. What is left is sent when the process ends.

    The SDK reads all but `environ`'s name of the service from the process's own variables.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        resource = Resource.create({} if named else {"service.name": "aipipe"})
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer("aipipe")

    def answers(self, sight: Sight) -> None:
        """Nothing to do before the end."""

    def fails(self, sight: Sight, status: int) -> None:
        """Nothing to do before the end."""

    def ends(self, sight: Sight) -> None:
        context = TraceContextTextMapPropagator().extract(sight.request.trace)
        known = attributes(sight)
        name = f"{known['gen_ai.operation.name']} {known['gen_ai.request.model']}"
        span = self._tracer.start_span(name, context, SpanKind.CLIENT, known, start_time=sight.started)
        if sight.error:
            span.set_status(Status(StatusCode.ERROR))
        span.end()


def attributes(sight: Sight) -> dict[str, Any]:
    """What a span says of a call; what isn't known is left out."""
    base = urlsplit(sight.call.provider.base)
    reading, usages = sight.reading, sight.usages
    known = {
        "gen_ai.operation.name": operation(sight.call.endpoint.name),
        "gen_ai.provider.name": PROVIDERS.get(sight.provider, sight.provider),
        "gen_ai.request.model": sight.call.model,
        "gen_ai.request.stream": sight.streams or None,
        "gen_ai.response.model": reading and reading.model,
        "gen_ai.response.id": reading and reading.answer_id,
        "gen_ai.response.time_to_first_chunk": sight.first_byte if sight.streams else None,
        "gen_ai.usage.input_tokens": usages and usages.input_tokens,
        "gen_ai.usage.output_tokens": usages and usages.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usages and usages.cached_tokens,
        "server.address": base.hostname,
        "server.port": base.port or (443 if base.scheme == "https" else 80),
        "error.type": str(sight.error) if sight.error else None,
        "aipipe.request_id": sight.request.id,
        "aipipe.cost": sight.cost / NANO,
        "aipipe.ended": sight.ended,
    }
    return {name: value for name, value in known.items() if value is not None and value != ""}


def operation(endpoint: str) -> str:
    return next((name for end, name in OPERATIONS.items() if endpoint.endswith(end)), endpoint)
