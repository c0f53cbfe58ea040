"""Rows a second into MariaDB, beside dlt reading the same rows from the same simulator in the same run.

Belongs here: dlt's side of the comparison. dlt runs with its defaults: its REST source, merge with a primary key, its
SQLAlchemy destination. It pages by offset, so it is given no more than the 100,000 rows NetSuite lets anyone read so.
"""

import base64
import os
import tempfile
import time
from pathlib import Path

import dlt
import jwt
import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.rest_api import rest_api_source

from nsimport_pipeline.netsuite.suiteql import page_statement, selected
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline_tests.benchmarks.imports import database, measure_import, simulated

RECORDS = 100_000
QUERY_PATH = "/services/rest/query/v1/suiteql"
TOKEN_PATH = "/services/rest/auth/oauth2/v1/token"


def beside_dlt() -> list[str]:
    """Zero latency, the same 100,000 customers with the same columns, first ours, then dlt's."""
    with tempfile.TemporaryDirectory() as directory, simulated({"customer": RECORDS}, latency=0, slots=5) as simulator:
        with database() as url:
            ours = measure_import(simulator, url, "customer", slots=5, directory=Path(directory))
        with database() as url:
            seconds, rows = load_with_dlt(simulator, url, "customer", Path(directory))
    begun = ours.records / (ours.seconds - ours.first_batch_after)
    whole = ours.records / ours.seconds
    theirs = rows / seconds
    return [
        f"ours: {ours.records:,} rows, {begun:,.0f} rows/s once the run began, {whole:,.0f} with its start",
        f"dlt:  {rows:,} rows, {theirs:,.0f} rows/s",
        f"ratio {begun / theirs:.1f} ({whole / theirs:.1f} with the start of our run)",
        f"ours, a run's peak memory: {ours.peak_megabytes:.0f} MB",
    ]


def load_with_dlt(simulator: SimulatorProcess, url: str, record_type: str, directory: Path) -> tuple[float, int]:
    """Load a record type into the database at ``url`` with dlt. Returns seconds and rows."""
    criteria = load_catalog()[record_type]
    statement = page_statement(criteria, None, None, selected(criteria))
    source = rest_api_source(
        {
            "client": {
                "base_url": simulator.base_url,
                "auth": BearerTokenAuth(token=access_token(simulator)),
                "headers": {"Prefer": "transient"},
                "paginator": {
                    "type": "offset",
                    "limit": 1000,
                    "total_path": "totalResults",
                    "maximum_offset": RECORDS,
                },
            },
            "resources": [
                {
                    "name": record_type,
                    "primary_key": "id",
                    "write_disposition": "merge",
                    "endpoint": {
                        "path": QUERY_PATH,
                        "method": "POST",
                        "json": {"q": statement},
                        "data_selector": "items",
                    },
                }
            ],
        }
    )
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    pipeline = dlt.pipeline(
        "beside",
        destination=dlt.destinations.sqlalchemy(url),
        dataset_name=url.rpartition("/")[2].partition("?")[0],
        pipelines_dir=str(directory / "dlt"),
    )
    started = time.perf_counter()
    pipeline.run(source)
    seconds = time.perf_counter() - started
    with pipeline.sql_client() as client:
        rows = client.execute_sql(f"SELECT COUNT(*) FROM {record_type}")
    return seconds, int(rows[0][0]) if rows else 0


def access_token(simulator: SimulatorProcess) -> str:
    """A token for the simulator, got by hand."""
    auth = simulator.credentials.oauth2
    token_url = f"{simulator.base_url}{TOKEN_PATH}"
    now = int(time.time())
    claims = {
        "iss": auth["client_id"],
        "scope": ["rest_webservices"],
        "aud": token_url,
        "iat": now,
        "exp": now + 300,
        "jti": base64.urlsafe_b64encode(os.urandom(12)).decode(),
    }
    key = Path(auth["private_key_file"]).read_text()
    assertion = jwt.encode(claims, key, algorithm="PS256", headers={"kid": auth["certificate_id"]})
    answer = requests.post(
        token_url,
        data={
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        },
        timeout=30,
    )
    answer.raise_for_status()
    return str(answer.json()["access_token"])
