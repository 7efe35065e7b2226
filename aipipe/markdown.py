"""Markdown that a stranger wrote, a model for one, as HTML that may stand in a page of ours."""

from __future__ import annotations

import html
import re

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token

LONGEST = 60_000  # characters
# Text that is made to be slow takes time by what may open something, squared, and by a table's cells, be they empty.
OPENING = "[]!*_|<`~&\n"
MOST_OPENING, MOST_CELLS = 4_000, 6_000
ALIGNED = re.compile(r"text-align:(left|center|right)")
CELLS = ("th", "td")
TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip

# No images: they would tell another host who reads this, and when. `![alt](url)` becomes a link.
_markdown = (
    MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 30})
    .enable(["table", "strikethrough"])
    .disable("image")
)
_cleaner = nh3.Cleaner(
    tags=TAGS,
    attributes={"a": {"href", "title"}, "ol": {"start"}},
    allowed_classes={cell: {"left", "center", "right"} for cell in CELLS},
    set_tag_attribute_values={"a": {"target": "_blank"}},
    url_schemes={"http", "https", "mailto"},
    url_relative="deny",
    link_rel="noopener noreferrer nofollow",
)
# What our pages add, to tags that nothing but the cleaner can have written: text has its `<` escaped.
_FURNITURE = {
    "<pre><code>": '<pre class="copyable"><code tabindex="0">',
    "</pre>": '<button type="button" class="plain" aria-live="polite">Copy</button></pre>',
    "<table>": '<div class="scroll" tabindex="0"><table>',
    "</table>": "</table></div>",
    "<th></th>": "<td></td>",  # heads nothing
}


def render(text: str) -> str:
    """`text` as HTML without scripts, styles, images and forms; its links open http, https and mailto in a new tab.

    Code has a button that copies it (see `app.js`); code and tables scroll by keyboard where they are too wide.
    What would take long to render stands as it was written.
    """
    safe = f"<pre><code>{html.escape(text)}</code></pre>" if _is_slow(text) else _cleaner.clean(_to_html(text))
    for tag, furnished in _FURNITURE.items():
        safe = safe.replace(tag, furnished)
    return safe


def _is_slow(text: str) -> bool:
    if len(text) > LONGEST or sum(map(text.count, OPENING)) > MOST_OPENING:
        return True
    lines = text.split("\n")
    return len(lines) * max(line.count("|") for line in lines) > MOST_CELLS


def _to_html(text: str) -> str:
    tokens = _markdown.parse(text)
    for token in tokens:
        _align(token)
    return str(_markdown.renderer.render(tokens, _markdown.options, {}))


def _align(token: Token) -> None:
    """Pages have no inline styles: a cell's alignment becomes a class."""
    if token.tag in CELLS and (found := ALIGNED.search(str(token.attrs.pop("style", "")))):
        token.attrSet("class", found[1])
