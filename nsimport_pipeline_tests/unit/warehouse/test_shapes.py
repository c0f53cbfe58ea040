"""What columns can hold, what may become of them, and when a row is full."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects.sqlite import pysqlite

from nsimport_pipeline.warehouse.shapes import (
    PAGE_BYTES,
    ROW_BYTES,
    TEXT,
    ExactDecimal,
    Shape,
    fit_row,
    string,
    widened,
)

shapes = st.one_of(
    st.builds(string, st.integers(1, 16_000)),
    st.sampled_from([Shape("text", bytes=size) for size in (TEXT, 2**24 - 1, 2**32 - 1)]),
    st.builds(
        lambda whole, scale: Shape("decimal", precision=whole + scale, scale=scale),
        st.integers(1, 35),
        st.integers(0, 30),
    ),
    st.builds(Shape, st.just("integer"), bits=st.sampled_from([8, 16, 24, 32, 64])),
    st.builds(Shape, st.sampled_from(["boolean", "date"])),
    st.builds(Shape, st.just("datetime"), fraction=st.integers(0, 6)),
)


def holds(outer: Shape, inner: Shape) -> bool:
    """Whether everything that ``inner`` holds fits into ``outer``."""
    if outer.kind != inner.kind:
        return False
    match outer.kind:
        case "text":
            room = [s.bytes if s.characters is None else 4 * s.characters for s in (outer, inner)]
            if outer.characters is not None and inner.characters is None:
                return False
            return (room[0] or 0) >= (room[1] or 0)
        case "decimal":
            return outer.scale >= inner.scale and outer.precision - outer.scale >= inner.precision - inner.scale
        case "integer":
            return outer.bits >= inner.bits
        case "datetime":
            return outer.fraction >= inner.fraction
        case _:
            return True


@given(shapes, shapes)
def test_a_changed_column_holds_all_it_held_and_all_it_is_asked_to(found: Shape, wanted: Shape) -> None:
    target = widened(found, wanted)
    if target is not None:
        assert holds(target, found)
        assert holds(target, wanted)
        assert widened(target, wanted) == target


@given(shapes, shapes)
def test_only_a_change_that_would_lose_something_is_refused(found: Shape, wanted: Shape) -> None:
    if holds(wanted, found):
        assert widened(found, wanted) is not None
    if found.kind != wanted.kind:
        assert widened(found, wanted) is None


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(1, 16_000), max_size=150))
def test_a_row_fits_and_only_as_many_strings_move_as_have_to(lengths: dict[str, int]) -> None:
    row = {name: string(length) for name, length in lengths.items()}
    fitted = fit_row(row)
    size = sum(shape.row_bytes for shape in fitted.values()) + len(row) // 8 + 1
    page = sum(shape.page_bytes for shape in fitted.values())
    assert size <= ROW_BYTES
    assert page <= PAGE_BYTES
    moved = [lengths[name] for name in row if fitted[name] != row[name]]
    if not moved:
        return
    assert fit_row(dict(reversed(row.items()))) == fitted
    if sum(shape.page_bytes for shape in row.values()) <= PAGE_BYTES:
        assert min(moved) >= max((lengths[name] for name in row if fitted[name] == row[name]), default=0)


def test_a_row_that_fits_is_left_as_it_is() -> None:
    row = {f"c{i}": string(255) for i in range(60)}
    assert fit_row(row) == row


def test_columns_beside_take_room_too() -> None:
    row = {f"c{i}": string(255) for i in range(40)}
    assert fit_row(row, beside=[string(255)] * 40) != row


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=-(10**16), max_value=10**16))
def test_sqlite_gives_back_the_decimal_it_was_given(number: Decimal) -> None:
    dialect = pysqlite.dialect()
    kind = ExactDecimal(24, 8).dialect_impl(dialect)
    bind, read = kind.bind_processor(dialect), kind.result_processor(dialect, None)
    assert bind is not None
    assert read is not None
    assert read(bind(number)) == number


@pytest.mark.parametrize(("number", "stored"), [("12.00", 12), ("0.1", 0.1), ("1234567890.12345678", bytes)])
def test_sqlite_stores_a_number_wherever_a_number_is_exact(number: str, stored: object) -> None:
    dialect = pysqlite.dialect()
    bind = ExactDecimal(24, 8).dialect_impl(dialect).bind_processor(dialect)
    assert bind is not None
    bound = bind(Decimal(number))
    assert type(bound) is stored if isinstance(stored, type) else (bound, type(bound)) == (stored, type(stored))
