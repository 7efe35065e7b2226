"""Forms with files, written as clients write them and read by a parser that isn't the app's: the standard library's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import HTTP

BOUNDARY = "----a-boundary-of-the-callers-own"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Part:
    """A part of a form: a field, or a file where it has a `filename`."""

    name: str
    data: bytes
    filename: str | None = None
    kind: str | None = None


def write(parts: Iterable[Part]) -> bytes:
    """The bytes of a form, to be sent as CONTENT_TYPE."""
    lines = []
    for part in parts:
        head = f'Content-Disposition: form-data; name="{part.name}"'
        if part.filename is not None:
            head += f'; filename="{part.filename}"'
        if part.kind is not None:
            head += f"\r\nContent-Type: {part.kind}"
        lines.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + part.data + b"\r\n")
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()


def read(content_type: str, body: bytes) -> list[Part]:
    """The parts of a form. Raises AssertionError when it isn't a plain one: each part is what its one head says."""
    message = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body, policy=HTTP)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/form-data"
    assert not message.defects, message.defects
    return [_part(each) for each in message.iter_parts()]


def _part(message: EmailMessage) -> Part:
    assert not message.defects, message.defects
    headers = [name.lower() for name in message]
    assert headers in (["content-disposition"], ["content-disposition", "content-type"]), headers
    name = message.get_param("name", header="content-disposition")
    data = message.get_payload(decode=True)
    assert isinstance(name, str) and isinstance(data, bytes)
    kind = message.get_content_type() if "content-type" in headers else None
    return Part(name, data, message.get_filename(), kind)
