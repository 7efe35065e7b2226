"""What is read of objects that are too large, or too odd, to be read whole."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipipe import outline
from aipipe.outline import outline as outlined

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**14), 10**14) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
USAGE: dict[str, Any] = {"usage": {"prompt_tokens": 5}}
TOLD = orjson.dumps(USAGE)[1:]

ODD: dict[str, tuple[bytes, dict[str, Any] | None]] = {
    "half a character": (rb'{"a": "\ud83d", ' + TOLD, {"a": "?", **USAGE}),
    "no UTF-8": (b'{"a": "\xff", ' + TOLD, {"a": "\ufffd", **USAGE}),
    "brackets in a text": (rb'{"a": ["}\"]"], ' + TOLD, {"a": ['}"]'], **USAGE}),
    "numbers beyond measure": (b'{"a": [1e999, %b], ' % (b"9" * 9_999) + TOLD, {"a": [float("inf")] * 2, **USAGE}),
    "lists without end": (b'{"a": %b%b, ' % (b"[" * 5_000, b"]" * 5_000) + TOLD, {"a": None, **USAGE}),
    "what is no JSON": (b'{"a": [half], ' + TOLD, {"a": None, **USAGE}),
    "more behind it": (b'{"a": 1} {"usage": 2}', {"a": 1}),
    "cut short": (b'{"a": 1, "usage": {"pro', {}),
    "cut short in a text": (b'{"a": "' + b"x" * 999_999, {}),
    "brackets that don't match": (b'{"a": ]}', {}),
    "a list": (b"[%b]" % orjson.dumps(USAGE), None),
    "a page": (b"<script>{}</script>", None),
    "nothing": (b"", None),
}


@given(st.dictionaries(st.text(), JSONS))
def test_of_an_object_that_is_neither_it_is_all(told: dict[str, Any]) -> None:
    assert outlined(orjson.dumps(told)) == told


@pytest.mark.parametrize(("body", "found"), ODD.values(), ids=ODD)
def test_what_can_be_read_is_read(body: bytes, found: dict[str, Any] | None) -> None:
    assert outlined(body) == found


def test_what_is_large_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline, "LARGE", 30)
    told = {"data": [{"embedding": [0.5] * 99}], **USAGE, "more": {"usage": "x" * 99}}
    assert outlined(orjson.dumps(told)) == {"data": None, **USAGE, "more": None}
