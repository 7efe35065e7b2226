"""A request as code to paste: curl, Python, JavaScript."""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Mapping
from typing import Any

JSON = Mapping[str, Any]

TOKEN = "your-token"  # noqa: S105 - what stands in its place


def snippets(url: str, body: JSON, headers: Mapping[str, str], answer: str) -> dict[str, str]:
    """Programs, by language, that post `body` to `url` and print the answer's text.

    The first `your-token` of each is to be replaced by a token: the headers come before what the conversation says.
    `answer` is the way to that text, spelled as both Python and JavaScript do: `["choices"][0]`.
    """
    told = {"Authorization": f"Bearer {TOKEN}", **headers}
    return {
        "curl": curl(url, body, told),
        "python": python(url, body, told, answer),
        "javascript": javascript(url, body, told, answer),
    }


def curl(url: str, body: JSON, headers: Mapping[str, str]) -> str:
    lines = [f"curl {shlex.quote(url)}", *(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items())]
    lines += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(indented(body))}"]
    return " \\\n  ".join(lines)


def python(url: str, body: JSON, headers: Mapping[str, str], answer: str) -> str:
    return (
        "import requests\n\n"
        f"headers = {dict(headers)!r}\n"
        f"body = {pprint.pformat(dict(body), sort_dicts=False, width=100)}\n"
        f"response = requests.post({url!r}, headers=headers, json=body, timeout=120)\n"
        "response.raise_for_status()\n"
        f"print(response.json(){answer})"
    )


def javascript(url: str, body: JSON, headers: Mapping[str, str], answer: str) -> str:
    return (
        f"const headers = {json.dumps({**headers, 'Content-Type': 'application/json'})};\n"
        f"const body = {indented(body)};\n"
        f"const response = await fetch({json.dumps(url)}, {{\n"
        '  method: "POST",\n'
        "  headers,\n"
        "  body: JSON.stringify(body),\n"
        "});\n"
        "if (!response.ok) throw new Error((await response.json()).message);\n"
        f"console.log((await response.json()){answer});"
    )


def indented(body: JSON) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False)
