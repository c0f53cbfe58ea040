"""Every record type of the catalogue through the command line and the real daemon, into MySQL and SQLite, at size.

Belongs here: the whole catalogue at once, every value compared, every check looked at. Does not belong here: speed.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
import yaml

from nsimport_pipeline.record_types.criteria import Catalog, RecordType, load_catalog
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline_tests.acceptance.reference import Row, differences, expected_rows, stored_value
from nsimport_pipeline_tests.benchmarks.imports import database, environment_of


def catalogue(scale: float = 3) -> list[str]:
    """Import all record types of an account of this size twice; says how much was compared.

    Raises RuntimeError if an import does not end as completed, a check is not green, or a value differs.
    """
    catalog = load_catalog()
    with tempfile.TemporaryDirectory() as folder, database() as mysql:
        directory = Path(folder)
        options = SimulatorOptions(credentials=directory / "simulator", scale=scale, slots=5)
        with SimulatorProcess(options) as simulator:
            environment = environment_of(simulator, mysql, slots=5, directory=directory)
            urls = {"demo": mysql, "lite": f"sqlite:///{directory}/lite.db"}
            _add_tenants(Path(environment["NSIMPORT_TENANTS"]), urls)
            said = [_imported(catalog, tenant, environment, directory) for tenant in urls]
            records = 0
            for record_type in catalog.values():
                expected = _expected(simulator, catalog, record_type)
                records += len(expected)
                for tenant, url in urls.items():
                    different = differences(expected, _found(url, record_type))
                    if different:
                        raise RuntimeError(f"{tenant}/{record_type.name}: {len(different)} differ: {different[:3]}")
    return [*said, f"{records:,} records of {len(catalog)} record types: every value is NetSuite's, in both databases"]


def _add_tenants(file: Path, urls: dict[str, str]) -> None:
    document = yaml.safe_load(file.read_text())
    tenant = document["tenants"]["demo"]
    document["tenants"] = {name: {**tenant, "warehouse_url": url} for name, url in urls.items()}
    file.write_text(yaml.safe_dump(document))


def _imported(catalog: Catalog, tenant: str, environment: dict[str, str], directory: Path) -> str:
    """Import everything for a tenant, and look at the state and the checks it ended with."""
    command = [sys.executable, "-m", "nsimport_pipeline"]

    def nsimport(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*command, *arguments], env=environment, cwd=directory, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.returncode}: {done.stdout[-3000:]}{done.stderr[-2000:]}")
        return done

    started = time.perf_counter()
    import_id = nsimport("import", *catalog, "--tenant", tenant, "--wait").stdout.split()[0]
    seconds = time.perf_counter() - started
    status = json.loads(nsimport("status", import_id, "--json").stdout)
    checks = [
        (entry["name"], name, check) for entry in status["record_types"] for name, check in entry["checks"].items()
    ]
    red = [f"{record_type}.{name}: {check['detail']}" for record_type, name, check in checks if not check["passed"]]
    if status["state"] != "completed" or red or {name for name, _, _ in checks} != set(catalog):
        raise RuntimeError(f"{tenant}: {status['state']}, {status['reason']}; not green: {red}")
    return f"{tenant}: completed in {seconds:.0f} s, {len(checks)} checks, all green"


def _expected(simulator: SimulatorProcess, catalog: Catalog, record_type: RecordType) -> dict[int, Row]:
    """What the table must hold; of a derived type, only what belongs to the parents that are imported."""
    rows = expected_rows(simulator, record_type)
    if not record_type.derived_from:
        return rows
    parents = {refid for name in record_type.derived_from for refid in expected_rows(simulator, catalog[name])}
    column = next(f.name for f in record_type.fields if (f.source or f.name) == record_type.source.parent)
    return {refid: row for refid, row in rows.items() if row[column] in parents}


def _found(url: str, record_type: RecordType) -> dict[int, Row]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        stored = connection.execute(sa.text(f"SELECT * FROM {record_type.table} WHERE deleted_at IS NULL")).mappings()
        found = {row["refid"]: {c: stored_value(record_type, c, row[c]) for c in row} for row in stored}
    engine.dispose()
    return found
