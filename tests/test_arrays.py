"""A JSON array that arrives piece by piece: the same elements, however it is cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipipe import arrays

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=4)
HOSTILE = [{"a": '"]}\\', "]": {"[{": '\\"'}}, {}, {"b": ["}", [{}], "é漢🙏", "\\"]}, {"c": "\u2028,\n"}]
FAILURE = b'data: {"error": {"code": 502}}\n\n'


def fed(chunks: list[bytes]) -> tuple[arrays.Reader, list[Any]]:
    """What a reader finds in chunks, but for the end."""
    reader = arrays.Reader()
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    assert reader.close() == []
    return reader, [event for event in events if event.name != "end"]


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@given(OBJECTS, st.sampled_from([None, 2]), st.booleans(), st.lists(st.integers(min_value=0), max_size=8))
def test_every_cut_gives_the_elements_and_where_they_stand(
    objects: list[Any], indent: int | None, escaped: bool, cuts: list[int]
) -> None:
    stream = b" \n" + json.dumps(objects, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass") + b"\n"
    _, events = fed(pieces(stream, cuts))
    assert [stream[event.start : event.end] for event in events] == [event.data for event in events]
    assert [json.loads(event.data) for event in events] == objects


def test_braces_quotes_and_escapes_in_strings_byte_by_byte() -> None:
    stream = json.dumps(HOSTILE, ensure_ascii=False).encode()
    _, events = fed([bytes([byte]) for byte in stream])
    assert [json.loads(event.data) for event in events] == HOSTILE


def test_the_last_bracket_is_told_and_no_other() -> None:
    reader = arrays.Reader()
    assert [event.name for event in reader.feed(b'[{"a": []}, {"b": "]"}, []')] == ["message"] * 3
    [end] = reader.feed(b"\n] ")
    assert (end.name, end.data, end.start, end.end) == ("end", b"]", 24, 28)


def test_one_object_is_its_only_element() -> None:
    _, events = fed([b'{"error": ', b'{"code": 4', b"00}}\n"])
    assert [event.data for event in events] == [b'{"error": {"code": 400}}']


@pytest.mark.parametrize("garbage", [b"", b'<html>[x]{]}}}"', b"]]]]{{", b'\x00\xff\\\\"', b"null", b"[1, 2, [3]]"])
def test_garbage_raises_nothing(garbage: bytes) -> None:
    fed([garbage])
    fed([bytes([byte]) for byte in garbage])


@given(st.binary(), st.lists(st.integers(min_value=0), max_size=4))
def test_any_bytes_give_the_same_events_however_they_are_cut(stream: bytes, cuts: list[int]) -> None:
    assert fed(pieces(stream, cuts))[1] == fed([stream])[1]


def test_an_element_that_is_too_long_is_left_out_and_what_follows_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_EVENT_BYTES", 20)
    reader, events = fed([b'[{"a": "', b"x" * 30, b'"}, {"b": 1}', b"]"])
    assert [event.data for event in events] == [b'{"b": 1}']
    assert reader.skipped == 1


@pytest.mark.parametrize("sent", ["", "[", "[\n", '[{"a": 1}', '[{"a": 1}\n', '[{"a": 1},', '[{"a": [1]},\r\n'])
def test_a_stream_that_breaks_off_between_elements_stays_an_array(sent: str) -> None:
    reader, _ = fed([sent.encode()])
    assert json.loads(sent.encode() + reader.parting(FAILURE))[-1] == {"error": {"code": 502}}


@pytest.mark.parametrize("sent", ['[{"a"', '[{"a": [1]', '["a', '[{"a": 1}]', '{"a": 1', '{"a": 1}', "[{}, 3, ["])
def test_a_stream_that_breaks_off_elsewhere_is_left_as_it_is(sent: str) -> None:
    reader, _ = fed([sent.encode()])
    assert reader.parting(FAILURE) == b""
