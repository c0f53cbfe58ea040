"""Columns of values as NetSuite sends them to columns of plain Python values, by field type.

Belongs here: which parser a field type has, and how it is applied to a whole column.
Does not belong here: how one number or date is read (``numbers.py``, ``dates.py``), rows, defaults (``transform.py``).

Each type has two ways. The *quick* one takes a whole column at once: one regular expression over the joined column
proves that every value has the plain form NetSuite normally sends, then one C-level pass converts it. If the proof
fails, the *careful* one reads every distinct value of the column once. Both give the same result; only time differs.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import orjson

from nsimport_pipeline.record_types.criteria import FieldSpec
from nsimport_pipeline.record_types.dates import AccountFormats, parse_date, parse_datetime
from nsimport_pipeline.record_types.numbers import MONEY_DIGITS, PERCENT_DIGITS, UnfitError, fixed, integer, number

_TRUE = frozenset({"t", "true", "yes", "y", "1", "on"})
_FALSE = frozenset({"f", "false", "no", "n", "0", "off"})
_NO_REFERENCE = frozenset({"", "0", "-0", "- none -", "-none-", "none", "null"})
_LONE_SURROGATE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half of a character, as JSON text escapes it."""
_REFERENCE = re.compile(r"[+-]?[0-9]{1,19}(?:\.0*)?")


@dataclass(frozen=True, slots=True)
class ColumnParser:
    """How the values of one column are read."""

    quick: Callable[[Sequence[Any]], list[Any]]
    """The whole column; raises ValueError, TypeError, KeyError or ArithmeticError if it is not all in plain form."""
    careful: Callable[[Any], Any]
    """One value; None for a blank; raises UnfitError."""

    def __call__(self, values: Sequence[Any]) -> tuple[list[Any], dict[int, str]]:
        """The parsed values (None where blank or unfit) and, by position, why a value does not fit."""
        try:
            return self.quick(values), {}
        except (ValueError, TypeError, KeyError, ArithmeticError):
            return self._one_by_one(values)

    def _one_by_one(self, values: Sequence[Any]) -> tuple[list[Any], dict[int, str]]:
        results: list[Any] = []
        problems: dict[int, str] = {}
        known: dict[tuple[type, Hashable], tuple[Any, str | None]] = {}
        for position, value in enumerate(values):
            key = (type(value), value if isinstance(value, str | int | float | Decimal) else id(value))
            if key not in known:
                try:
                    known[key] = self.careful(value), None
                except UnfitError as problem:
                    known[key] = None, str(problem)
            result, reason = known[key]
            results.append(result)
            if reason is not None:
                problems[position] = reason
        return results, problems


def column_parser(field: FieldSpec, account: AccountFormats) -> ColumnParser:
    """The parser for the values of ``field``."""
    match field.type:
        case "string":
            return text_parser(field.length, truncate=field.truncate)
        case "text":
            return text_parser(None)
        case "json":
            return ColumnParser(_refuse, _json)
        case "boolean":
            return ColumnParser(_quick_booleans, _boolean)
        case "integer":
            return ColumnParser(_quick_integers, lambda value: integer(number(value)))
        case "reference":
            return ColumnParser(_quick_references, reference)
        case "decimal":
            return _decimal_parser(field.precision, field.scale)
        case "money":
            return _decimal_parser(*MONEY_DIGITS, currency=True)
        case "percent":
            return _decimal_parser(*PERCENT_DIGITS, percent=True)
        case "date":
            return ColumnParser(_quick_dates, partial(parse_date, account=account))
        case "datetime":
            return ColumnParser(_quick_datetimes, partial(parse_datetime, account=account))


