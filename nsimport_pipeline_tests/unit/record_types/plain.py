"""A plain transform, one row and one value at a time, that the vectorised one is compared with.

Belongs here: the rules said as simply as Python can say them, for the values NetSuite normally sends and for ones that
are surely wrong. It shares no code with the package. Unusual spellings have a table of their own (``test_hostile``).
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from nsimport_pipeline.record_types.criteria import FieldSpec, RecordType

DIGITS = {"money": (24, 8), "percent": (24, 16)}


class NoFitError(Exception):
    pass


def plain_value(field: FieldSpec, value: Any) -> Any:
    if field.values:
        for word, meaning in field.values.items():
            if isinstance(value, str) and value.strip().lower() == word.lower():
                value = meaning
                break
    if value is None:
        return field_default(field)
    parsed = plain_parse(field, value)
    return field_default(field) if parsed is None else parsed


def field_default(field: FieldSpec) -> Any:
    return None if field.default is None else plain_parse(field, field.default)


def plain_parse(field: FieldSpec, value: Any) -> Any:
    try:
        match field.type:
            case "string" | "text":
                value.encode()
                if field.type == "string" and len(value) > field.length:
                    if not field.truncate:
                        raise NoFitError
                    return value[: field.length]
                return value
            case "boolean":
                if isinstance(value, bool):
                    return value
                return {"t": True, "true": True, "yes": True, "f": False, "false": False, "no": False, "": None}[
                    value.lower()
                ]
            case "integer" | "reference":
                if str(value).strip() in ("", "- None -"):
                    return None
                number = int(value)
                if abs(number) >= 2**63 and number != -(2**63):
                    raise NoFitError
                return None if field.type == "reference" and number == 0 else number
            case "decimal" | "money" | "percent":
                if not str(value).strip():
                    return None
                precision, scale = DIGITS.get(field.type, (field.precision, field.scale))
                exact = Decimal(value)
                if exact * 10**scale % 1 != 0 or abs(exact) >= 10 ** (precision - scale):
                    raise NoFitError
                return exact
            case "date":
                return date.fromisoformat(value) if value else None
            case "datetime":
                return datetime.strptime(value, "%Y-%m-%d %H:%M:%S") if value else None
    except (ValueError, ArithmeticError, KeyError):
        raise NoFitError from None
    raise AssertionError(field.type)


def plain_transform(
    record_type: RecordType, items: Sequence[Mapping[str, Any]]
) -> tuple[dict[int, dict[str, Any]], dict[int, str], int]:
    """Good rows by refid, the first column at fault by refid, and how many rows have no id."""
    good: dict[int, dict[str, Any]] = {}
    bad: dict[int, str] = {}
    without_id = 0
    for item in items:
        lowered = {key.lower(): value for key, value in item.items()}
        if record_type.source.key not in lowered:
            without_id += 1
            continue
        refid = int(lowered[record_type.source.key])
        good.pop(refid, None)
        bad.pop(refid, None)
        row: dict[str, Any] = {"refid": refid, "external_id": lowered.get("externalid")}
        for field in record_type.fields:
            try:
                if field.display and field.type == "string" and lowered.get(field.display_key) is not None:
                    row[field.name] = plain_value(field, lowered[field.display_key])
                else:
                    row[field.name] = plain_value(field, lowered.get(field.key))
                if field.display_column:
                    row[field.display_column] = lowered.get(field.display_key)
            except NoFitError:
                bad[refid] = field.name
                break
        else:
            good[refid] = row
    return good, bad, without_id
