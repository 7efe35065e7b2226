"""Callers' own keys, where a provider has none: what the operator's network has is not for who makes one up."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import MakeApp
from fake_provider import FakeProvider


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/ollama/api/delete", {"name": "llama"}),
        ("GET", "/ollama/internal/admin?x=1", None),
        ("POST", "/ollama/v1/chat/completions", {"model": "llama", "messages": []}),
        ("POST", "/similarity", {"docs": ["a"]}),
    ],
)
def test_a_provider_without_keys_takes_none(
    make_app: MakeApp, provider: FakeProvider, method: str, path: str, body: Any
) -> None:
    app = make_app(AIPIPE_PROVIDERS__ollama__base=provider.url, AIPIPE_EMBEDDING_PROVIDER="ollama")
    answer = app.test_client().open(
        path,
        method=method,
        json=body,
        headers={"Authorization": "Bearer sk-made-up"},
        environ_overrides={"RAW_URI": path},
    )
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (401, "invalid_token")
    assert provider.requests == []
