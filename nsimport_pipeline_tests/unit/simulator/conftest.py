"""A small account of the tests' own: its criteria, its data, an engine over it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nsimport_pipeline.record_types.criteria import Catalog, parse_criteria
from nsimport_pipeline.simulator.accounts import AccountView
from nsimport_pipeline.simulator.credentials import SimulatorCredentials, ensure_credentials
from nsimport_pipeline.simulator.dataset import Dataset
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.suiteql_engine import Engine

LAST = {"name": "modified_at", "source": "lastmodifieddate", "type": "datetime"}


def criteria(name: str, table: str, fields: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    where = more.pop("where", None)
    source = {"from": table, "where": where, **more.pop("source", {})}
    return {
        "record_type": name,
        "family": "lists",
        "table": f"{name}s",
        "description": "A record type of the tests.",
        "source": source,
        "fields": fields,
        **more,
    }


DOCUMENTS = [
    criteria("subsidiary", "subsidiary", [{"name": "name", "type": "string"}, LAST]),
    criteria(
        "customer",
        "customer",
        [
            {"name": "entity_id", "source": "entityid", "type": "string"},
            {"name": "is_person", "source": "isperson", "type": "boolean"},
            {"name": "credit_limit", "source": "creditlimit", "type": "money"},
            {"name": "parent_id", "source": "parent", "type": "reference", "references": "customer"},
            {"name": "subsidiary_id", "source": "subsidiary", "type": "reference", "references": "subsidiary"},
            {"name": "since", "source": "startdate", "type": "date"},
            LAST,
        ],
    ),
    criteria(
        "sales_order",
        "transaction",
        [
            {"name": "tran_id", "source": "tranid", "type": "string"},
            {"name": "customer_id", "source": "entity", "type": "reference", "references": "customer"},
            {"name": "status", "type": "string", "display": True},
            {"name": "tran_date", "source": "trandate", "type": "date"},
            {"name": "total", "source": "foreigntotal", "type": "money"},
            LAST,
        ],
        where="t.type = 'SalesOrd'",
    ),
    criteria(
        "invoice",
        "transaction",
        [{"name": "status", "type": "string", "display": True}, LAST],
        where="t.type = 'CustInvc' AND t.voided = 'F'",
    ),
    criteria(
        "transaction_line",
        "transactionline",
        [{"name": "transaction_id", "source": "transaction", "type": "reference"}],
        source={"key": "uniquekey", "parent": "transaction"},
        derived_from=["sales_order"],
    ),
    criteria(
        "gadget",
        "customrecord_gadget",
        [
            {"name": "label", "source": "name", "type": "string", "length": 20},
            {"name": "colour", "source": "custrecord_colour", "type": "string", "values": {"Red": "r", "Blue": "b"}},
            {"name": "weight", "source": "custrecord_weight", "type": "decimal", "scale": 3},
            {"name": "settings", "source": "custrecord_settings", "type": "json"},
            {"name": "owner", "source": "custrecord_owner", "type": "reference", "references": "customer"},
        ],
    ),
]
ROWS = {
    "subsidiary": 4,
    "customer": 300,
    "sales_order": 250,
    "invoice": 90,
    "transaction_line": 1000,
    "gadget": 50,
    "deletedrecord": 5,
}


def catalog_of(*documents: dict[str, Any]) -> Catalog:
    return Catalog({d["record_type"]: parse_criteria(d, d["record_type"]) for d in documents})


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return catalog_of(*DOCUMENTS)


@pytest.fixture(scope="session")
def dataset(catalog: Catalog) -> Iterator[Dataset]:
    """Shared by tests that only read."""
    dataset = Dataset(catalog, SimulatorOptions(rows=ROWS))
    yield dataset
    dataset.close()


@pytest.fixture(scope="session")
def engine(dataset: Dataset) -> Engine:
    return Engine(dataset, AccountView(dataset.tables))


@pytest.fixture
def own_dataset(catalog: Catalog) -> Iterator[Dataset]:
    """For tests that change it."""
    dataset = Dataset(catalog, SimulatorOptions(rows=ROWS))
    yield dataset
    dataset.close()


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> SimulatorCredentials:
    directory: Path = tmp_path_factory.mktemp("credentials")
    return ensure_credentials(directory)
