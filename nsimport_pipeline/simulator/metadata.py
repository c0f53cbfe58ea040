"""NetSuite's metadata catalogue, as far as scaffolding a record type needs it.

Belongs here: JSON schemas of the simulated tables. Does not belong here: HTTP.
"""

from typing import Any

from nsimport_pipeline.simulator.tables import Column, Slice, Table, Tables

_WORDS = (
    "account activity actual adjust alt amount ap ar balance bill billing company created credit currency custom date "
    "default department discount display email employee end entity expense external first foreign full home id "
    "inactive is item last legal level limit line location locked main mobile modified name number online order "
    "parent pct period person phone posting price quantity rate ref rep return sales shipping start status subsidiary "
    "symbol terms title total tran transaction type unit unpaid url value"
).split()


def camel_case(name: str) -> str:
    """``lastmodifieddate`` as ``lastModifiedDate``, as far as its words are known."""
    words, rest = [], name
    while rest:
        known = max((w for w in _WORDS if rest.startswith(w)), key=len, default=None)
        if known is None:
            return name
        words.append(known)
        rest = rest[len(known) :]
    return words[0] + "".join(word.capitalize() for word in words[1:])


def find_record(tables: Tables, name: str) -> tuple[Table, Slice | None] | None:
    """The table behind a metadata name: ``salesOrder`` is a record type, ``customer`` a table too."""
    plain = name.lower().replace("_", "")
    for table in tables.values():
        for part in table.slices:
            if part.record_type.replace("_", "") == plain:
                return table, part
    table_found = tables.get(plain) or tables.get(name.lower())
    return (table_found, None) if table_found else None


def schema(table: Table, part: Slice | None, address: str, targets: dict[str, str]) -> dict[str, Any]:
    """The JSON schema of one record. ``targets``: metadata name of each record type."""
    columns = [
        c
        for c in table.columns.values()
        if part is None or c.name in part.columns or not any(c.name in s.columns for s in table.slices)
    ]
    properties = {camel_case(c.name): _property(c, address, targets) for c in columns if c.name != table.key}
    properties = {"id": {"title": "Internal Id", "type": "string"}, **properties}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "x-ns-filterable": ["id", *(camel_case(c.name) for c in columns if c.name != table.key)],
        "properties": properties,
    }


def _property(column: Column, address: str, targets: dict[str, str]) -> dict[str, Any]:
    title = camel_case(column.name)
    body: dict[str, Any] = {"title": title[:1].upper() + title[1:]}
    match column.kind:
        case "reference":
            body |= {
                "type": "object",
                "properties": {
                    "id": {"title": "Internal identifier", "type": "string"},
                    "refName": {"title": "Reference Name", "type": "string"},
                    "externalId": {"title": "External identifier", "type": "string"},
                },
            }
            if column.references in targets:
                body["$ref"] = f"/services/rest/record/v1/metadata-catalog/{targets[column.references]}"
        case "boolean":
            body["type"] = "boolean"
        case "integer":
            body |= {"type": "integer", "format": "int64"}
        case "money" | "decimal":
            body |= {"type": "number", "format": "double"}
        case "percent":
            body |= {"type": "number", "format": "percent"}
        case "date":
            body |= {"type": "string", "format": "date"}
        case "datetime":
            body |= {"type": "string", "format": "date-time"}
        case _:
            body["type"] = "string"
    return {**body, "nullable": True}


def metadata_names(tables: Tables) -> dict[str, str]:
    """Metadata name of each record type: ``sales_order`` is ``salesOrder``; a custom record is called as its table."""
    result = {}
    for table in tables.values():
        custom = table.name.startswith("customrecord")
        if custom:
            result[table.name] = table.name
        for part in table.slices:
            first, *others = part.record_type.split("_")
            result[part.record_type] = table.name if custom else first + "".join(word.capitalize() for word in others)
    return result
