"""`/docs`: what the files in docs/ say, as pages that name this instance; `/openapi.json`, the same for programs."""

from __future__ import annotations

import posixpath
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

from flask import Blueprint, Flask, Response, render_template
from markdown_it import MarkdownIt
from markdown_it.token import Token

from aipipe.errors import NotFound
from aipipe.services import services

bp = Blueprint("docs", __name__)
openapi = Blueprint("openapi", __name__)

FOLDER = Path(__file__).parents[2] / "docs"
TITLES = {
    "api": "API",
    "configuration": "Configuration",
    "providers": "Providers",
    "operations": "Operations",
    "security": "Security",
    "performance": "Performance",
}
EXAMPLE = re.compile(r"http://localhost:8787|https://aipipe\.example\.com")  # whom the documents talk to
LINK = re.compile(r"([\w./-]+)\.md(#.*)?")


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)
    app.register_blueprint(openapi)


@openapi.get("/openapi.json")
def description() -> Response:
    """The file in docs/, as it is."""
    return Response((FOLDER / "openapi.json").read_bytes(), content_type="application/json")


@bp.get("/docs")
def first() -> str:
    return document("api")


@bp.get("/docs/<path:name>")
def document(name: str) -> str:
    if name not in documents():
        raise NotFound("There is no such document here.")
    text = EXAMPLE.sub(services().public_url(), (FOLDER / f"{name}.md").read_text())
    title, _, _ = text.removeprefix("# ").partition("\n")
    return render_template("docs/document.html", titles=TITLES, name=name, title=title, html=to_html(name, text))


@cache
def documents() -> frozenset[str]:
    """The names of all documents, those of decisions among them."""
    return frozenset(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.rglob("*.md"))


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def to_html(name: str, text: str) -> str:
    """The document `name` as HTML: headings can be linked to, links to other documents lead to their pages."""
    tokens = _markdown().parse(text)
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor(following.content))
        for child in token.children or ():
            _lead_to_page(child, posixpath.dirname(name))
    html = str(_markdown().renderer.render(tokens, _markdown().options, {}))
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    html = html.replace("<th></th>", "<td></td>")  # heads nothing
    return re.sub(r"<pre><code[^>]*>", '<pre class="copyable"><code tabindex="0">', html)


def anchor(heading: str) -> str:
    """The name that a heading has where the documents are read as files, so that links work there and here."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _lead_to_page(token: Token, folder: str) -> None:
    found = LINK.fullmatch(str(token.attrGet("href") or ""))
    if found:
        name = posixpath.normpath(posixpath.join(folder, found[1]))
        if name in documents():
            token.attrSet("href", f"/docs/{name}{found[2] or ''}")
        else:  # a file that is no document, and has no page
            del token.attrs["href"]
