"""`/docs`: what the files in docs/ say, as pages that name this instance; `/openapi.json`, the same for programs."""

from __future__ import annotations

import posixpath
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

from flask import Blueprint, Flask, Response, redirect, render_template
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
ELSEWHERE = re.compile(r"\w+:|#|$")  # how a link begins that stays as it is


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)
    app.register_blueprint(openapi)


@openapi.get("/openapi.json")
def description() -> Response:
    """The file in docs/, as it is."""
    return Response((FOLDER / "openapi.json").read_bytes(), content_type="application/json")


@bp.get("/docs")
def first() -> str | Response:
    return document("api")


@bp.get("/docs/<path:name>")
def document(name: str) -> str | Response:
    if name.endswith(".md") and name.removesuffix(".md") in documents():
        return redirect(f"/docs/{name.removesuffix('.md')}")  # type: ignore[return-value]
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
    """The document `name` as HTML: headings can be linked to, links to other documents lead to their pages.

    Cells tell what heads their column, for screens where a row becomes a block; answers have no button that copies.
    """
    tokens = _markdown().parse(text)
    heads: list[str] = []
    column = 0
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor(following.content))
        elif token.type == "thead_open":
            heads = []
        elif token.type == "th_open":
            heads.append(following.content.replace("`", ""))
        elif token.type == "tr_open":
            column = 0
        elif token.type == "td_open":
            if column and heads[column]:
                token.attrSet("data-lead", heads[column])
            column += 1
        for child in token.children or ():
            _lead_to_page(child, posixpath.dirname(name))
    html = str(_markdown().renderer.render(tokens, _markdown().options, {}))
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table class="stack">')
    html = html.replace("</table>", "</table></div>")
    html = html.replace("<th></th>", "<td></td>")  # heads nothing
    html = re.sub(r'<pre><code class="language-(http|json)">', '<pre><code tabindex="0">', html)
    return re.sub(r"<pre><code( class[^>]*)?>", '<pre class="copyable"><code tabindex="0">', html)


def anchor(heading: str) -> str:
    """The name that a heading has where the documents are read as files, so that links work there and here."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _lead_to_page(token: Token, folder: str) -> None:
    link = str(token.attrGet("href") or "")
    if ELSEWHERE.match(link):
        return
    path, mark, place = link.partition("#")
    file = posixpath.normpath(posixpath.join(folder, path))
    if file == "openapi.json":
        token.attrSet("href", "/openapi.json")
    elif file.removesuffix(".md") in documents():
        token.attrSet("href", f"/docs/{file.removesuffix('.md')}{mark}{place}")
    else:  # a file that has no page
        del token.attrs["href"]
