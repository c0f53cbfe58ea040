"""The installations that acceptance tests share: starting a daemon costs seconds, each of its runs a few more.

Belongs here: what an installation is like. Does not belong here: how it is started (``environment.py``).
"""

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from nsimport_pipeline_tests import mysql_server as private_mysql
from nsimport_pipeline_tests.acceptance.environment import PROJECT, TENANT, Environment

COMPANY = {"*": 15, "employee": 60, "customer": 2600, "opportunity": 1300, "sales_order": 3200}
"""Every dependency of sales orders, three types with more than one batch."""


@pytest.fixture(scope="module")
def on_mysql(mysql_server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Imported tables and Dagster's own storage on one server, signed in with token-based authentication."""
    with (
        private_mysql.fresh_database(mysql_server_url) as warehouse,
        private_mysql.fresh_database(mysql_server_url) as storage,
    ):
        url = sa.make_url(storage)
        variables = {
            "DAGSTER_MYSQL_HOST": str(url.host),
            "DAGSTER_MYSQL_PORT": str(url.port or 3306),
            "DAGSTER_MYSQL_DATABASE": str(url.database),
            "DAGSTER_MYSQL_USER": str(url.username),
            "DAGSTER_MYSQL_PASSWORD": str(url.password or ""),
        }
        with Environment(
            tmp_path_factory.mktemp("on_mysql") / "installation",
            warehouse,
            COMPANY,
            auth="tba",
            latency=0.05,
            tenant={"wave_size": 3},
            dagster_yaml=PROJECT / "deploy" / "mysql" / "dagster.yaml",
            variables=variables,
        ) as environment:
            yield environment


@pytest.fixture(scope="session")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Everything on SQLite, daemon and webserver running. ``solo`` has one slot and gives a batch up at once."""
    directory = tmp_path_factory.mktemp("on_sqlite") / "installation"
    with Environment(
        directory,
        f"sqlite:///{directory}/acme.db",
        {"*": 12, "customer": 3300, "opportunity": 2200, "sales_order": 3000},
        latency=0.05,
        tenant={"wave_size": 2, "record_types": {"sales_order": {"batch_size": 50}}},
        others={
            "solo": {
                "warehouse_url": f"sqlite:///{directory}/solo.db",
                "slots": 1,
                "retry_attempts": 0,
                "wave_size": 300,
                "circuit": {"failures": 100},
            },
            "steered": {
                "warehouse_url": f"sqlite:///{directory}/steered.db",
                "wave_size": 30,
                "record_types": {"customer": {"batch_size": 55}},
            },
            "dormant": {"warehouse_url": f"sqlite:///{directory}/dormant.db", "enabled": False},
        },
    ) as environment:
        environment.start_daemon()
        environment.start_webserver()
        yield environment


@dataclass(frozen=True)
class Interrupted:
    """An import of the customers whose ``--wait`` was ended with Ctrl-C, and which ended by itself."""

    import_id: str
    interrupted: subprocess.CompletedProcess[str]
    asked_again: subprocess.CompletedProcess[str]
    """``nsimport import customer`` while it went on."""
    status: dict[str, Any]


@pytest.fixture(scope="session")
def customers(on_sqlite: Environment) -> Interrupted:
    """The customers are imported and their partitions pinned; also a story of its own."""
    arguments = ("import", "customer", "--no-dependencies", "--tenant", TENANT, "--wait")
    with on_sqlite.start(*arguments) as process:
        assert process.stdout is not None
        import_id = process.stdout.readline().strip()
        line = "-"
        while line and "records/s" not in line:
            line = process.stdout.readline()
        # However fast the machine is, the import lasts until it has been asked for again.
        on_sqlite.simulator.set_faults("slow=4")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    interrupted = subprocess.CompletedProcess(arguments, process.returncode, output, errors)
    asked_again = on_sqlite.nsimport("import", "customer", "--no-dependencies", "--tenant", TENANT)
    on_sqlite.simulator.set_faults("")
    return Interrupted(import_id, interrupted, asked_again, on_sqlite.wait_for_import(import_id))
