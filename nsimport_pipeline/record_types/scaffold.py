"""A first ``criteria.json`` for a record type, from what NetSuite's metadata catalogue says about the record.

Belongs here: names, types, references and table guessed from properties; the document and its text. Pure functions.
Does not belong here: asking NetSuite (``netsuite/metadata.py``), files and options (``commands/scaffolding.py``).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nsimport_pipeline.record_types.criteria import RESERVED_COLUMNS, Catalog, FieldType
from nsimport_pipeline.record_types.graph import dependents

PropertyKind = Literal["string", "integer", "number", "percent", "boolean", "date", "datetime", "reference", "choice"]


@dataclass(frozen=True, slots=True)
class Property:
    """One scalar property of a record, as NetSuite's metadata catalogue has it."""

    name: str
    """``lastModifiedDate``, ``custrecord_machine_serial``."""
    kind: PropertyKind
    """``reference`` is an id of another record, ``choice`` a code that is no number."""
    title: str = ""
    target: str | None = None
    """Metadata name of the record that a reference points to, if NetSuite says so."""
    length: int | None = None
    """The most characters, if NetSuite says so."""


TRANSACTION_TYPES: Mapping[str, str] = {
    "cash_refund": "CashRfnd",
    "cash_sale": "CashSale",
    "check": "Check",
    "credit_memo": "CustCred",
    "customer_deposit": "CustDep",
    "customer_payment": "CustPymt",
    "customer_refund": "CustRfnd",
    "deposit": "Deposit",
    "estimate": "Estimate",
    "inventory_adjustment": "InvAdjst",
    "invoice": "CustInvc",
    "item_fulfillment": "ItemShip",
    "item_receipt": "ItemRcpt",
    "journal_entry": "Journal",
    "opportunity": "Opprtnty",
    "purchase_order": "PurchOrd",
    "return_authorization": "RtnAuth",
    "sales_order": "SalesOrd",
    "vendor_bill": "VendBill",
    "vendor_credit": "VendCred",
    "vendor_payment": "VendPymt",
    "work_order": "WorkOrd",
}
"""Records that SuiteQL keeps in ``transaction``, and their ``type`` there."""
ITEM_TYPES: Mapping[str, str] = {
    "assembly_item": "Assembly",
    "discount_item": "Discount",
    "inventory_item": "InvtPart",
    "kit_item": "Kit",
    "markup_item": "Markup",
    "non_inventory_item": "NonInvtPart",
    "other_charge_item": "OthCharge",
    "payment_item": "Payment",
    "service_item": "Service",
    "subtotal_item": "Subtotal",
}
"""Records that SuiteQL keeps in ``item``, and their ``itemtype`` there."""

_KEYS = ("id", "uniquekey", "nkey")
_LAST_MODIFIED = ("lastmodifieddate", "lastmodified")
_COLUMN_NAMES = {
    "lastmodifieddate": "last_modified_at",
    "lastmodified": "last_modified_at",
    "datecreated": "created_at",
    "createddate": "created_at",
    "created": "created_at",
    "isinactive": "is_inactive",
    "class": "classification",
}
_CUSTOM = re.compile(r"cust(?:record|body|col|entity|event|item|itemnumber)_?(?=[a-z0-9])")
_SHORT = re.compile(r"name$|number$|code$|num$|symbol$|email|phone|fax|status|type$|id$", re.IGNORECASE)
_MONEY = re.compile(r"amount|total$|cost$|price$|balance|limit$|revenue|paid$", re.IGNORECASE)
_PERCENT = re.compile(r"percent|pct$", re.IGNORECASE)
_LONGEST_STRING = 4000


def source_of(name: str, table: str | None = None) -> dict[str, Any]:
    """``from`` and, where SuiteQL keeps several records in one table, ``where`` of the record type ``name``."""
    if table is not None and table.lower() not in ("transaction", "item"):
        return {"from": table.lower()}
    if name in TRANSACTION_TYPES:
        return {"from": "transaction", "where": f"t.type = '{TRANSACTION_TYPES[name]}'"}
    if name in ITEM_TYPES:
        return {"from": "item", "where": f"t.itemtype = '{ITEM_TYPES[name]}'"}
    return {"from": name if name.startswith("customrecord") else name.replace("_", "")}


def metadata_name(name: str) -> str:
    """``purchase_order`` as the metadata catalogue calls it, ``purchaseOrder``; a custom record is called the same."""
    if name.startswith("customrecord"):
        return name
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def criteria_document(
    name: str, source: Mapping[str, Any], properties: Iterable[Property], catalog: Catalog
) -> dict[str, Any]:
    """The criteria of ``name``: a field for every property, references and dependencies found in ``catalog``."""
    properties = list(properties)
    columns = {item.name.lower() for item in properties}
    key = next((key for key in _KEYS if key in columns), _KEYS[0])
    targets = _targets(catalog) | {_squeezed(name): name, _squeezed(str(source["from"])): name}
    later = dependents(catalog, name) if name in catalog else set()
    fields: dict[str, dict[str, Any]] = {}
    for item in properties:
        if item.name.lower() not in (key, "externalid"):
            column = _column_name(item, str(source["from"]))
            while column in fields or column in RESERVED_COLUMNS:
                column += "_value"
            fields[column] = {"name": column} | _field(item, column, name, str(source["from"]), targets)
    referenced = {field["references"] for field in fields.values() if "references" in field}
    found = {
        "last_modified": next((column for column in _LAST_MODIFIED if column in columns), None),
        "external_id": "externalid" if "externalid" in columns else None,
    }
    return {
        "record_type": name,
        "family": _family(source, columns),
        "table": plural(name),
        "description": f"{name.replace('_', ' ').capitalize()} records, from NetSuite's table {source['from']}.",
        "source": {"key": key, **source, **{option: column for option, column in found.items() if column}},
        "dependencies": sorted(referenced - later - {name}),
        "fields": list(fields.values()),
    }


