"""An installation without processes: the real commands, sensor, runs, databases and simulator, one after the other.

Belongs here: calling ``nsimport`` as it is typed and doing the daemon's work between two commands. Does not belong
here: what is expected (the tests), or the daemon itself (``acceptance/environment.py`` starts the real one).
"""

import contextlib
import io
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
import pytest
import sqlalchemy as sa
import yaml

from nsimport_pipeline.cli import run
from nsimport_pipeline.commands.options import console
from nsimport_pipeline.commands.session import dagster_instance
from nsimport_pipeline.defs import resources
from nsimport_pipeline.defs.assets import record_type_asset
from nsimport_pipeline.defs.wave_sensor import look
from nsimport_pipeline.imports.records import tenant_of
from nsimport_pipeline.record_types.graph import levels
from nsimport_pipeline.simulator.process import SimulatorThread

MOST_TICKS = 60
OVER = ("completed", "completed_with_failures", "failed", "cancelled")


@dataclass
class Said:
    """The exit code of a command, and what it printed."""

    code: int
    text: str
    out: str = ""
    """Without what went to stderr."""

    def command(self, beginning: str) -> list[str]:
        """The command between backticks that begins so: what is to be typed, as arguments."""
        found = [text for text in re.findall(r"`nsimport ([^`]+)`", self.text) if text.startswith(beginning)]
        assert found, f"no `nsimport {beginning}…` in:\n{self.text}"
        return shlex.split(found[0])


@dataclass
class InProcess:
    """Tenants of one simulated account, a DAGSTER_HOME, and no daemon."""

    directory: Path
    simulator: SimulatorThread
    patch: pytest.MonkeyPatch
    tenants: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.patch.setenv("DAGSTER_HOME", str(self.directory / "home"))
        self.patch.setenv("NSIMPORT_TENANTS", str(self.directory / "tenants.yaml"))
        # Not by COLUMNS: the console is made once, by whichever test comes first.
        self.patch.setattr(console, "width", 400)

    def tenant(self, name: str = "acme", **more: Any) -> str:
        """Describe a tenant, or describe it anew; a SQLite warehouse of its own if none is given."""
        body = {
            "account": self.simulator.options.account,
            "base_url": self.simulator.base_url,
            "auth": dict(self.simulator.credentials.oauth2),
            "warehouse_url": f"sqlite:///{self.directory / name}.db",
            "slots": 2,
            "retry_attempts": 0,
            "timezone": self.simulator.options.timezone,
        }
        self.tenants[name] = body | self.tenants.get(name, {}) | more
        document = {"tenants": self.tenants}
        (self.directory / "tenants.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        return name

    def nsimport(self, *arguments: str) -> Said:
        """A command, as it is typed."""
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = run(list(arguments))
        return Said(code, out.getvalue() + errors.getvalue(), out.getvalue())

    def json(self, *arguments: str) -> Any:
        """What a command prints with ``--json``."""
        return orjson.loads(self.nsimport(*arguments, "--json").out)

    def until(self, look: Callable[[], Said], text: str, seconds: float = 60) -> Said:
        """What a command says as soon as ``text`` is in it."""
        deadline = time.monotonic() + seconds
        while text not in (said := look()).text:
            assert time.monotonic() < deadline, said.text
            time.sleep(0.2)
        return said

    def begin(self, *arguments: str, tenant: str = "acme") -> str:
        """``nsimport import``; the import's id."""
        said = self.nsimport("import", *arguments, "--tenant", tenant)
        assert said.code == 0, said.text
        return said.text.splitlines()[0]

    def status(self, import_id: str) -> dict[str, Any]:
        """The status document of an import."""
        document: dict[str, Any] = self.json("status", import_id)
        return document

    def carry_on(self, import_id: str, ticks: int = MOST_TICKS) -> str:
        """What a daemon would do for so many ticks of the sensor, or until the import is over; its state then."""
        tenant = tenant_of(import_id)
        with dagster_instance() as instance:
            for _ in range(ticks):
                for request in look(instance, tenant, ()).requests:
                    self.work(instance, tenant, request)
                state = self.state(import_id)
                if state in OVER:
                    break
        return state

    def work(self, instance: dg.DagsterInstance, tenant: str, request: dg.RunRequest) -> None:
        """A run of Dagster's, in this process."""
        assert request.asset_selection is not None
        owner = resources.settings().tenant(tenant)
        record_type = resources.record_type(owner, request.asset_selection[0].path[1])
        level = levels(resources.catalog())[record_type.name]
        asset = record_type_asset(tenant, record_type, level=level, batches_per_run=10, warehouse="test")
        dg.materialize(
            [asset],
            instance=instance,
            partition_key=request.partition_key,
            tags=request.tags,
            raise_on_error=False,
        )

    @staticmethod
    def now() -> datetime:
        return datetime.now(UTC)

    def state(self, import_id: str) -> str:
        (state,) = self.query(tenant_of(import_id), "SELECT state FROM import_jobs WHERE import_id = :id", id=import_id)
        return str(state["state"])

    def query(self, tenant: str, statement: str, **parameters: Any) -> list[Mapping[str, Any]]:
        """Rows of a tenant's database; a statement that changes it is committed."""
        engine = sa.create_engine(self.tenants[tenant]["warehouse_url"], poolclass=sa.NullPool)
        with engine.begin() as connection:
            result = connection.execute(sa.text(statement), parameters)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []
