"""Numbers as NetSuite and its users write them: one value at a time, exact.

Belongs here: from the text (or JSON number) of one integer, decimal, amount or percentage to ``int`` or ``Decimal``.
Does not belong here: whole columns (``parse.py``), or which fields are what (``criteria.py``).

NetSuite sends plain text with a decimal point. What else is taken has one meaning only: a sign before, parentheses for
a negative amount, an exponent, a currency beside an amount, a percent sign beside a percentage, and groups of three
digits parted by commas, spaces or apostrophes, or by points where a decimal comma follows. ``1,234`` is a group;
``1.234`` is a decimal point; ``1,23`` can only be a decimal comma. Nothing passes through a float, nothing is rounded.
"""

import re
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from typing import Any

MONEY_DIGITS = (24, 8)
"""Precision and scale of ``money``. A currency has 0 to 8 decimal places, NetSuite's own precision goes up to 8 in
prices, and 16 digits before the point pass every ledger: so each amount NetSuite can hold is stored exactly."""
PERCENT_DIGITS = (24, 16)
"""Precision and scale of ``percent``: 12.5% is 12.5. Computed shares (33.3333333333333) come with up to 16 places."""

SMALLEST_BIGINT, LARGEST_BIGINT = -(2**63), 2**63 - 1

_SPACE = " \t\r\n\u00a0\u2009\u202f"
_CURRENCY = r"(?:[A-Z]{3}|[A-Z]{0,2}\$|[¢-¥\u20a0-\u20cf])"
_CURRENCY_AT_AN_END = re.compile(rf"^{_CURRENCY}[{_SPACE}]?|[{_SPACE}]?{_CURRENCY}$")
_PLAIN = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_GROUPS_THEN_POINT = re.compile(r"[1-9][0-9]{0,2}([,'’ \u00a0\u2009\u202f])[0-9]{3}(?:\1[0-9]{3})*(?:\.[0-9]*)?")
_GROUPS_THEN_COMMA = re.compile(r"[1-9][0-9]{0,2}([.'’ \u00a0\u2009\u202f])[0-9]{3}(?:\1[0-9]{3})*,[0-9]+")
_POINT_GROUPS = re.compile(r"[1-9][0-9]{0,2}(?:(\.)[0-9]{3}){2,}")
_DECIMAL_COMMA = re.compile(r"[0-9]*,(?:[0-9]{1,2}|[0-9]{4,})|(?:0|[0-9]{4,}),[0-9]+")
_LARGEST_EXPONENT = 100
_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation])


class UnfitError(ValueError):
    """A value that a column cannot hold exactly. The message says why, without the value itself."""


def number(value: Any, *, currency: bool = False, percent: bool = False) -> Decimal | None:
    """The number in ``value``; None for a blank. Raises UnfitError for anything that is not surely one number."""
    if isinstance(value, bool):
        raise UnfitError("true/false where a number belongs")
    if isinstance(value, int | Decimal):
        result = Decimal(value)
    elif isinstance(value, float):
        result = Decimal(repr(value))
    elif isinstance(value, str):
        text = value.strip(_SPACE)
        if not text:
            return None
        result = _from_text(text, currency, percent)
    else:
        raise UnfitError("a nested value where a number belongs")
    if not result.is_finite():
        raise UnfitError("not a finite number")
    if result and abs(result.adjusted()) > _LARGEST_EXPONENT:
        raise UnfitError("number out of range")
    return result


def fixed(value: Decimal | None, precision: int, scale: int) -> Decimal | None:
    """``value`` with at most ``scale`` places, spelt without exponent. Raises UnfitError if that would lose a digit."""
    if value is None:
        return None
    if value.adjusted() >= precision - scale and value:
        raise UnfitError(f"number has more than {precision - scale} digits before the decimal point")
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)  # noqa: S101 - number() lets only finite ones through; for the type checker
    if -scale <= exponent <= 0:
        return value
    try:
        places = Decimal(1).scaleb(-scale if exponent < 0 else 0)
        return value.quantize(places, context=_EXACT)
    except DecimalException:
        raise UnfitError(f"number has more than {scale} decimal places") from None


def integer(value: Decimal | None) -> int | None:
    """``value`` as a BIGINT. Raises UnfitError for a fraction or a number out of range."""
    if value is None:
        return None
    if value != value.to_integral_value():
        raise UnfitError("number has a fraction where a whole number belongs")
    result = int(value)
    if not SMALLEST_BIGINT <= result <= LARGEST_BIGINT:
        raise UnfitError("whole number out of range")
    return result


def _from_text(text: str, currency: bool, percent: bool) -> Decimal:
    body, negative = _sign(text.replace("\u2212", "-"))
    if percent:
        body = body.removesuffix("%").rstrip(_SPACE)
    if currency:
        body = _CURRENCY_AT_AN_END.sub("", body, count=1)
        if not negative:
            body, negative = _sign(body)
    plain = _plain(body)
    if plain is None:
        raise UnfitError("not a number")
    return -Decimal(plain) if negative else Decimal(plain)


def _sign(text: str) -> tuple[str, bool]:
    if text.startswith("(") and text.endswith(")"):
        return text[1:-1].strip(_SPACE), True
    if text[:1] in "+-" and text:
        return text[1:].lstrip(_SPACE), text[0] == "-"
    return text, False


def _plain(text: str) -> str | None:
    """``text`` in the spelling that Decimal takes, or None if it is not surely one number."""
    if _PLAIN.fullmatch(text):
        return text
    if grouped := (_GROUPS_THEN_POINT.fullmatch(text) or _POINT_GROUPS.fullmatch(text)):
        return text.replace(grouped[1], "")
    if grouped := _GROUPS_THEN_COMMA.fullmatch(text):
        return text.replace(grouped[1], "").replace(",", ".")
    if _DECIMAL_COMMA.fullmatch(text):
        return text.replace(",", ".")
    return None
