"""Forms with files: what decides about money is read, the files are kept on disk, and all is written anew.

Written anew, so that the provider can't read a field where we saw none: there are many ways to write a form,
and servers differ over the odd ones. https://html.spec.whatwg.org/multipage/form-control-infrastructure.html says
how browsers write one; werkzeug reads every way, but can't write names and file names that hold quotes or line ends.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Any

from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from aipipe.errors import InvalidRequest, TooLarge

CHUNK_BYTES = 2**16
FILES_IN_MEMORY = 2**20
FIELDS_IN_MEMORY = 2**20
HEADERS_IN_MEMORY = 2**18
LINE_BYTES = 64  # of white space that may follow a delimiter
PARTS = 100
ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class Form:
    """A form on its way upstream: its `size` bytes are to be sent as `content_type`.

    `fields` holds the texts by name, and for names of files the list of the files' names.
    """

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.size = 0
        self._part: Field | File
        self._text = bytearray()
        self._text_bytes = 0
        self._boundary = secrets.token_hex(16).encode()
        self.content_type = f"multipart/form-data; boundary={self._boundary.decode()}"
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=FILES_IN_MEMORY)  # noqa: SIM115 - see close()

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while chunk := self._file.read(CHUNK_BYTES):
            yield chunk

    def close(self) -> None:
        """Lets its bytes go; whoever has read a form must do so."""
        self._file.close()

    def begin(self, part: Field | File) -> None:
        """A part, whose bytes are to be added next."""
        if not part.name:  # None, where it has no name
            raise InvalidRequest("AI Pipe expected a name for each part of the form.")
        self._part, self._text = part, bytearray()
        if not isinstance(part, File):
            return
        known = self.fields.setdefault(part.name, [])
        if not isinstance(known, list):
            raise twice(part.name)
        known.append(part.filename)
        kind = part.headers.get("Content-Type", "")
        if not (kind.isascii() and kind.isprintable() and "/" in kind):
            kind = "application/octet-stream"
        self._write_head(f'; filename="{part.filename.translate(ESCAPES)}"\r\nContent-Type: {kind}')

    def add(self, data: Data) -> None:
        """More bytes of the part that was begun last."""
        if isinstance(self._part, File):
            self._write(data.data)
        else:
            self._text += data.data
            self._text_bytes += len(data.data)
            if self._text_bytes > FIELDS_IN_MEMORY:
                raise TooLarge("AI Pipe expected less text in this form, beside its files.")
            if not data.more_data:
                self._add_field(self._part.name, bytes(self._text))
        if not data.more_data:
            self._write(b"\r\n")

    def _add_field(self, name: str, value: bytes) -> None:
        if name in self.fields and not name.endswith("[]"):
            raise twice(name)
        try:
            self.fields[name] = value.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"AI Pipe expected text in the form's field {name[:40]!r}.") from None
        self._write_head("")
        self._write(value)

    def end(self) -> None:
        self._write(b"--%b--\r\n" % self._boundary)

    def _write_head(self, more: str) -> None:
        head = f'Content-Disposition: form-data; name="{self._part.name.translate(ESCAPES)}"{more}'
        self._write(b"--%b\r\n%b\r\n\r\n" % (self._boundary, head.encode()))

    def _write(self, data: bytes) -> None:
        self.size += self._file.write(data)


def twice(name: str) -> InvalidRequest:
    return InvalidRequest(f"AI Pipe expected the form's field {name[:40]!r} once.")


def read(stream: IO[bytes], content_type: str) -> Form:
    """The form that `stream` holds, with a megabyte or two of it in memory, whatever its size.

    Raises:
        InvalidRequest: not a form, or not one that can be read in one way only.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not boundary.isascii() or not boundary:
        raise InvalidRequest("AI Pipe expected multipart/form-data with a file here.")
    decoder = MultipartDecoder(boundary.encode(), max_form_memory_size=HEADERS_IN_MEMORY, max_parts=PARTS)
    form = Form()
    try:
        with ExitStack() as unread:
            unread.callback(form.close)
            _copy(stream, decoder, form)
            unread.pop_all()
    except HTTPException:
        raise  # too large
    except ValueError:
        raise InvalidRequest("AI Pipe can't read this form.") from None
    return form


def _copy(stream: IO[bytes], decoder: MultipartDecoder, form: Form) -> None:
    pieces = _pieces(stream, b"--" + decoder.boundary)
    while not isinstance(event := decoder.next_event(), Epilogue):
        if isinstance(event, NeedData):
            decoder.receive_data(next(pieces, None))
        elif isinstance(event, Field | File):
            form.begin(event)
        elif isinstance(event, Data):
            form.add(event)
    form.end()


def _pieces(stream: IO[bytes], delimiter: bytes) -> Iterator[bytes]:
    """The stream's bytes. No piece but the last ends in the line of a delimiter, since werkzeug 3.1 takes parts of one
    that comes in two pieces for data."""
    held = b""
    while chunk := stream.read(CHUNK_BYTES):
        chunk = held + chunk
        at = chunk.rfind(delimiter, max(0, len(chunk) - len(delimiter) - LINE_BYTES))
        cut = max(0, at - len(b"\r\n")) if at >= 0 and b"\n" not in chunk[at:] else len(chunk)
        held = chunk[cut:]
        yield chunk[:cut]
    yield held
