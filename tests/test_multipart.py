"""Forms: read in one way only, written so that everybody reads them in that way, and never held in memory."""

from __future__ import annotations

import io
import string
import subprocess
import sys
from itertools import pairwise
from typing import Any

import forms
import pytest
from forms import BOUNDARY, CONTENT_TYPE, Part
from hypothesis import given, settings
from hypothesis import strategies as st

from aipipe import multipart
from aipipe.errors import InvalidRequest, TooLarge

SPEECH = Part("file", bytes(range(256)) * 3 + b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n", "speech.mp3", "audio/mpeg")
WHOLE = [Part("model", b"whisper-1"), SPEECH, Part("prompt", "Köln, 東京".encode()), Part("language", b"")]


class Pieces(io.RawIOBase):
    """A body that comes in the pieces that it was cut into."""

    def __init__(self, body: bytes, cuts: list[int]) -> None:
        edges = [0, *sorted(cuts), len(body)]
        self._pieces = [body[start:end] for start, end in pairwise(edges) if start < end]

    def read(self, size: int = -1) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def reads(body: bytes, content_type: str = CONTENT_TYPE) -> tuple[dict[str, Any], list[Part]]:
    """The fields that decide, and what another parser finds in what goes upstream."""
    return written(multipart.read(io.BytesIO(body), content_type))


def written(form: multipart.Form) -> tuple[dict[str, Any], list[Part]]:
    body = b"".join(form)
    form.close()
    assert form.size == len(body)
    return form.fields, forms.read(form.content_type, body)


def head(disposition: str, more: str = "") -> bytes:
    """A form of one part with this head."""
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}{more}\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode()


def test_a_form_goes_on_as_it_was_read() -> None:
    fields, parts = reads(forms.write(WHOLE))
    assert parts == WHOLE
    assert fields == {"model": "whisper-1", "file": ["speech.mp3"], "prompt": "Köln, 東京", "language": ""}


def test_it_has_a_boundary_that_nobody_knew_beforehand() -> None:
    one, other = (multipart.read(io.BytesIO(forms.write(WHOLE)), CONTENT_TYPE) for _ in range(2))
    assert BOUNDARY not in one.content_type
    assert one.content_type != other.content_type
    one.close()
    other.close()


@settings(deadline=None)
@given(st.lists(st.integers(0, len(forms.write(WHOLE))), max_size=8))
def test_it_may_come_in_any_pieces(cuts: list[int]) -> None:
    assert written(multipart.read(Pieces(forms.write(WHOLE), cuts), CONTENT_TYPE))[1] == WHOLE


def test_it_may_be_cut_anywhere() -> None:
    body = forms.write(WHOLE[1:2])
    for at in range(len(body)):
        assert written(multipart.read(Pieces(body, [at]), CONTENT_TYPE))[1] == WHOLE[1:2], at


# What the parser that compares takes for more than a character is left out, and the <> that it takes off.
NAMES = st.text(string.ascii_letters + string.digits + "!#$&'()*+,-./:?@^_`{|}~[]", min_size=1, max_size=20)
FILES = st.builds(Part, NAMES, st.binary(max_size=200), NAMES, st.sampled_from(["audio/wav", "image/png"]))
FIELDS = st.builds(Part, NAMES, st.text(max_size=50).map(str.encode))


@settings(deadline=None)
@given(st.lists(FILES | FIELDS, min_size=1, unique_by=lambda part: part.name))
def test_whatever_is_in_it_is_read_the_same_by_another_parser(parts: list[Part]) -> None:
    assert reads(forms.write(parts))[1] == parts


@pytest.mark.parametrize(
    ("disposition", "found"),
    [
        ('form-data; name="model"', Part("model", b"x")),
        ("form-data; name=model", Part("model", b"x")),
        ('FORM-DATA; NAME="model"', Part("model", b"x")),
        (r'form-data; name="a\"b"', Part("a%22b", b"x")),
        ('form-data; name="file"; filename=""', Part("file", b"x", "", "application/octet-stream")),
        (r'form-data; name="file"; filename="a\"; name=\"model"', ""),
        ("form-data; name=\"file\"; filename*=UTF-8''a%0D%0AContent-Type:%20text/html%0D%0A", ""),
        ("form-data; name=\"file\"; filename*=UTF-8''%22%0D%0AContent-Disposition:%20form-data;%20name=%22model", ""),
    ],
)
def test_odd_heads_leave_no_doubt_about_names(disposition: str, found: Part | str) -> None:
    fields, parts = reads(head(disposition))
    if isinstance(found, Part):
        assert parts == [found]
    else:
        assert list(fields) == ["file"]
        assert [(part.name, part.data, part.kind) for part in parts] == [("file", b"x", "application/octet-stream")]


