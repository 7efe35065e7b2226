"""The reader of event streams: every cut of the same bytes gives the same events."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipipe import sse
from aipipe.sse import Event, Reader


def read(*chunks: bytes) -> list[Event]:
    reader = Reader()
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return events + reader.close()


def by_the_standard(stream: bytes) -> list[tuple[str, bytes]]:
    """A plain reading of the standard's text for a whole stream, one line after another."""
    events, name, data = [], b"", b""
    lines = re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))
    for line in [*lines, b""]:
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if line == b"":
            if data:
                events.append((name.decode("utf-8", "replace") or "message", data[:-1]))
            name, data = b"", b""
        elif field == b"data":
            data += value + b"\n"
        elif field == b"event":
            name = value
    return events


CASES = {
    "one data line": (b"data: a\n\n", [("message", b"a")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [("message", b"a"), ("message", b"b")]),
    "lone CR": (b"data: a\r\rdata: b\r\r", [("message", b"a"), ("message", b"b")]),
    "mixed ends": (b"data: a\r\n\ndata: b\n\r\n", [("message", b"a"), ("message", b"b")]),
    "several data lines": (b"data: a\ndata\ndata: b\n\n", [("message", b"a\n\nb")]),
    "no space": (b"data:a\n\n", [("message", b"a")]),
    "only the first space goes": (b"data:  a\n\n", [("message", b" a")]),
    "empty data": (b"data\n\n", [("message", b"")]),
    "named": (b"event: ping\ndata: {}\n\ndata: x\n\n", [("ping", b"{}"), ("message", b"x")]),
    "name without data": (b"event: ping\n\ndata: x\n\n", [("message", b"x")]),
    "other fields": (b"id: 1\nretry: 2\nodd\ndata: x\n\n", [("message", b"x")]),
    "comments": (b": OPENROUTER PROCESSING\n\n:\ndata: x\n: in between\n\n", [("message", b"x")]),
    "byte order mark": (b"\xef\xbb\xbfdata: x\n\n", [("message", b"x")]),
    "a second byte order mark is text": (b"\n\xef\xbb\xbfdata: x\n\n", []),
    "colons in data": (b'data: {"a":1}\n\n', [("message", b'{"a":1}')]),
    "no final blank line": (b"data: a\n\ndata: b\n", [("message", b"a"), ("message", b"b")]),
    "no final newline": (b"data: a\n\ndata: b", [("message", b"a"), ("message", b"b")]),
    "ends in a field name": (b"data: a\n\ndat", [("message", b"a")]),
    "nothing": (b"", []),
    "a web page": (b"<html>\n\n<p>Bad gateway\n", []),
}


@pytest.mark.parametrize(("stream", "expected"), CASES.values(), ids=CASES)
def test_reads_as_the_standard_says(stream: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert [(event.name, event.data) for event in read(stream)] == expected
    assert by_the_standard(stream) == expected


@pytest.mark.parametrize("stream", [case[0] for case in CASES.values()], ids=CASES)
def test_byte_by_byte_gives_the_same_events(stream: bytes) -> None:
    assert read(*(stream[i : i + 1] for i in range(len(stream)))) == read(stream)


PARTS = [b"data: ", b"data:", b"data", b"event: ", b"id: 1", b":", b" ", b"{}", b"[DONE]", b"\x00", b"\xff"]
ENDS = [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\xef\xbb\xbf", "\u20ac".encode()]
streams = st.lists(st.sampled_from(PARTS + ENDS) | st.binary(max_size=4), max_size=30).map(b"".join)


@given(streams, st.lists(st.integers(0, 200), max_size=12))
def test_any_cut_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert read(*(stream[a:b] for a, b in pairwise(places))) == read(stream)


@given(streams)
def test_agrees_with_a_plain_reading_of_the_standard(stream: bytes) -> None:
    assert [(event.name, event.data) for event in read(stream)] == by_the_standard(stream)


@given(streams)
def test_offsets_cut_out_exactly_the_event(stream: bytes) -> None:
    events = read(stream)
    for event in events:
        piece = stream[event.start : event.end]
        assert [(again.name, again.data) for again in read(b"\n" + piece)] == [(event.name, event.data)]
        assert piece[:1] not in (b":", b"\n", b"\r")
    for event in events[:-1]:
        assert re.search(rb"(\n|\r)(\n|\r\n?)\Z", stream[event.start : event.end])
    assert all(before.end <= after.start for before, after in pairwise(events))


@given(streams, st.integers(0, 200))
def test_a_comment_put_in_at_a_boundary_changes_no_event(stream: bytes, cut: int) -> None:
    reader = Reader()
    reader.feed(stream[:cut])
    if reader.at_boundary and not stream[cut:].startswith(b"\xef\xbb\xbf"):
        with_comment = stream[:cut] + b": cost=1\n\n" + stream[cut:]
        found = [(event.name, event.data) for event in read(with_comment)]
        assert found == [(event.name, event.data) for event in read(stream)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", True),
        (b"data: a\n\n", True),
        (b": ping\n", True),
        (b"data: a\n\n\n", True),
        (b"data: a\r\n\r\n", True),
        (b"data: a\r\n\r", False),
        (b"data: a\n", False),
        (b"data: a", False),
        (b": pi", False),
        (b"id: 1\n", False),
    ],
)
def test_boundary_is_where_nothing_is_unfinished(stream: bytes, expected: bool) -> None:
    reader = Reader()
    reader.feed(stream)
    assert reader.at_boundary is expected


@pytest.mark.parametrize("stream", [b"data: a\n\n", b"data: a\r\r", b"data: a\n", b"data: a"])
def test_a_closed_reader_still_tells_an_unfinished_end(stream: bytes) -> None:
    reader = Reader()
    reader.feed(stream)
    reader.close()
    assert reader.at_boundary is stream.endswith((b"\n\n", b"\r\r"))


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
@pytest.mark.parametrize("long", [b"data: " + b"x" * 200, b"data: x\n" * 30, b"data: x\n:" + b"-" * 200])
def test_too_long_an_event_is_skipped_and_the_next_one_read(
    monkeypatch: pytest.MonkeyPatch, long: bytes, size: int
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    stream = b"data: a\n\n" + long + b"\n\n:" + b"c" * 200 + b"\ndata: usage\n\n"
    reader = Reader()
    events = []
    for start in range(0, len(stream), size):
        events += reader.feed(stream[start : start + size])
        held = reader._pieces + reader._data
        assert sum(map(len, held)) <= 100 + 2 * size
    assert [event.data for event in events + reader.close()] == [b"a", b"usage"]
    assert reader.skipped == 1
