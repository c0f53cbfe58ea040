"""What a table in the database will take, and making a row fit it without changing what the row says.

Belongs here: reading a table's own constraints, and the pure repair of rows by them. Does not belong here: criteria
types (``record_types/parse.py`` has applied them before), statements (``upsert.py``).

A repair never guesses: a missing value becomes the column's default or the criteria's; a text is cut only where the
criteria allow it; another type only if the value stays exactly the same. Otherwise the row is at fault, and its column
is named.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from nsimport_pipeline.record_types.criteria import FieldSpec
from nsimport_pipeline.warehouse.shapes import Shape, reflected_shape, without_zeros


@dataclass(frozen=True, slots=True)
class ColumnConstraint:
    shape: Shape
    nullable: bool
    default: str | None
    """The column's default as text; None if it has none that is a plain value."""
    enforces_size: bool = True
    """Whether lengths and ranges are limits (SQLite takes anything)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row cannot be stored. Never holds the value."""

    column: str | None
    reason: str
    constraint: str | None = None


class UnstorableError(ValueError):
    """A value that its column cannot hold. The message says why, without the value."""


def read_constraints(connection: Connection, table: str) -> dict[str, ColumnConstraint]:
    """The columns of ``table`` as the database has them."""
    sizes = connection.dialect.name != "sqlite"
    return {
        column["name"]: ColumnConstraint(
            reflected_shape(column["type"]), bool(column["nullable"]), _plain_default(column.get("default")), sizes
        )
        for column in sa.inspect(connection).get_columns(table)
    }


def repair(
    row: Sequence[Any],
    columns: Sequence[str],
    constraints: Mapping[str, ColumnConstraint],
    fields: Mapping[str, FieldSpec],
) -> tuple[Any, ...] | Fault:
    """``row`` with every value as its column takes it, or what is wrong with it.

    Values of columns that the table lacks stay as they are.
    """
    repaired = list(row)
    for position, (name, value) in enumerate(zip(columns, row, strict=True)):
        constraint = constraints.get(name)
        if constraint is None:
            continue
        try:
            repaired[position] = _fitting(value, constraint, fields.get(name))
        except UnstorableError as problem:
            return Fault(name, f"{name}: {problem}")
    return tuple(repaired)


def _fitting(value: Any, constraint: ColumnConstraint, field: FieldSpec | None) -> Any:
    if value is None:
        return None if constraint.nullable else _default(constraint, field)
    value = coerced(value, constraint.shape)
    if not constraint.enforces_size:
        return value
    if isinstance(value, str) and constraint.shape.kind == "text":
        return _short_enough(value, constraint.shape, cut=field is not None and field.truncate)
    _check_range(value, constraint.shape)
    return value


def _default(constraint: ColumnConstraint, field: FieldSpec | None) -> Any:
    for default in (constraint.default, None if field is None else field.default):
        if default is not None:
            with suppress(UnstorableError):
                return coerced(default, constraint.shape)
    raise UnstorableError("a value is missing, and neither the column nor the criteria have a default")


def coerced(value: Any, shape: Shape) -> Any:
    """``value`` in the Python type that goes with ``shape``, if that is exactly the same; else UnstorableError."""
    match shape.kind:
        case "text":
            return _as_text(value)
        case "boolean":
            return _as_boolean(value)
        case "integer" | "decimal":
            number = _as_number(value)
            if shape.kind == "decimal":
                return number
            if number != number.to_integral_value():
                raise UnstorableError("a fraction where a whole number belongs")
            return int(number)
        case "date":
            return _as_date(_as_datetime(value))
        case "datetime":
            return _as_datetime(value)
        case _:
            return value


def _as_text(value: Any) -> str:
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise UnstorableError("text that is not valid Unicode") from None
            return value
        case bool():
            return "true" if value else "false"
        case Decimal():
            return f"{value:f}"
        case datetime():
            return value.isoformat(" ")
        case int() | date():
            return str(value)
    raise UnstorableError(f"a value of type {type(value).__name__} where text belongs")


def _as_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}
    if isinstance(value, str | int | Decimal) and str(value).strip().lower() in known:
        return known[str(value).strip().lower()]
    raise UnstorableError("neither true nor false")


def _as_number(value: Any) -> Decimal:
    if isinstance(value, float):
        value = repr(value)
    if not isinstance(value, int | str | Decimal):
        raise UnstorableError(f"a value of type {type(value).__name__} where a number belongs")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise UnstorableError("not a number") from None
    if not number.is_finite():
        raise UnstorableError("not a finite number")
    return number


def _as_datetime(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise UnstorableError("not an ISO date") from None
    match value:
        case datetime(tzinfo=None):
            return value
        case datetime():
            return value.astimezone(UTC).replace(tzinfo=None)
        case date():
            return datetime.combine(value, time())
    raise UnstorableError(f"a value of type {type(value).__name__} where a date belongs")


def _as_date(value: datetime) -> date:
    if value.time() != time():
        raise UnstorableError("a time of day where a date belongs")
    return value.date()


def _short_enough(text: str, shape: Shape, *, cut: bool) -> str:
    if shape.characters is not None:
        if len(text) <= shape.characters:
            return text
        if cut:
            return text[: shape.characters]
        raise UnstorableError(f"text of {len(text)} characters, the column takes {shape.characters}")
    encoded = text.encode()
    if shape.bytes is None or len(encoded) <= shape.bytes:
        return text
    if cut:
        return encoded[: shape.bytes].decode(errors="ignore")
    raise UnstorableError(f"text of {len(encoded)} bytes, the column takes {shape.bytes}")


def _check_range(value: Any, shape: Shape) -> None:
    if shape.kind == "integer":
        lowest, highest = (0, 2**shape.bits) if shape.unsigned else (-(2 ** (shape.bits - 1)), 2 ** (shape.bits - 1))
        if not lowest <= value < highest:
            raise UnstorableError(f"number out of the range of {shape}")
    if shape.kind == "decimal":
        if value and value.adjusted() >= shape.precision - shape.scale:
            raise UnstorableError(f"number out of the range of {shape}")
        exponent = without_zeros(value).as_tuple().exponent
        if isinstance(exponent, int) and -exponent > shape.scale:
            raise UnstorableError(f"more decimal places than {shape} keeps")


def _plain_default(default: Any) -> str | None:
    """A reflected default (``'text'``, ``0``) as text; None for an expression or NULL."""
    if not isinstance(default, str):
        return None
    if len(default) >= 2 and default[0] == default[-1] == "'":
        return default[1:-1].replace("''", "'")
    try:
        Decimal(default)
    except InvalidOperation:
        return None
    return default
