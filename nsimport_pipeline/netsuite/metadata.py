"""NetSuite's metadata catalogue: which properties a record of this account has.

Belongs here: reading the JSON schema of one record over the client, and what its properties are. Does not belong here:
HTTP itself (``client.py``), or what becomes of the properties (``record_types/scaffold.py``).
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote

import orjson

from nsimport_pipeline.errors import AccessDenied, ConfigurationError, IncompleteResponse, PermanentError
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.record_types.scaffold import Property, PropertyKind

PATH = "/services/rest/record/v1/metadata-catalog"
SCHEMA = "application/schema+json"

_FORMATS: Mapping[tuple[str, str], PropertyKind] = {
    ("string", "date"): "date",
    ("string", "date-time"): "datetime",
    ("number", "percent"): "percent",
}
_TYPES: Mapping[str, PropertyKind] = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}


def record_properties(client: NetSuiteClient, name: str) -> list[Property]:
    """The scalar properties of the record that the catalogue calls ``name``, in its order; sublists are left out.

    Raises ConfigurationError that names near records if there is none, or an ImportFailure (see ``errors.py``).
    """
    try:
        schema = _document(client, f"{PATH}/{quote(name)}", SCHEMA)
    except AccessDenied:
        raise
    except PermanentError as error:
        known = {other.lower(): other for other in record_names(client)}
        like = [other for other in known if name.lower() in other] + get_close_matches(name.lower(), known, cutoff=0.5)
        near = [known[other] for other in dict.fromkeys(like)][:5]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ConfigurationError(
            f"NetSuite's metadata catalogue has no record {name!r} for this role{hint}. "
            f"Give the name it has there with --from, or write the file without --tenant ({error})"
        ) from None
    found = schema.get("properties")
    if not isinstance(found, dict):
        raise IncompleteResponse(f"NetSuite's metadata of {name!r} has no properties")
    described = (_property(key, body) for key, body in found.items() if isinstance(body, dict))
    return [item for item in described if item is not None]


def record_names(client: NetSuiteClient) -> list[str]:
    """The records that the catalogue has."""
    items = _document(client, PATH, "application/json").get("items")
    entries = items if isinstance(items, list) else []
    return [str(entry["name"]) for entry in entries if isinstance(entry, dict) and entry.get("name")]


def _document(client: NetSuiteClient, path: str, kind: str) -> dict[str, Any]:
    try:
        document = orjson.loads(client.read(path, accept=kind))
    except ValueError:
        raise IncompleteResponse("NetSuite's metadata catalogue did not answer with JSON") from None
    if not isinstance(document, dict):
        raise IncompleteResponse("NetSuite's metadata catalogue did not answer with an object")
    return document


def _property(name: str, body: Mapping[str, Any]) -> Property | None:
    """One property; None for a sublist, a subrecord, links and what else is no single value."""
    title, length = str(body.get("title") or ""), body.get("maxLength")
    kind = str(body.get("type") or "")
    if kind in _TYPES:
        chosen = _FORMATS.get((kind, str(body.get("format") or "")), _TYPES[kind])
        return Property(name, chosen, title, length=length if isinstance(length, int) and length > 0 else None)
    inner = body.get("properties")
    target = _target(body)
    if not (isinstance(inner, dict) and "id" in inner) and target is None:
        return None
    choices = inner["id"].get("enum") if isinstance(inner, dict) and isinstance(inner.get("id"), dict) else None
    if isinstance(choices, list) and not all(str(choice).lstrip("-").isdigit() for choice in choices):
        return Property(name, "choice", title)
    return Property(name, "reference", title, target)


def _target(body: Mapping[str, Any]) -> str | None:
    """The record that a property's ``$ref`` names; a sublist's has a hyphen, and ``nsLink`` can be anything."""
    name = str(body.get("$ref") or "").rpartition("/")[2]
    return name if name and "-" not in name and not name.startswith("ns") else None