@pytest.mark.parametrize("kind", ["audio/webm;codecs=opus", "audio/mpeg"])
def test_a_files_type_goes_on(kind: str) -> None:
    body = head('form-data; name="file"; filename="a.webm"', f"\r\nContent-Type: {kind}")
    form = multipart.read(io.BytesIO(body), CONTENT_TYPE)
    assert f"\r\nContent-Type: {kind}\r\n\r\nx".encode() in b"".join(form)
    form.close()


@pytest.mark.parametrize("kind", ["", "nonsense", "audio/m\tpeg", "text/ä"])
def test_a_type_that_is_none_does_not(kind: str) -> None:
    body = head('form-data; name="file"; filename="a"', f"\r\nContent-Type: {kind}\r\nX-Other: kept/behind")
    assert reads(body)[1][0].kind == "application/octet-stream"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (forms.write([Part("model", b"a"), Part("model", b"b")]), "'model' once"),
        (forms.write([Part("model", b"a"), Part("model", b"b", "model.txt", "text/plain")]), "'model' once"),
        (forms.write([Part("model", b"b", "model.txt", "text/plain"), Part("model", b"a")]), "'model' once"),
        (forms.write([Part("model", b"\xff")]), "expected text"),
        (forms.write(WHOLE)[:-10], "can't read"),
        (forms.write(WHOLE)[:400], "can't read"),
        (b"", "can't read"),
        (b"model=whisper-1", "can't read"),
        (head("form-data"), "a name"),
        (head('form-data; name=""'), "a name"),
        (head('form-data; filename="a"'), "a name"),
        (f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(), "can't read"),
        (b"--" + BOUNDARY.encode() + b'\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n', "can't read"),
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_refused(body: bytes, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        multipart.read(io.BytesIO(body), CONTENT_TYPE)


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=x", "multipart/form-data; boundary=ä"],
)
def test_what_is_no_form_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        multipart.read(io.BytesIO(forms.write(WHOLE)), content_type)


def test_lists_may_have_many_items_and_files_one_name() -> None:
    several = [Part("image[]", b"1", "1.png", "image/png"), Part("image[]", b"2", "2.png", "image/png")]
    fields, parts = reads(forms.write([*several, Part("include[]", b"a"), Part("include[]", b"b")]))
    assert fields["image[]"] == ["1.png", "2.png"]
    assert len(parts) == 4


@pytest.mark.parametrize(
    "parts",
    [
        [Part("prompt", b"x" * (multipart.FIELDS_IN_MEMORY + 1))],
        [Part(f"prompt{number}", b"x" * 2**18) for number in range(5)],
    ],
    ids=["one", "several"],
)
def test_more_text_than_memory_is_for_is_refused(parts: list[Part]) -> None:
    with pytest.raises(TooLarge, match="less text"):
        multipart.read(io.BytesIO(forms.write(parts)), CONTENT_TYPE)


def test_more_parts_or_longer_heads_than_any_client_sends_are_refused() -> None:
    many = [Part(f"name{number}", b"") for number in range(multipart.PARTS + 1)]
    for body in (forms.write(many), head('form-data; name="a"', f"\r\nX-Long: {'x' * 2**19}")):
        with pytest.raises(Exception, match="413"):
            multipart.read(io.BytesIO(body), CONTENT_TYPE)


MEMORY = """
import resource, sys
from aipipe import multipart
import forms

file = forms.Part("file", b"", "a.wav", "audio/wav")

class Endless:
    left = 25 * 2**20
    state = [forms.write([forms.Part("model", b"whisper-1"), file])[: -len(forms.BOUNDARY) - 8]]
    def read(self, size):
        if self.state:
            return self.state.pop()
        self.left -= size
        if self.left > 0:
            return b"\\r\\n-" * (size // 3)
        if self.left > -2 * size:
            return f"\\r\\n--{forms.BOUNDARY}--\\r\\n".encode()
        return b""

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
form = multipart.read(Endless(), forms.CONTENT_TYPE)
sent = sum(len(piece) for piece in form)
assert sent == form.size > 24 * 2**20, sent
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_file_takes_little_memory() -> None:
    found = subprocess.run(
        [sys.executable, "-c", MEMORY],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) < 6 * 1024, "kilobytes more than before"
