"""What an imported table must hold, worked out a second time: an independent reader, and field meanings in plain words.

Belongs here: reading the simulated account with our own few lines of HTTP, and the value each column must then have.
Does not belong here: anything from ``nsimport_pipeline.netsuite`` or ``record_types.transform``; agreement with them is
what is being tested.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import requests
from requests_oauthlib import OAuth1

from nsimport_pipeline.record_types.criteria import FieldSpec, RecordType
from nsimport_pipeline.simulator.options import DEFAULT_ACCOUNT
from nsimport_pipeline.simulator.process import SimulatorProcess

Row = dict[str, Any]
_SUITEQL = "/services/rest/query/v1/suiteql"


def oauth1(simulator: SimulatorProcess) -> OAuth1:
    """Token-based authentication by a library."""
    keys = simulator.credentials.tba
    return OAuth1(
        keys["consumer_key"],
        keys["consumer_secret"],
        keys["token_id"],
        keys["token_secret"],
        signature_method="HMAC-SHA256",
        realm=DEFAULT_ACCOUNT,
    )


def read_suiteql(simulator: SimulatorProcess, statement: str) -> Iterator[dict[str, str]]:
    """All rows of a statement, by offset."""
    with requests.Session() as session:
        offset = 0
        while True:
            answer = session.post(
                f"{simulator.base_url}{_SUITEQL}?limit=1000&offset={offset}",
                data=json.dumps({"q": statement}),
                headers={"Prefer": "transient", "Content-Type": "application/json"},
                auth=oauth1(simulator),
                timeout=60,
            )
            answer.raise_for_status()
            page = answer.json()
            yield from page["items"]
            offset += 1000
            if not page["hasMore"]:
                assert offset >= page["totalResults"]
                return


def _read_on(simulator: SimulatorProcess, statement: str) -> Iterator[dict[str, str]]:
    """All rows of a statement by ascending id: NetSuite cuts a result at 100,000, so it is asked on from ``after``."""
    after, most = "-1", 50_000
    while True:
        items = list(islice(read_suiteql(simulator, statement.format(after=after)), most))
        yield from items
        if len(items) < most:
            return
        after = items[-1]["id"]


def expected_rows(simulator: SimulatorProcess, record_type: RecordType) -> dict[int, Row]:
    """The rows that ``record_type``'s table must hold, by id."""
    source = record_type.source
    columns = [f"t.{source.key} AS id"]
    if source.external_id is not None:
        columns.append(f"t.{source.external_id} AS external_id")
    for number, field in enumerate(record_type.fields):
        columns.append(f"{_expression(field)} AS c{number}")
        if field.display:
            columns.append(f"BUILTIN.DF(t.{field.source or field.name}) AS d{number}")
    chosen = f"({source.where}) AND " if source.where else ""
    statement = f"SELECT {', '.join(columns)} FROM {source.from_} t WHERE {chosen}t.{source.key} > {{after}}"
    rows: dict[int, Row] = {}
    for item in _read_on(simulator, f"{statement} ORDER BY t.{source.key} ASC"):
        row: Row = {"refid": int(item["id"]), "external_id": item.get("external_id")}
        for number, field in enumerate(record_type.fields):
            text, shown = item.get(f"c{number}"), item.get(f"d{number}")
            row[field.name] = _value(field, shown if field.display and field.type == "string" else text)
            if field.display and field.type == "reference":
                row[field.name.removesuffix("_id") + "_display"] = shown
        if "person_or_company" in record_type.rules:
            _name(row)
        assert row["refid"] not in rows
        rows[row["refid"]] = row
    return rows


def stored_value(record_type: RecordType, column: str, value: Any) -> Any:
    """A value of the table, as whatever driver gives it, in the terms of ``expected_rows``."""
    field = next((field for field in record_type.fields if field.name == column), None)
    if value is None or field is None:
        return value
    match field.type:
        case "boolean":
            return bool(value)
        case "decimal" | "money" | "percent":
            return Decimal(str(value))
        case "date":
            return date.fromisoformat(value) if isinstance(value, str) else value
        case "datetime":
            return datetime.fromisoformat(value) if isinstance(value, str) else value
        case _:
            return value


