"""What a column can hold, said in one way for criteria, for DDL and for a table found in the database.

Belongs here: pure functions between field types, shapes and SQLAlchemy types, the space a shape takes in a MySQL row,
and which change of shape is safe. Does not belong here: talking to a database (``schema.py``), or rows
(``constraints.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Context, Decimal
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

from nsimport_pipeline.record_types.criteria import FieldSpec
from nsimport_pipeline.record_types.numbers import MONEY_DIGITS, PERCENT_DIGITS

Kind = Literal["text", "integer", "decimal", "boolean", "date", "datetime", "other"]

ROW_BYTES = 65_000
"""MySQL's limit is 65,535 for all columns of a row together; the rest is for what servers add to it."""
PAGE_BYTES = 8_000
"""InnoDB's limit is 8,126 for the part of a row that stays on its page of 16 KB."""
BIGINT_BITS = 64
MICROSECONDS = 6
TEXT, MEDIUMTEXT, LONGTEXT = 65_535, 2**24 - 1, 2**32 - 1
_POINTER_BYTES = {TEXT: 10, MEDIUMTEXT: 11, LONGTEXT: 12}
_DECIMAL_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
_UTF8_BYTES = 4
_MOVABLE_BYTES = 42
_INTEGER_BITS: dict[type, int] = {mysql.TINYINT: 8, mysql.SMALLINT: 16, mysql.MEDIUMINT: 24, mysql.INTEGER: 32}
_UNROUNDED = Context(prec=1000)
_EXACT_DIGITS = 15  # decimal digits that a binary64 gives back unchanged


@dataclass(frozen=True, slots=True)
class Shape:
    """What a column can hold. Only the numbers of its kind mean something."""

    kind: Kind
    characters: int | None = None
    """``text`` kept in the row: its limit (VARCHAR)."""
    bytes: int | None = None
    """``text`` kept outside the row: its limit (TEXT and longer)."""
    bits: int = BIGINT_BITS
    """``integer``."""
    unsigned: bool = False
    precision: int = 0
    """``decimal``."""
    scale: int = 0
    fraction: int = 0
    """``datetime``: digits after the second."""
    name: str = ""
    """``other``: the type as the database calls it."""

    def __str__(self) -> str:
        match self.kind:
            case "text" if self.characters is not None:
                return f"VARCHAR({self.characters})"
            case "text":
                return {TEXT: "TEXT", MEDIUMTEXT: "MEDIUMTEXT", LONGTEXT: "LONGTEXT"}.get(self.bytes or 0, "TINYTEXT")
            case "integer":
                return "BIGINT" if self.bits == BIGINT_BITS else f"INTEGER of {self.bits} bits"
            case "decimal":
                return f"DECIMAL({self.precision},{self.scale})"
            case "other":
                return self.name
            case _:
                return self.kind.upper()

    @property
    def row_bytes(self) -> int:
        """Bytes that count towards MySQL's limit for a row."""
        match self.kind:
            case "text" if self.characters is not None:
                size = self.characters * _UTF8_BYTES
                return size + (1 if size < 256 else 2)
            case "text":
                return _POINTER_BYTES.get(self.bytes or 0, 12)
            case "decimal":
                whole, part = divmod(self.precision - self.scale, 9), divmod(self.scale, 9)
                return 4 * (whole[0] + part[0]) + _DECIMAL_BYTES[whole[1]] + _DECIMAL_BYTES[part[1]]
            case "boolean":
                return 1
            case "date":
                return 3
            case _:
                return 8

    @property
    def page_bytes(self) -> int:
        """Most bytes that InnoDB keeps on the page: it moves a long value out, if its column takes over 255 bytes."""
        if self.kind == "text" and (self.characters is None or self.row_bytes > 256):
            return _MOVABLE_BYTES
        return self.row_bytes


def string(characters: int) -> Shape:
    return Shape("text", characters=characters)


LONG_STRING = Shape("text", bytes=TEXT)
LONG_TEXT = Shape("text", bytes=LONGTEXT)
BIG_INTEGER = Shape("integer")
TIMESTAMP = Shape("datetime", fraction=MICROSECONDS)


