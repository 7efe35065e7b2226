"""Tables of money as CSV, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from flask import Response

from aipipe.ledger import Total
from aipipe.money import show

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def sheet(name: str, columns: Sequence[str], totals: Iterable[Total]) -> Response:
    """A file `name` to keep: a line a total, with its key under `columns`, then what it cost in dollars."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, "cost", "requests", "input_tokens", "output_tokens"])
    for total in totals:
        key = [harmless(value) for value in total.key]
        writer.writerow([*key, show(total.cost), total.requests, total.input_tokens, total.output_tokens])
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(text.getvalue(), headers=headers, content_type="text/csv; charset=utf-8")


def harmless(text: str) -> str:
    """What a spreadsheet won't compute. https://owasp.org/www-community/attacks/CSV_Injection"""
    return f"'{text}" if text.startswith(FORMULA) else text
