"""Money is counted in integer nanodollars (1e-9 $). Dollars exist only at the edges: settings, JSON, headers."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation

NANO = 10**9
MAX_DOLLARS = 10**9
_ONE_NANO = Decimal("1e-9")


def to_nano(dollars: int | float | str | Decimal) -> int:
    """Nanodollars for an amount as it is written (0.1 is a tenth), rounded up as every cost is.

    Raises ValueError when it isn't a number, or is above a billion dollars.
    """
    if isinstance(dollars, bool):
        raise ValueError("not an amount in dollars")
    try:
        amount = Decimal(str(dollars))
    except InvalidOperation:
        raise ValueError("not an amount in dollars") from None
    if not amount.is_finite() or not -MAX_DOLLARS <= amount <= MAX_DOLLARS:
        raise ValueError("not an amount of at most a billion dollars")
    return int(amount.quantize(_ONE_NANO, ROUND_CEILING).scaleb(9))


def to_dollars(nano: int) -> float:
    """Dollars for JSON: the float that prints as the exact amount."""
    return nano / NANO


def show(nano: int) -> str:
    """Dollars for people and headers, exact and without exponent: `0.000012`, `0.09`, `0`."""
    whole, rest = divmod(abs(nano), NANO)
    sign = "-" if nano < 0 else ""
    return f"{sign}{whole}.{rest:09d}".rstrip("0").rstrip(".")


def told(nano: int) -> str:
    """Dollars for a sentence, exact and with at least two decimals as on pages: `0.10`, `0.0000001`."""
    whole, _, rest = show(nano).partition(".")
    return f"{whole}.{rest.ljust(2, '0')}"


def readable(nano: int) -> str:
    """Dollars for a page, to the millionth, with at least two decimals: `$0.10`, `-$0.000012`; `<$0.000001` below."""
    millionths = (abs(nano) + 500) // 1000
    if nano and not millionths:
        return "<$0.000001"
    return f"{'-' if nano < 0 else ''}${told(millionths * 1000)}"


def brief(nano: int) -> str:
    """Dollars for comparing at a glance: as `readable`, to three digits, or to the cent from a dollar on."""
    step = 10 ** min(7, max(3, len(str(abs(nano))) - 3)) if abs(nano) >= 1000 else 1
    rounded = (abs(nano) + step // 2) // step * step
    return readable(rounded if nano >= 0 else -rounded)
