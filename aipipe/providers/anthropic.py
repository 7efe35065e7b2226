"""Anthropic: https://docs.anthropic.com/en/api/messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from aipipe.errors import NotAllowed
from aipipe.formats import JSON, Messages
from aipipe.providers.base import Call, Provider, free, metered
from aipipe.rates import Rate
from aipipe.usage_parsing import Usage

# What a request may hold. New fields come with prices of their own: those are told only by documentation.
BODY = frozenset({
    "model", "messages", "max_tokens", "system", "temperature", "top_p", "top_k", "stop_sequences", "stream",
    "metadata", "tools", "tool_choice", "thinking", "cache_control", "output_config", "output_format", "service_tier",
    "inference_geo", "speed",
})  # fmt: skip
STANDARD = {"inference_geo": "global", "speed": "standard"}
# Features that change how a request is written or answered, and not what a token costs.
# https://platform.claude.com/docs/en/api/beta-headers
BETAS = frozenset({
    "dev-full-thinking-2025-05-14", "effort-2025-11-24", "extended-cache-ttl-2025-04-11",
    "fine-grained-tool-streaming-2025-05-14", "interleaved-thinking-2025-05-14", "max-tokens-3-5-sonnet-2024-07-15",
    "model-context-window-exceeded-2025-08-26", "output-128k-2025-02-19", "pdfs-2024-09-25",
    "prompt-caching-2024-07-31", "structured-outputs-2025-11-13", "token-counting-2024-11-01",
    "token-efficient-tools-2025-02-19",
})  # fmt: skip
# Inference in the US alone, which the operator's workspace may have as its default, costs a tenth more.
# https://platform.claude.com/docs/en/manage-claude/data-residency
IN_THE_US = Decimal("1.1")


@dataclass(frozen=True)
class Anthropic(Provider):
    def credentials(self, key: str) -> dict[str, str]:
        return {"x-api-key": key}

    def features(self, headers: Iterable[tuple[str, str]]) -> dict[str, str]:
        asked = [value for name, value in headers if name.lower() == "anthropic-beta"]
        betas = [beta.strip() for value in asked for beta in value.split(",") if beta.strip()]
        for beta in betas:
            if beta not in BETAS:
                raise NotAllowed(f"AI Pipe can't price anthropic-beta: {beta[:60]}, and refuses it on its shared key.")
        return {"anthropic-beta": ",".join(betas)} if betas else {}

    def refuse(self, body: JSON) -> None:
        for name, value in body.items():
            if value in (None, False, "", []) or (name in BODY and STANDARD.get(name, value) == value):
                continue
            raise NotAllowed(f"AI Pipe can't price requests with this {name[:60]!r}, and refuses it on its shared key.")

    def cost(self, rate: Rate, usage: Usage) -> int:
        cost = super().cost(rate, usage)
        return -(-cost * 11 // 10) if usage.raw.get("inference_geo") == "us" else cost

    def reads_on(self, call: Call) -> bool:
        """Thinking that is only summed up, or not shown at all, is told by the usage at the end alone."""
        thinking = call.body.get("thinking")
        return super().reads_on(call) or (isinstance(thinking, dict) and thinking.get("type") != "disabled")


MESSAGES = Messages(native=True)

ANTHROPIC = Anthropic(
    name="anthropic",
    base="https://api.anthropic.com",
    key_variable="ANTHROPIC_API_KEY",
    price_id="anthropic",
    margin=IN_THE_US,
    endpoints=(
        metered("/v1/messages", MESSAGES),
        free("GET", "/v1/models"),
        free("GET", "/v1/models/{}"),
        free("POST", "/v1/messages/count_tokens", MESSAGES.refuse),
    ),
)