def skeleton(name: str, source: Mapping[str, Any]) -> dict[str, Any]:
    """Criteria to be edited, for a record that nobody could be asked about; its descriptions say what to do."""
    return {
        "record_type": name,
        "family": _family(source, set()),
        "table": plural(name),
        "description": "What one record stands for. Check source.from: the table's name in SuiteQL.",
        "source": {"key": "id", **source, "last_modified": "lastmodifieddate", "external_id": "externalid"},
        "dependencies": [],
        "fields": [
            {"name": "name", "type": "string", "description": "An example: source is the NetSuite column if not name."},
            {
                **{"name": "is_inactive", "source": "isinactive", "type": "boolean", "nullable": False},
                **{"default": False, "description": "An example: nullable false needs a default for missing values."},
            },
            {
                **{"name": "last_modified_at", "source": "lastmodifieddate", "type": "datetime"},
                "description": "An example: datetimes are stored in UTC. Add fields below; `nsimport record-types` "
                "NAME shows those of a type like yours.",
            },
        ],
    }


def without_column(document: Mapping[str, Any], column: str) -> dict[str, Any] | None:
    """``document`` less what reads the NetSuite column ``column``; None if nothing does, or if it is the key."""
    source = dict(document["source"])
    if column == source["key"]:
        return None
    kept = [field for field in document["fields"] if field.get("source", field["name"]).lower() != column]
    for option in ("last_modified", "external_id"):
        if source.get(option) == column:
            del source[option]
    if len(kept) == len(document["fields"]) and source == document["source"]:
        return None
    used = {field["references"] for field in kept if "references" in field}
    dependencies = [other for other in document["dependencies"] if other in used]
    return {**document, "source": source, "dependencies": dependencies, "fields": kept}


def criteria_text(document: Mapping[str, Any]) -> str:
    """The file's text, a field a line, as the built-in ones are written."""
    lines = [f"  {json.dumps(key)}: {_compact(value)}" for key, value in document.items() if key != "fields"]
    fields = ",\n".join(f"    {_compact(field)}" for field in document["fields"])
    return "{\n" + ",\n".join([*lines, f'  "fields": [\n{fields}\n  ]']) + "\n}\n"


def plural(name: str) -> str:
    """``shipping_method`` as ``shipping_methods``, ``category`` as ``categories``."""
    name = name.removeprefix("customrecord_")
    if re.search(r"[^aeiou]y$", name):
        return name[:-1] + "ies"
    return name + ("es" if re.search(r"(s|x|z|ch|sh)$", name) else "s")


def _field(item: Property, name: str, own: str, table: str, targets: Mapping[str, str]) -> dict[str, Any]:
    """What the field ``name`` of the record type ``own`` is, beside its name."""
    column = item.name.lower()
    field: dict[str, Any] = {"source": column} if column != name else {}
    field["type"] = _type(item)
    if field["type"] == "string":
        field["length"] = item.length if item.kind == "string" and item.length else 255
    if field["type"] == "decimal":
        field |= {"precision": 38, "scale": 18}
    if item.kind == "choice":
        field["display"] = True
    if item.kind == "reference":
        target = own if column == "parent" else targets.get(_squeezed(item.target or _COLUMN_NAMES.get(column, column)))
        field |= {"references": target} if target else {"display": True}
    field["description"] = _sentence(item, table)
    return field


def _type(item: Property) -> FieldType:
    match item.kind:
        case "reference" | "boolean" | "date" | "datetime" | "integer" | "percent":
            return item.kind
        case "number":
            return "percent" if _PERCENT.search(item.name) else "money" if _MONEY.search(item.name) else "decimal"
        case "choice":
            return "string"
        case "string":
            # A text too long for its column is rejected, so a column is only short where a text surely is.
            short = item.length <= _LONGEST_STRING if item.length else _SHORT.search(item.name)
            return "string" if short else "text"


def _column_name(item: Property, table: str) -> str:
    column = item.name.lower()
    name = _COLUMN_NAMES.get(column) or _snake_case(_without_prefix(item.name, table))
    if item.kind == "reference" and not name.endswith("_id"):
        name = f"{name}_id"
    return name if name[0].isalpha() else f"field_{name}"


def _without_prefix(name: str, table: str) -> str:
    """``custrecord_machine_serial`` of ``customrecord_machine`` as ``serial``."""
    own = _CUSTOM.match(name)
    if own is None:
        return name
    name = name[own.end() :]
    record = table.removeprefix("customrecord").strip("_") + "_"
    return name.removeprefix(record) or name


def _snake_case(name: str) -> str:
    parted = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")[:50] or "field"


def _sentence(item: Property, table: str) -> str:
    """NetSuite's title of the property as a sentence; ``LastModifiedDate`` in words."""
    title = " ".join(item.title.split())
    if not title or title.lower() == item.name.lower():
        title = _snake_case(_without_prefix(item.name, table)).replace("_", " ").capitalize()
    return title if title.endswith(".") else f"{title}."


def _family(source: Mapping[str, Any], columns: set[str]) -> str:
    known = {"transaction": "transactions", "item": "items"}.get(str(source["from"]))
    return known or ("entities" if "entityid" in columns else "lists")


def _targets(catalog: Catalog) -> dict[str, str]:
    """Record types by their names and, where one is a whole table, by the table's, without case and underscores."""
    whole = {_squeezed(r.source.from_): r.name for r in catalog.values() if r.source.where is None}
    return whole | {_squeezed(name): name for name in catalog}


def _squeezed(name: str) -> str:
    return name.lower().replace("_", "")


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