def field_shape(field: FieldSpec) -> Shape:
    """The shape that the criteria ask for."""
    match field.type:
        case "string":
            return string(field.length)
        case "text":
            return Shape("text", bytes=MEDIUMTEXT)
        case "json":
            return LONG_TEXT
        case "integer" | "reference":
            return BIG_INTEGER
        case "decimal":
            return Shape("decimal", precision=field.precision, scale=field.scale)
        case "money":
            return Shape("decimal", precision=MONEY_DIGITS[0], scale=MONEY_DIGITS[1])
        case "percent":
            return Shape("decimal", precision=PERCENT_DIGITS[0], scale=PERCENT_DIGITS[1])
        case "boolean":
            return Shape("boolean")
        case "date":
            return Shape("date")
        case "datetime":
            return TIMESTAMP


def fit_row(shapes: dict[str, Shape], *, beside: Sequence[Shape] = ()) -> dict[str, Shape]:
    """``shapes`` with the longest strings made TEXT until a row fits, ``beside`` other columns that stay as they are.

    First MySQL's limit for a row, then InnoDB's for what stays on the page. A row of very many columns may be over the
    second one whatever is done; then it depends on how much of it is filled.
    The same names and shapes always give the same answer: longest first, then by name.
    """
    fitted = dict(shapes)
    everything = [*shapes.values(), *beside]
    row = len(everything) // 8 + 1 + sum(shape.row_bytes for shape in everything)
    page = sum(shape.page_bytes for shape in everything)
    strings = [(name, shape) for name, shape in shapes.items() if shape.characters is not None]
    for name, shape in sorted(strings, key=lambda item: (-(item[1].characters or 0), item[0])):
        if row > ROW_BYTES or (page > PAGE_BYTES and shape.page_bytes > LONG_STRING.page_bytes):
            fitted[name] = LONG_STRING
            row += LONG_STRING.row_bytes - shape.row_bytes
            page += LONG_STRING.page_bytes - shape.page_bytes
    return fitted


def column_type(shape: Shape) -> TypeEngine[Any]:
    """The SQLAlchemy type for a shape of ours, right on MySQL, MariaDB and SQLite."""
    match shape.kind:
        case "text" if shape.characters is not None:
            return sa.String(shape.characters)
        case "text":
            sizes: dict[int, TypeEngine[str]] = {MEDIUMTEXT: mysql.MEDIUMTEXT(), LONGTEXT: mysql.LONGTEXT()}
            return sa.Text().with_variant(sizes.get(shape.bytes or 0, mysql.TEXT()), "mysql", "mariadb")
        case "decimal":
            return ExactDecimal(shape.precision, shape.scale)
        case "boolean":
            return sa.Boolean()
        case "date":
            return sa.Date()
        case "datetime":
            return sa.DateTime().with_variant(mysql.DATETIME(fsp=shape.fraction), "mysql", "mariadb")
        case _:
            return sa.BigInteger()


def reflected_shape(found: TypeEngine[Any]) -> Shape:
    """The shape of a column found in a database."""
    match found:
        case mysql.TINYINT(display_width=1) | sa.Boolean():
            return Shape("boolean")
        case mysql.TINYTEXT():
            return Shape("text", bytes=255)
        case mysql.MEDIUMTEXT():
            return Shape("text", bytes=MEDIUMTEXT)
        case mysql.LONGTEXT() | sa.JSON():
            return LONG_TEXT
        case sa.Text():
            return Shape("text", bytes=TEXT)
        case sa.String() if found.length is not None and not isinstance(found, sa.Enum):
            return string(found.length)
        case sa.Integer():
            bits = _INTEGER_BITS.get(type(found), BIGINT_BITS)
            return Shape("integer", bits=bits, unsigned=bool(getattr(found, "unsigned", False)))
        case sa.Numeric(asdecimal=True, precision=int(precision)) if not isinstance(found, sa.Float):
            return Shape("decimal", precision=precision, scale=found.scale or 0)
        case sa.DateTime() | mysql.TIMESTAMP():
            return Shape("datetime", fraction=getattr(found, "fsp", None) or 0)
        case sa.Date():
            return Shape("date")
        case _:
            return Shape("other", name=str(found).partition(" COLLATE")[0])


