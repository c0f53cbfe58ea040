"""A criteria file that is wrong is refused at load, with the file and the key at fault."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.record_types.criteria import FieldSpec, load_catalog, load_criteria

GOOD: dict[str, Any] = {
    "record_type": "gadget",
    "family": "lists",
    "table": "gadgets",
    "description": "Gadgets.",
    "source": {"from": "customrecord_gadget"},
    "dependencies": ["customer"],
    "fields": [
        {"name": "title", "source": "name", "type": "string"},
        {"name": "customer_id", "source": "custrecord_customer", "type": "reference", "references": "customer"},
    ],
}


def write(directory: Path, name: str, document: Any) -> Path:
    file = directory / name / "criteria.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return file


def with_field(**changes: Any) -> dict[str, Any]:
    return GOOD | {"fields": [{"name": "title", "type": "string"} | changes]}


def test_a_directory_of_ones_own_adds_record_types_and_replaces_built_in_ones(tmp_path: Path) -> None:
    write(tmp_path, "gadget", GOOD)
    write(tmp_path, "currency", GOOD | {"record_type": "currency", "table": "monies", "dependencies": [], "fields": []})
    catalog = load_catalog(tmp_path)
    assert catalog["gadget"].upstream == ("customer",)
    assert catalog["currency"].table == "monies"
    assert len(catalog) == len(load_catalog()) + 1


@pytest.mark.parametrize(
    ("document", "key", "message"),
    [
        (GOOD | {"colour": "red"}, "colour", "Extra inputs"),
        (GOOD | {"source": {"from": "x", "sort": "y"}}, "source.sort", "Extra inputs"),
        (with_field(kind="x"), "fields.0.kind", "Extra inputs"),
        ({k: v for k, v in GOOD.items() if k != "table"}, "table", "required"),
        (GOOD | {"table": "Bad Name"}, "table", "pattern"),
        (with_field(type="varchar"), "fields.0.type", "'string'"),
        (with_field(name="refid"), "fields.0", "'refid' is reserved"),
        (with_field(source="a", expression="b"), "fields.0", "both source and expression"),
        (with_field(nullable=False), "fields.0", "no default"),
        (with_field(references="customer"), "fields.0", "not of type reference"),
        (with_field(type="integer", display=True), "fields.0", "display goes with"),
        (GOOD | {"fields": GOOD["fields"][:1] * 2}, "(top level)", "duplicate column 'title'"),
        (
            GOOD
            | {
                "fields": [
                    {"name": "a_id", "type": "reference", "display": True},
                    {"name": "a_display", "type": "string"},
                ]
            },
            "(top level)",
            "duplicate column 'a_display'",
        ),
        (GOOD | {"dependencies": ["custmer"]}, "dependencies", "unknown record type 'custmer'"),
        (GOOD | {"derived_from": ["nothing"]}, "derived_from", "unknown record type 'nothing'"),
        (GOOD | {"derived_from": ["customer"]}, "source.parent", "is missing"),
        (GOOD | {"source": {"from": "x", "parent": "name"}}, "source.parent", "goes with derived_from"),
        (
            GOOD | {"derived_from": ["customer"], "source": {"from": "x", "parent": "mother"}},
            "source.parent",
            "no field has mother",
        ),
        (GOOD | {"dependencies": ["transaction_line"]}, "dependencies", "transaction_line is derived"),
        (with_field(type="reference", references="nobody"), "fields.title.references", "unknown record type 'nobody'"),
        (GOOD | {"table": "customers"}, "table", "duplicate table 'customers', already used by customer"),
        (with_field(normalize="shout"), "fields.title.normalize", "unknown normalizer 'shout'; known are address, "),
        (with_field(normalize="enum"), "fields.title.values", "needs them"),
        (with_field(type="integer", default="many"), "fields.title.default", "not a number"),
        (with_field(type="date", nullable=False, default=""), "fields.title.default", "no value"),
        (with_field(default="x" * 300), "fields.title.default", "longer than 255"),
        (GOOD | {"rules": ["be_nice"]}, "rules", "unknown rule 'be_nice'; known are person_or_company"),
        (GOOD | {"rules": ["person_or_company"]}, "rules", "needs the fields is_person, company_name"),
        ([], "(top level)", "valid dictionary"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(tmp_path: Path, document: Any, key: str, message: str) -> None:
    file = write(tmp_path, "gadget", document)
    with pytest.raises(ConfigurationError) as caught:
        load_catalog(tmp_path)
    assert str(caught.value).startswith(f"{file}: {key}: ")
    assert message in str(caught.value)


def test_a_cycle_is_named_from_end_to_end(tmp_path: Path) -> None:
    for name, other in (("red", "green"), ("green", "blue"), ("blue", "red")):
        write(tmp_path, name, GOOD | {"record_type": name, "table": f"{name}s", "dependencies": [other], "fields": []})
    with pytest.raises(ConfigurationError) as caught:
        load_catalog(tmp_path)
    message = str(caught.value)
    cycle = message.partition("dependencies: cycle ")[2].split(" -> ")
    follows = {"red": "green", "green": "blue", "blue": "red"}
    assert len(cycle) == 4
    assert all(follows[name] == other for name, other in pairwise(cycle))
    assert message.startswith(f"{tmp_path / cycle[0] / 'criteria.json'}: ")


def test_a_reference_to_itself_is_no_cycle(tmp_path: Path) -> None:
    parent = {"name": "parent_id", "type": "reference", "references": "gadget"}
    write(tmp_path, "gadget", GOOD | {"fields": [parent]})
    assert "gadget" in load_catalog(tmp_path)


def test_a_file_that_is_no_json_names_the_line(tmp_path: Path) -> None:
    file = write(tmp_path, "gadget", '{"record_type": "gadget",\n oops}')
    with pytest.raises(ConfigurationError, match=r"not valid JSON: line 2"):
        load_criteria(file)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "gadget", "{}")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_criteria(file)


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="NSIMPORT_CRITERIA_PATH is not a directory"):
        load_catalog(tmp_path / "nowhere")


def test_an_unknown_record_type_is_answered_with_near_names() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown record type 'sales_ordr': did you mean sales_order"):
        load_catalog().require("sales_ordr")


def test_the_version_follows_the_content(tmp_path: Path) -> None:
    first = load_criteria(write(tmp_path, "gadget", GOOD)).version
    assert load_criteria(write(tmp_path, "gadget", json.dumps(GOOD, indent=4))).version == first
    assert load_criteria(write(tmp_path, "gadget", GOOD | {"description": "More."})).version != first


def test_a_field_stands_in_a_row_under_its_netsuite_name_in_lower_case() -> None:
    assert FieldSpec(name="last_name", source="lastName", type="string").key == "lastname"
    assert FieldSpec(name="total", expression="t.a + t.b", type="money").key == "total"
    shown = FieldSpec(name="terms_id", source="terms", type="reference", display=True)
    assert (shown.display_key, shown.display_column) == ("terms_display", "terms_display")


def test_a_tenants_fields_are_texts_and_what_it_leaves_out_is_named_by_field_or_by_column() -> None:
    customer = load_catalog()["customer"]
    by_field = customer.adapted(["custentity_Region", "custentity_region"], ["email"])
    by_column = customer.adapted(["custentity_region"], [next(f.key for f in customer.fields if f.name == "email")])

    assert [f.name for f in by_field.fields if f.type == "text" and f.name.startswith("cust")][
        -1
    ] == "custentity_region"
    assert "email" not in {f.name for f in by_field.fields}
    assert {f.name for f in by_column.fields} == {f.name for f in by_field.fields}
    assert customer.adapted() is customer
