"""How alike texts are: the question read and checked, cut into batches, and answered. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from aipipe.errors import InvalidRequest

DEFAULT_MODEL = "text-embedding-3-small"
DEFAULT_PRECISION, MOST_PRECISION = 5, 15
SINGLE_PRECISION = 5  # decimals that 32-bit floats get right
# What one answer may take of our memory and time.
MOST_TEXTS = 10_000
MOST_PAIRS = 25_000_000
# What OpenAI takes in one call, and in one text: https://platform.openai.com/docs/api-reference/embeddings/create
CALL_TEXTS, CALL_TOKENS, TEXT_TOKENS = 2_048, 300_000, 8_192
PIECE = 2**18  # similarities that are written at once

Numbers = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `texts` are the different ones; `docs` and `topics` are numbers of texts, in the caller's order.

    Without `topics` (None) the documents are compared with each other.
    """

    model: str
    precision: int
    texts: list[str]
    docs: NDArray[np.intp]
    topics: NDArray[np.intp] | None


def read(raw: bytes) -> Question:
    """The question that a request's body asks. Raises InvalidRequest, naming the item that is wrong."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise InvalidRequest('AI Pipe expected a JSON object such as {"docs": ["one text", "another"]}.')
    model, precision = body.get("model"), body.get("precision")
    if model is not None and not isinstance(model, str):
        raise InvalidRequest(f'model must be the name of an embedding model, such as "{DEFAULT_MODEL}".')
    if precision is None:
        precision = DEFAULT_PRECISION
    if isinstance(precision, bool) or not isinstance(precision, int) or not 0 <= precision <= MOST_PRECISION:
        raise InvalidRequest(f"precision must be a whole number from 0 to {MOST_PRECISION}.")
    numbers: dict[str, int] = {}
    docs = _numbered(body.get("docs"), "docs", numbers)
    topics = None if body.get("topics") is None else _numbered(body["topics"], "topics", numbers)
    _bounded(len(docs), len(docs if topics is None else topics))
    return Question(model or DEFAULT_MODEL, precision, list(numbers), docs, topics)


def _numbered(items: Any, name: str, numbers: dict[str, int]) -> NDArray[np.intp]:
    """The number of each text of a list; those not met before get the next ones."""
    if not isinstance(items, list) or not items:
        raise InvalidRequest(f'{name} must be a list of at least one text, such as ["one text", "another"].')
    found = []
    for position, item in enumerate(items):
        text = item if isinstance(item, str) and item else _text(item, f"{name}[{position}]")
        found.append(numbers.setdefault(text, len(numbers)))
        if len(numbers) > MOST_TEXTS:  # at once: there may be millions
            raise InvalidRequest(f"AI Pipe compares at most {MOST_TEXTS:,} different texts at once.")
    return np.array(found, dtype=np.intp)


def _text(item: Any, where: str) -> str:
    if isinstance(item, Mapping):
        if item.get("type") != "text":
            raise InvalidRequest(f'{where} must have the type "text": AI Pipe compares nothing else.')
        where, item = f"{where}.value", item.get("value")
    if not isinstance(item, str):
        raise InvalidRequest(f'{where} must be a text, or an object such as {{"type": "text", "value": "one text"}}.')
    if not item:
        raise InvalidRequest(f"{where} is empty: a text without anything in it has no embedding.")
    return item


def _bounded(docs: int, topics: int) -> None:
    if docs * topics > MOST_PAIRS:
        raise InvalidRequest(f"AI Pipe compares at most {MOST_PAIRS:,} pairs at once, not {docs:,} x {topics:,}.")


def batches(texts: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Texts for one call each, and the number of the first. A call never has more than OpenAI takes.

    A token is at least a byte: texts that are short of the limit in bytes are short of it in tokens.
    """
    start, tokens = 0, 0
    for number, text in enumerate(texts):
        most = min(len(text.encode()), TEXT_TOKENS)
        if number - start == CALL_TEXTS or (number > start and tokens + most > CALL_TOKENS):
            yield start, texts[start:number]
            start, tokens = number, 0
        tokens += most
    yield start, texts[start:]


def request(model: str, texts: list[str]) -> dict[str, Any]:
    """The call that embeds some texts. Base64 is a third of the size of numbers, and read much faster."""
    return {"model": model, "input": texts, "encoding_format": "base64"}


class Vectors:
    """The embeddings of numbered texts, in one matrix."""

    def __init__(self, texts: int) -> None:
        self._texts = texts
        self._matrix: NDArray[np.float32] = np.empty((0, 0), np.float32)

    def take(self, start: int, size: int, answer: Mapping[str, Any]) -> int:
        """Puts the answer to a call for `size` texts, of which the first has the number `start`, in its place.

        Returns the tokens that it says they were.
        Raises one of AttributeError, LookupError, TypeError, ValueError when it isn't what OpenAI documents.
        """
        data = answer["data"]
        if {item.get("index", place) for place, item in enumerate(data)} != set(range(size)) or len(data) != size:
            raise ValueError("not an embedding for each text")
        for place, item in enumerate(data):
            vector = _vector(item["embedding"])
            if not self._matrix.size and vector.size:
                self._matrix = np.empty((self._texts, vector.size), np.float32)
            if not vector.size or vector.shape != self._matrix.shape[1:]:  # one number would fill a whole row
                raise ValueError("embeddings without numbers, or of different lengths")
            self._matrix[start + item.get("index", place)] = vector
        return int((answer.get("usage") or {}).get("prompt_tokens") or 0)

    def unit(self, precision: int) -> Numbers:
        """Every embedding at the length of one, exact enough for so many decimals; one without a length stays as it is.

        Raises ValueError when an embedding is not made of numbers.
        """
        matrix: Numbers = self._matrix.astype(np.float64) if precision > SINGLE_PRECISION else self._matrix
        lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
        if not np.isfinite(lengths).all():
            raise ValueError("an embedding with something else than numbers")
        lengths[lengths == 0] = 1
        matrix /= lengths[:, None]
        return matrix


def _vector(embedding: Any) -> NDArray[np.float32]:
    """Base64 of little-endian 32-bit floats, or, from a provider that knows no base64, a list of numbers."""
    if isinstance(embedding, str):
        return np.frombuffer(pybase64.b64decode(embedding, validate=True), "<f4")
    return np.array(embedding, np.float32)


def compare(question: Question, unit: Numbers) -> Numbers:
    """The cosine of each document (row) with each topic (column), rounded. A text is alike itself by exactly 1.

    `unit` has a row of length one for each text.
    """
    topics = question.docs if question.topics is None else question.topics
    rows = unit[question.docs]
    columns = rows if question.topics is None else unit[topics]
    table: Numbers = rows @ columns.T  # of a matrix with itself numpy computes one half, and mirrors it
    np.clip(table, -1, 1, out=table)
    np.round(table, question.precision, out=table)
    table += 0.0  # makes 0 of -0
    table[question.docs[:, None] == topics] = 1
    return table


def written(question: Question, table: Numbers, tokens: int) -> Iterator[bytes]:
    """The answer as JSON, piece by piece: as a whole it may take more memory than all the rest."""
    yield b'{"model":' + orjson.dumps(question.model) + b',"similarity":['
    rows = max(1, PIECE // table.shape[1])
    for start in range(0, len(table), rows):
        piece = orjson.dumps(table[start : start + rows], option=orjson.OPT_SERIALIZE_NUMPY)
        yield (b"," if start else b"") + piece[1:-1]
    yield b'],"tokens":%d,"usage":{"prompt_tokens":%d}}' % (tokens, tokens)