def _expression(field: FieldSpec) -> str:
    if field.expression is not None:
        return f"({field.expression})"
    column = f"t.{field.source or field.name}"
    # In the account's own time zone: the way to UTC is ours. A bare date comes in the account's own format.
    return f"TO_CHAR({column}, 'YYYY-MM-DD HH24:MI:SS')" if field.type == "datetime" else column


def _value(field: FieldSpec, text: str | None) -> Any:
    if text is not None and field.values:
        text = {word.lower(): meaning for word, meaning in field.values.items()}.get(text.lower(), text)
    if text is not None and field.normalize:
        text = _normalized(field, text)
    if text is None:
        return field.default
    match field.type:
        case "string" | "text":
            return text
        case "integer":
            return int(text)
        case "reference":
            return int(text) or None
        case "decimal" | "money" | "percent":
            return Decimal(text.removesuffix("%"))
        case "boolean":
            return {"T": True, "F": False}[text]
        case "date":
            return datetime.strptime(text, "%m/%d/%Y").date()
        case "datetime":
            return _utc(datetime.fromisoformat(text))
        case _:
            raise AssertionError(f"no meaning for {field.type}")


class _Either(tuple[datetime, ...]):
    """A local time that happened twice: either moment is right."""

    def __eq__(self, other: object) -> bool:
        return other in tuple(self)

    def __ne__(self, other: object) -> bool:
        return other not in tuple(self)

    __hash__ = tuple.__hash__


def _utc(local: datetime) -> datetime | _Either:
    zone = ZoneInfo("America/Los_Angeles")
    moments = {local.replace(tzinfo=zone, fold=fold).astimezone(UTC).replace(tzinfo=None) for fold in (0, 1)}
    return moments.pop() if len(moments) == 1 else _Either(moments)


def _normalized(field: FieldSpec, text: str) -> str | None:
    match field.normalize:
        case "address":
            lines = re.sub(r"<br\s*/?>|\r\n|\r", "\n", text).split("\n")
            return "\n".join(line.strip() for line in lines if line.strip())
        case "enum":
            return text if text in (field.values or {}).values() else None
        case "invoice_status" if text.endswith("Paid In Full"):
            return "paid"
        case "snake_case" | "sales_order_status" | "opportunity_status" | "invoice_status" | "fulfillment_status":
            words = text.rpartition(":")[2] if field.normalize != "snake_case" else text
            return _snake(words)
        case "project_status":
            return _snake(text.removeprefix("PROJECT-"))
        case name:
            raise AssertionError(f"no meaning for the normalizer {name}")


def _snake(text: str) -> str | None:
    """Words, with their accents and vowel signs, between underscores."""
    kept = (letter if unicodedata.category(letter)[0] in "LNM" else " " for letter in text.casefold())
    return "_".join("".join(kept).split()) or None


def _name(row: Row) -> None:
    """A customer has a name whatever NetSuite left empty (only what the simulated customers need)."""
    full = " ".join(part for part in (row["first_name"], row["last_name"]) if part)
    person = bool(row["is_person"])
    if person and not full:
        row["last_name"] = row["company_name"] or row["alternative_name"] or row["entity_id"]
        full = row["last_name"]
    if not row["company_name"]:
        choices = (full, row["alternative_name"]) if person else (row["alternative_name"], full)
        row["company_name"] = next(filter(None, [*choices, row["entity_id"]]))


def differences(expected: Mapping[int, Row], found: Mapping[int, Row], most: int = 5) -> list[str]:
    """What is missing, too much or of another value, in words; empty if both are the same."""
    said = [f"{refid} is missing" for refid in sorted(expected.keys() - found.keys())]
    said += [f"{refid} is not in NetSuite" for refid in sorted(found.keys() - expected.keys())]
    for refid in sorted(expected.keys() & found.keys()):
        wanted, is_ = expected[refid], found[refid]
        said += [
            f"{refid}.{column}: NetSuite has {wanted[column]!r}, the table {is_.get(column)!r}"
            for column in wanted
            if wanted[column] != is_.get(column) or _kind(wanted[column]) != _kind(is_.get(column))
        ]
    return said[:most]


def _kind(value: Any) -> type:
    """Types that must agree too: True is not 1, a Decimal no float."""
    return datetime if isinstance(value, _Either) else type(value)
