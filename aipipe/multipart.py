"""Forms with files: what decides about money is read, the files are kept on disk, and all is written anew.

Written anew, so that the provider can't read a field where we saw none: there are many ways to write a form,
and servers differ over the odd ones.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Any

from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Event,
    Field,
    File,
    MultipartDecoder,
    MultipartEncoder,
    NeedData,
    Preamble,
)

from aipipe.errors import InvalidRequest

CHUNK_BYTES = 2**16
IN_MEMORY = 2**20
FIELD_BYTES = 2**18
PARTS = 100


class Form:
    """A form on its way upstream: `fields` by name, and the `size` bytes of the whole, to be sent as `content_type`."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.size = 0
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._encoder = MultipartEncoder(boundary.encode())
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - lives as long as the form
        self._write(Preamble(data=b""))

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while chunk := self._file.read(CHUNK_BYTES):
            yield chunk

    def _write(self, event: Event) -> None:
        self.size += self._file.write(self._encoder.send_event(event))

    def close(self) -> None:
        """Lets its bytes go; whoever has read a form must do so."""
        self._file.close()

    def add_field(self, name: str, value: bytes) -> None:
        if name in self.fields and not name.endswith("[]"):
            raise InvalidRequest(f"AI Pipe expected the form's field {name[:40]!r} once.")
        try:
            self.fields[name] = value.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"AI Pipe expected text in the form's field {name[:40]!r}.") from None
        self._write(Field(name=name, headers=Headers()))
        self._write(Data(data=value, more_data=False))

    def begin_file(self, file: File) -> None:
        kind = file.headers.get("Content-Type", "application/octet-stream")
        self._write(File(name=file.name, filename=file.filename, headers=Headers({"Content-Type": kind})))

    def add_data(self, data: Data) -> None:
        self._write(data)

    def end(self) -> None:
        self._write(Epilogue(data=b""))


def read(stream: IO[bytes], content_type: str) -> Form:
    """The form that `stream` holds, with at most a megabyte of it in memory.

    Raises:
        InvalidRequest: not a form, or not one that can be read in one way only.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not boundary.isascii() or not boundary:
        raise InvalidRequest("AI Pipe expected multipart/form-data with a file here.")
    decoder = MultipartDecoder(boundary.encode(), max_form_memory_size=FIELD_BYTES, max_parts=PARTS)
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
    name: str | None = None
    value = b""
    while True:
        chunk = stream.read(CHUNK_BYTES)
        decoder.receive_data(chunk or None)
        while not isinstance(event := decoder.next_event(), NeedData):
            if isinstance(event, Epilogue):
                form.end()
                return
            if isinstance(event, Field):
                name, value = event.name, b""
            elif isinstance(event, File):
                name = None
                form.begin_file(event)
            elif isinstance(event, Data) and name is None:
                form.add_data(event)
            elif isinstance(event, Data) and name is not None:
                value += event.data
                if not event.more_data:
                    form.add_field(name, value)
