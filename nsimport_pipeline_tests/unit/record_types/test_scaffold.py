"""A scaffold is always a criteria file that loads, and guesses what a person would have written."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsimport_pipeline.record_types.criteria import checked_catalog, load_catalog, parse_criteria
from nsimport_pipeline.record_types.scaffold import (
    ITEM_TYPES,
    TRANSACTION_TYPES,
    Property,
    PropertyKind,
    criteria_document,
    criteria_text,
    metadata_name,
    plural,
    skeleton,
    source_of,
    without_column,
)

CATALOG = load_catalog()
MACHINE = source_of("machine", "customrecord_machine")


def fields(*properties: Property, name: str = "machine", source: Any = MACHINE) -> list[dict[str, Any]]:
    found = criteria_document(name, source, properties, CATALOG)["fields"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Property("isInactive", "boolean", "Inactive"), {"name": "is_inactive", "type": "boolean"}),
        (Property("lastModifiedDate", "datetime"), {"name": "last_modified_at", "type": "datetime"}),
        (Property("tranDate", "date"), {"name": "tran_date", "source": "trandate", "type": "date"}),
        (Property("creditLimit", "number"), {"name": "credit_limit", "type": "money"}),
        (Property("discountPct", "number"), {"name": "discount_pct", "type": "percent"}),
        (Property("probability", "percent"), {"name": "probability", "type": "percent"}),
        (Property("exchangeRate", "number"), {"type": "decimal", "precision": 38, "scale": 18}),
        (Property("entityId", "string"), {"name": "entity_id", "type": "string", "length": 255}),
        (Property("memo", "string", length=4000), {"name": "memo", "type": "string", "length": 4000}),
        (Property("comments", "string"), {"name": "comments", "type": "text"}),
        (Property("status", "choice"), {"type": "string", "display": True}),
        (Property("salesRep", "reference", target="employee"), {"name": "sales_rep_id", "references": "employee"}),
        (Property("soldBy", "reference", target="salesOrder"), {"name": "sold_by_id", "references": "sales_order"}),
        (Property("project", "reference", target="job"), {"name": "project_id", "references": "project"}),
        (Property("class", "reference"), {"name": "classification_id", "references": "classification"}),
        (Property("parent", "reference"), {"name": "parent_id", "references": "machine"}),
        (Property("terms", "reference", target="term"), {"name": "terms_id", "display": True}),
        (Property("custrecord_machine_serial", "string"), {"name": "serial", "source": "custrecord_machine_serial"}),
        (Property("custrecord7", "integer"), {"name": "field_7", "source": "custrecord7"}),
        (Property("raw", "string"), {"name": "raw_value", "source": "raw"}),
    ],
)
def test_a_property_becomes_the_field_a_person_would_write(item: Property, expected: dict[str, Any]) -> None:
    (field,) = fields(item)
    assert field | expected == field


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (Property("isInactive", "boolean", "Inactive"), "Inactive."),
        (Property("lastModifiedDate", "datetime", "LastModifiedDate"), "Last modified date."),
        (Property("custrecord_machine_serial", "string"), "Serial."),
    ],
)
def test_descriptions_come_from_titles(item: Property, sentence: str) -> None:
    assert fields(item)[0]["description"] == sentence


def test_key_last_change_external_id_and_dependencies_are_found() -> None:
    properties = [
        Property("id", "string"),
        Property("externalId", "string"),
        Property("lastModified", "datetime"),
        Property("owner", "reference", target="employee"),
        Property("replaces", "reference", target="customrecord_machine"),
    ]
    document = criteria_document("machine", MACHINE, properties, CATALOG)
    assert document["source"] == {
        "key": "id",
        "from": "customrecord_machine",
        "last_modified": "lastmodified",
        "external_id": "externalid",
    }
    assert document["dependencies"] == ["employee"]
    assert [field["name"] for field in document["fields"]] == ["last_modified_at", "owner_id", "replaces_id"]


def test_a_type_that_others_wait_for_does_not_wait_for_them() -> None:
    properties = [Property("lastOrder", "reference", target="salesOrder"), Property("currency", "reference")]
    document = criteria_document("customer", source_of("customer"), properties, CATALOG)
    assert document["dependencies"] == ["currency"]
    checked_catalog({**CATALOG, "customer": parse_criteria(document, "it")}, dict.fromkeys(CATALOG, "it"))


def test_a_column_that_suiteql_lacks_goes_with_all_that_needs_it() -> None:
    properties = [Property("lastModified", "datetime"), Property("owner", "reference", target="employee")]
    document = criteria_document("machine", MACHINE, properties, CATALOG)

    less = without_column(document, "owner")
    assert less is not None
    assert ([field["name"] for field in less["fields"]], less["dependencies"]) == (["last_modified_at"], [])
    less = without_column(less, "lastmodified")
    assert less is not None
    assert (less["fields"], "last_modified" in less["source"]) == ([], False)
    assert without_column(document, "id") is None
    assert without_column(document, "nothing") is None


@pytest.mark.parametrize("known", [TRANSACTION_TYPES, ITEM_TYPES])
def test_what_shares_a_table_agrees_with_the_built_in_record_types(known: dict[str, str]) -> None:
    both = set(known) & set(CATALOG)
    assert len(both) >= 4
    for name in both:
        assert {"from": CATALOG[name].source.from_, "where": CATALOG[name].source.where} == source_of(name)


def test_names() -> None:
    names = ["machine", "category", "box", "customrecord_day", "classification"]
    assert [plural(name) for name in names] == ["machines", "categories", "boxes", "days", "classifications"]
    assert metadata_name("purchase_order") == "purchaseOrder"
    assert metadata_name("customrecord_a_b") == "customrecord_a_b"
    assert source_of("price_book") == {"from": "pricebook"}


def test_a_skeleton_loads() -> None:
    made = parse_criteria(skeleton("machine", MACHINE), "it")
    checked_catalog({**CATALOG, made.name: made}, {made.name: "it"})
    assert all(len(field.description) > 10 for field in made.fields)


properties = st.builds(
    Property,
    name=st.one_of(
        st.from_regex(r"[a-z][a-zA-Z0-9_]{0,40}", fullmatch=True),
        st.sampled_from(["custrecord_machine_x", "custrecord_x", "raw", "refid", "id", "created", "createdDate"]),
    ),
    kind=st.sampled_from(PropertyKind.__args__),
    title=st.text(max_size=20),
    target=st.none() | st.sampled_from(["employee", "salesOrder", "customrecord_machine", "nobody"]),
    length=st.none() | st.integers(1, 10**6),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(properties, max_size=12, unique_by=lambda item: item.name.lower()))
def test_whatever_netsuite_says_the_file_loads(found: list[Property]) -> None:
    document = json.loads(criteria_text(criteria_document("machine", MACHINE, found, CATALOG)))
    made = parse_criteria(document, "it")
    checked_catalog({**CATALOG, made.name: made}, {made.name: "it"})
    columns = {item.name.lower() for item in found} - {made.source.key, "externalid"}
    assert {field.key for field in made.fields} == columns
