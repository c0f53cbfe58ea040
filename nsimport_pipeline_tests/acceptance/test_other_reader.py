"""The simulator read whole by a client nobody here wrote: dlt's REST source. Its copy equals ours.

So the simulator's wire format (envelope, offsets, limits, login) is not just our own idea of it.
"""

import sqlite3
from decimal import Decimal
from typing import Any

import dlt
import pytest
import requests
from dlt.sources.rest_api import rest_api_source

from nsimport_pipeline_tests.acceptance.conftest import Interrupted
from nsimport_pipeline_tests.acceptance.environment import Environment
from nsimport_pipeline_tests.acceptance.reference import oauth1

STATEMENT = (
    "SELECT t.id AS id, t.entityid AS entity_id, t.companyname AS company_name, t.email AS email, "
    "t.creditlimit AS credit_limit, t.isinactive AS is_inactive, "
    "TO_CHAR(t.startdate, 'YYYY-MM-DD') AS started_on FROM customer t ORDER BY t.id ASC"
)


@pytest.fixture(scope="module")
def copied(
    on_sqlite: Environment, tmp_path_factory: pytest.TempPathFactory, customers: Interrupted
) -> list[dict[str, Any]]:
    """All customers, as dlt read them by offset and stored them in SQLite."""
    directory = tmp_path_factory.mktemp("dlt")
    session = requests.Session()
    session.auth = oauth1(on_sqlite.simulator)
    file = directory / "copy.db"
    source = rest_api_source(
        {
            "client": {
                "base_url": f"{on_sqlite.simulator.base_url}/services/rest/query/v1/",
                "headers": {"Prefer": "transient"},
                "session": session,
                "paginator": {
                    "type": "offset",
                    "limit": 1000,
                    "offset_param": "offset",
                    "limit_param": "limit",
                    "total_path": "totalResults",
                },
            },
            "resources": [
                {
                    "name": "customers",
                    "primary_key": "id",
                    "write_disposition": "replace",
                    # Texts as they come: dlt is not to guess that an e-mail address or a name is something else.
                    "columns": {"credit_limit": {"data_type": "text"}, "started_on": {"data_type": "text"}},
                    "endpoint": {
                        "path": "suiteql",
                        "method": "POST",
                        "json": {"q": STATEMENT},
                        "data_selector": "items",
                    },
                }
            ],
        }
    )
    pipeline = dlt.pipeline(
        pipeline_name="other_reader",
        pipelines_dir=str(directory / "pipelines"),
        destination=dlt.destinations.sqlalchemy(f"sqlite:///{file}"),
        dataset_name="main",
    )
    pipeline.run(source)
    with sqlite3.connect(file) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM customers")]


def test_a_client_nobody_here_wrote_reads_every_record_once(
    on_sqlite: Environment, copied: list[dict[str, Any]]
) -> None:
    assert len(copied) == len({row["id"] for row in copied}) == on_sqlite.simulator.record_types()["customer"] == 3300


def test_its_copy_equals_ours(on_sqlite: Environment, copied: list[dict[str, Any]]) -> None:
    theirs = {
        int(row["id"]): (
            row["entity_id"],
            row["email"],
            None if row["credit_limit"] is None else Decimal(row["credit_limit"]),
            row["is_inactive"] == "T",
            row["started_on"],
        )
        for row in copied
    }
    ours = {
        row["refid"]: (
            row["entity_id"],
            row["email"],
            None if row["credit_limit"] is None else Decimal(str(row["credit_limit"])),
            bool(row["is_inactive"]),
            row["started_on"],
        )
        for row in on_sqlite.query("SELECT * FROM customers WHERE deleted_at IS NULL")
    }
    assert theirs == ours


def test_names_of_companies_are_the_same_where_netsuite_has_one(
    on_sqlite: Environment, copied: list[dict[str, Any]]
) -> None:
    ours = {row["refid"]: row["company_name"] for row in on_sqlite.query("SELECT refid, company_name FROM customers")}
    theirs = {int(row["id"]): row["company_name"] for row in copied if row["company_name"] is not None}
    assert len(theirs) > 1000
    assert {refid: ours[refid] for refid in theirs} == theirs