def text_parser(length: int | None, *, truncate: bool = False) -> ColumnParser:
    """Texts, kept to the last character (emoji, NUL, zero-width ones), of at most ``length`` characters (None: any)."""

    def quick(values: Sequence[Any]) -> list[Any]:
        joined = "".join(values)
        if not joined.isascii():
            joined.encode()  # raises UnicodeEncodeError for a lone surrogate
        if length is not None and len(joined) > length and max(map(len, values)) > length:
            raise ValueError
        return list(values)

    def careful(value: Any) -> str | None:
        if value is None:
            return None
        text = value if isinstance(value, str) else json_text(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnfitError("text holds half a character (a lone surrogate), which no database text can") from None
        if length is not None and len(text) > length:
            if not truncate:
                raise UnfitError(f"text of {len(text)} characters is longer than {length}")
            return text[:length]
        return text

    return ColumnParser(quick, careful)


def key_parser() -> ColumnParser:
    """NetSuite's internal ids of the records themselves: as references, but 0 is one too."""

    def careful(value: Any) -> int | None:
        return 0 if not isinstance(value, bool) and value in (0, "0") else reference(value)

    return ColumnParser(_quick_integers, careful)


def reference(value: Any) -> int | None:
    """A NetSuite internal id; None for "none" in any of its spellings. Raises UnfitError."""
    if isinstance(value, dict):
        value = value.get("id")
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _NO_REFERENCE:
            return None
        if not _REFERENCE.fullmatch(text):
            raise UnfitError("not an internal id")
        value = text
    return integer(number(value)) or None


def json_text(value: Any) -> str:
    """``value`` as JSON text; a lone surrogate is written as its escape."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        import json

        return json.dumps(value, ensure_ascii=True, default=str, separators=(",", ":"))


def json_texts(values: Sequence[Any]) -> list[str]:
    """Each of ``values`` as JSON text."""
    try:
        return [text.decode() for text in map(orjson.dumps, values)]
    except TypeError:
        return [json_text(value) for value in values]


def _decimal_parser(precision: int, scale: int, *, currency: bool = False, percent: bool = False) -> ColumnParser:
    whole = precision - scale
    plain = _column_of(rf"-?[0-9]{{1,{whole}}}+(?:\.[0-9]{{1,{scale}}}+)?+" if scale else rf"-?[0-9]{{1,{whole}}}+")

    def quick(values: Sequence[Any]) -> list[Any]:
        _prove(plain, values)
        return list(map(Decimal, values))

    def careful(value: Any) -> Decimal | None:
        if value is None:
            return None
        return fixed(number(value, currency=currency, percent=percent), precision, scale)

    return ColumnParser(quick, careful)


def _column_of(value: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{value}\n)*+")


def _prove(pattern: re.Pattern[str], values: Sequence[Any]) -> None:
    """Raise ValueError unless every value is text of the form; a line feed inside one fails when it is converted."""
    if not pattern.fullmatch("\n".join(values) + "\n"):
        raise ValueError


_INTEGERS = _column_of(r"-?[0-9]{1,18}+")
_DATES = _column_of(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATETIMES = _column_of(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")


def _quick_integers(values: Sequence[Any]) -> list[Any]:
    digits = "".join(values)
    if not (digits.isascii() and digits.isdigit() and max(map(len, values)) <= 18):
        _prove(_INTEGERS, values)
    return list(map(int, values))


def _quick_references(values: Sequence[Any]) -> list[Any]:
    ids = _quick_integers(values)
    return [value or None for value in ids] if 0 in ids else ids


def _quick_dates(values: Sequence[Any]) -> list[Any]:
    _prove(_DATES, values)
    return list(map(date.fromisoformat, values))


def _quick_datetimes(values: Sequence[Any]) -> list[Any]:
    _prove(_DATETIMES, values)
    return list(map(datetime.fromisoformat, values))


def _quick_booleans(values: Sequence[Any]) -> list[Any]:
    return list(map({"T": True, "F": False}.__getitem__, values))


def _refuse(values: Sequence[Any]) -> list[Any]:
    raise ValueError


def _boolean(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if not word:
            return None
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
    raise UnfitError("neither true nor false")


def _json(value: Any) -> str | None:
    """JSON text as it came if it is JSON already, else the value written as JSON."""
    if value is None:
        return None
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            orjson.loads(value)
        except orjson.JSONDecodeError:
            pass
        else:
            return value
    text = json_text(value)
    if _LONE_SURROGATE.search(text):
        raise UnfitError("text holds half a character (a lone surrogate), which no database text can")
    return text
