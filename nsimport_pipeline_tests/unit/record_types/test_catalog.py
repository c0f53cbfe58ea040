"""The built-in catalogue: complete, described, consistent with itself."""

import re

import pytest

from nsimport_pipeline.record_types.criteria import CATALOG_DIRECTORY, RESERVED_COLUMNS, load_catalog, load_criteria
from nsimport_pipeline.record_types.graph import closure, generations, levels
from nsimport_pipeline.record_types.transform import table_columns

CATALOG = load_catalog()
EXPECTED = [
    *("accounting_period", "charge", "charge_type", "classification", "currency", "customer", "customer_subsidiary"),
    *("department", "description_item", "discount_item", "employee", "inventory_item", "invoice", "item"),
    *("item_fulfillment", "location", "markup_item", "non_inventory_item", "opportunity", "other_charge_item"),
    *("price_level", "project", "sales_order", "service_item", "subsidiary", "subtotal_item", "transaction_line"),
    *("vendor", "vendor_subsidiary"),
]
FAILING = {"links", "refname", "classtranslation", "total", "consolbalance"}
"""Columns that NetSuite lists but does not let anybody select; and by table:"""
FAILING_IN = {"transaction": {"location", "createdfrom", "subsidiary", "department", "class"}, "customer": {"balance"}}
PRIVATE = re.compile(r"salary|birth|socialsecurity|ssn|bankaccount|password", re.IGNORECASE)


def test_every_record_type_is_there() -> None:
    assert list(CATALOG) == EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
class TestEachRecordType:
    def test_lies_in_the_directory_of_its_name(self, name: str) -> None:
        assert load_criteria(CATALOG_DIRECTORY / name / "criteria.json") == CATALOG[name]

    def test_describes_itself_and_every_field(self, name: str) -> None:
        texts = [CATALOG[name].description, *(field.description for field in CATALOG[name].fields)]
        assert all(len(text) > 5 and text.endswith(".") for text in texts)

    def test_belongs_to_a_known_family(self, name: str) -> None:
        assert CATALOG[name].family in ("lists", "entities", "items", "transactions")

    def test_has_no_column_twice_and_no_reserved_one(self, name: str) -> None:
        columns = table_columns(CATALOG[name], store_raw=True)
        assert len(set(columns)) == len(columns)
        assert not RESERVED_COLUMNS & {field.name for field in CATALOG[name].fields}

    def test_selects_no_column_that_fails_or_is_private(self, name: str) -> None:
        record_type = CATALOG[name]
        selected = {field.key for field in record_type.fields if field.expression is None}
        assert not selected & FAILING
        assert not selected & FAILING_IN.get(record_type.source.from_, set())
        assert not [column for column in selected if PRIVATE.search(column)]

    def test_waits_for_what_it_refers_to(self, name: str) -> None:
        for field in CATALOG[name].fields:
            if field.references and field.references != name:
                assert field.references in CATALOG[name].upstream, field.name

    def test_names_references_as_such(self, name: str) -> None:
        for field in CATALOG[name].fields:
            assert (field.type == "reference") == field.name.endswith("_id") or field.name in (
                *("entity_id", "item_id", "tran_id", "line_id"),
            ), field.name


def test_sales_orders_come_after_everything_they_need() -> None:
    chain = ["currency", "subsidiary", "location", "employee", "customer", "opportunity", "sales_order"]
    level = levels(CATALOG)
    assert sorted(chain, key=level.__getitem__) == chain
    assert set(closure(CATALOG, ["sales_order"])) == {*chain, "price_level", "department", "classification"}


def test_transaction_lines_come_last() -> None:
    assert "transaction_line" in generations(CATALOG)[-1]
    assert CATALOG["transaction_line"].derived_from == ("sales_order", "invoice", "item_fulfillment")
    assert CATALOG["transaction_line"].source.key == "uniquekey"


def test_lines_find_items_of_every_kind_in_one_table() -> None:
    item = next(field for field in CATALOG["transaction_line"].fields if field.name == "item_id")
    assert item.references == "item"
    assert CATALOG["item"].source.where is None
    kinds = [name for name in EXPECTED if name.endswith("_item")]
    conditions = {CATALOG[name].source.where for name in kinds}
    assert len(kinds) == len(conditions) == 8


def test_wide_types_are_wide() -> None:
    for name in ("customer", "sales_order", "invoice", "opportunity", "transaction_line", "project"):
        assert len(CATALOG[name].fields) >= 30