def widened(found: Shape, wanted: Shape) -> Shape | None:
    """The shape that a column found as ``found`` must get to hold everything ``wanted`` holds and all it holds now.

    ``found`` itself if nothing has to change; None if ``wanted`` is narrower or of another kind.
    """
    if found.kind != wanted.kind or found.kind == "other":
        return None
    match found.kind:
        case "text":
            return _wider_text(found, wanted)
        case "integer":
            if wanted.bits < found.bits:
                return None
            return found if wanted.bits == found.bits else wanted
        case "decimal":
            whole, new_whole = found.precision - found.scale, wanted.precision - wanted.scale
            if new_whole < whole or wanted.scale < found.scale:
                return None
            return found if (whole, found.scale) == (new_whole, wanted.scale) else wanted
        case "datetime":
            return found if found.fraction >= wanted.fraction else wanted
        case _:
            return found


def _wider_text(found: Shape, wanted: Shape) -> Shape | None:
    if found.characters is not None and wanted.characters is not None:
        return None if wanted.characters < found.characters else wanted
    if found.characters is not None:
        return wanted
    if wanted.characters is not None:
        # A string that became TEXT because the row was full stays so when there is room again.
        return found if found.bytes == TEXT else None
    if found.bytes == wanted.bytes:
        return found
    return wanted if (wanted.bytes or 0) > (found.bytes or 0) else None


_NOTHING = type(None)

PYTHON_TYPES: dict[Kind, frozenset[type]] = {
    "text": frozenset({str, _NOTHING}),
    "integer": frozenset({int, _NOTHING}),
    "decimal": frozenset({Decimal, int, _NOTHING}),
    "boolean": frozenset({bool, _NOTHING}),
    "date": frozenset({date, _NOTHING}),
    "datetime": frozenset({datetime, _NOTHING}),
}
"""The types whose values go into a column of each kind as they are."""


class ExactDecimal(TypeDecorator[Decimal]):
    """DECIMAL. SQLite has none, and makes a binary float of any number text in a numeric column.

    There, a number of at most 15 significant digits is stored as SQLite's own number, which gives exactly those digits
    back and can be compared and summed; a longer one as its text in bytes, which SQLite leaves alone.
    """

    impl = sa.Numeric
    cache_ok = True

    def __init__(self, precision: int, scale: int) -> None:
        super().__init__(precision, scale)
        self.precision = precision
        self.scale = scale

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(_SqliteDecimal(self.precision, self.scale))
        return dialect.type_descriptor(sa.Numeric(self.precision, self.scale))


class _SqliteDecimal(sa.types.UserDefinedType[Decimal]):
    cache_ok = True

    def __init__(self, precision: int, scale: int) -> None:
        self.precision = precision
        self.scale = scale

    def get_col_spec(self, **_: Any) -> str:
        return f"DECIMAL({self.precision}, {self.scale})"

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        return _bound_decimal

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        return _read_decimal


def without_zeros(number: Decimal) -> Decimal:
    """The same number without zeros at its end."""
    return number.normalize(_UNROUNDED)


def _bound_decimal(value: Decimal | int | str | None) -> int | float | bytes | None:
    if value is None:
        return None
    number = Decimal(value)
    if not number.is_finite():
        raise TypeError("a decimal that is not a finite number cannot be stored")
    number = without_zeros(number)
    if len(number.as_tuple().digits) > _EXACT_DIGITS:
        return f"{number:f}".encode()
    return float(number) if number.as_tuple().exponent < 0 else int(number)  # type: ignore[operator]


def _read_decimal(value: Any) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return Decimal(value.decode())
    return Decimal(f"{value:.{_EXACT_DIGITS}g}") if isinstance(value, float) else Decimal(value)
