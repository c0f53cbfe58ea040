"""Asset checks: their specs, taking them at the end of a record type or by themselves, and showing them in Dagster.

Belongs here: the Dagster side of checks, and asking NetSuite for the final count. Does not belong here: what a check
looks at and when it passes (``imports/finish.py``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.defs import names, resources
from nsimport_pipeline.errors import ImportFailure, NotAnswering, RefusedError
from nsimport_pipeline.imports import store
from nsimport_pipeline.imports.finish import (
    CHECKS,
    COMPLETE,
    REFERENCES,
    check_names,
    take_checks,
    take_checks_of_changes,
)
from nsimport_pipeline.imports.records import Check, ImportJob, TypePlan
from nsimport_pipeline.imports.states import OPEN_IMPORTS
from nsimport_pipeline.imports.wanted import Interrupted
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.record_types.criteria import RecordType
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import patient, read_only
from nsimport_pipeline.warehouse.errors import classify
from nsimport_pipeline.warehouse.migrate import ensure_control_tables


def check_specs(record_type: RecordType, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(name, asset=key, description=CHECKS[name]) for name in check_names(record_type)]


@dataclass
class TypeChecks:
    """The checks of the record type that a run works on."""

    context: dg.AssetExecutionContext
    tenant: Tenant
    record_type: RecordType
    engine: Engine
    source_count: int | None = None

    def count_source(
        self, job: ImportJob, client: NetSuiteClient, wait: Callable[[], None], besides: Sequence[str] = ()
    ) -> None:
        """Ask NetSuite for the record type's count, if only the partitions ``besides`` are unfinished.

        ``wait`` returns when NetSuite answers; False if nobody wants to know any more. An outage that breaks the
        question off is sat out, so that it costs no batch an attempt.
        """
        if job.origin == "manual" or self._plan(job).changed_since is not None:
            return
        with read_only(self.engine).connect() as connection:
            if store.unfinished_batches(connection, job.import_id, self.record_type.name, besides):
                return
        try:
            while self.source_count is None:
                wait()
                with suppress(NotAnswering):
                    self.source_count = client.count(self.record_type, None, self._plan(job).upper_bound).n
        except (ImportFailure, Interrupted) as error:
            self.context.log.warning(f"the final count could not be taken: {error}")

    def at_the_end(
        self, job: ImportJob, client: NetSuiteClient, wait: Callable[[], None]
    ) -> Iterator[dg.AssetCheckResult]:
        """Take and keep the checks, if the record type's last batch is settled and nobody has yet."""
        if job.origin == "manual":
            return
        with read_only(self.engine).connect() as connection:
            left = store.unfinished_batches(connection, job.import_id, self.record_type.name)
            wanted = store.is_active(connection, job.import_id)
        if left or not wanted or self._plan(job).in_sync is not None:
            return
        if self.source_count is None:
            # Two runs that end together each take the other for unfinished.
            self.count_source(job, client, wait)
        try:
            yield from self._take(job, keep=True)
        except SQLAlchemyError as error:
            self.context.log.warning(f"the checks could not be taken: {classify(error)}")

    def alone(self) -> Iterator[dg.AssetCheckResult]:
        """Take the selected checks again, as of the latest import. Raises RefusedError if there is none, or it is open.

        What the import recorded about itself stays as it is.
        """
        ensure_control_tables(self.engine)
        with read_only(self.engine).connect() as connection:
            job = store.latest_import_of(connection, self.record_type.name)
        if job is None:
            raise RefusedError("there is nothing to check yet: import it first")
        if job.state in OPEN_IMPORTS:
            raise RefusedError(f"{job.import_id} is importing it and takes the checks when its last batch is settled")
        if unavailable := self._plan(job).unavailable:
            raise RefusedError(f"there is nothing to check: {unavailable}")
        if any(key.name == COMPLETE for key in self.context.selected_asset_check_keys):
            self.record_type, _ = resources.of_parents(self.tenant, self.record_type, self._plan(job))
            with NetSuiteClient(self.tenant) as client:
                self.source_count = client.count(self.record_type, None, self._plan(job).upper_bound).n
        yield from self._take(job, keep=False)

    def _take(self, job: ImportJob, *, keep: bool) -> Iterator[dg.AssetCheckResult]:
        if keep and self._plan(job).changed_since is not None:
            yield from self._take_of_changes(job)
            return
        with patient(self.engine) as engine:
            count, checks = take_checks(
                engine,
                job.import_id,
                self.record_type,
                resources.catalog(),
                source=self.source_count,
                rejected_share=self.tenant.rejected_share,
            )
        if keep:
            with self.engine.begin() as connection:
                store.record_checks(
                    connection,
                    job.import_id,
                    self.record_type.name,
                    checks,
                    source_count=count.source if count else None,
                    table_count=count.table if count else None,
                    in_sync=count.in_sync if count else None,
                    now=datetime.now(UTC),
                )
        yield from self._selected(checks)

    def _take_of_changes(self, job: ImportJob) -> Iterator[dg.AssetCheckResult]:
        name = self.record_type.name
        with patient(self.engine) as engine:
            share = self.tenant.rejected_share
            checks = take_checks_of_changes(engine, job.import_id, self.record_type, rejected_share=share)
        with self.engine.begin() as connection:
            store.record_checks(
                connection, job.import_id, name, checks, source_count=None, table_count=None, in_sync=True,
                now=datetime.now(UTC),
            )  # fmt: skip
        yield from self._selected(checks)

    def _selected(self, checks: Sequence[Check]) -> Iterator[dg.AssetCheckResult]:
        """Those that the run was started with."""
        selected = {key.name for key in self.context.selected_asset_check_keys}
        key = names.asset_key(self.tenant.name, self.record_type.name)
        yield from (result(check, key) for check in checks if check.name in selected)

    def _plan(self, job: ImportJob) -> TypePlan:
        with read_only(self.engine).connect() as connection:
            plans = store.type_plans(connection, job.import_id)
        return next(plan for plan in plans if plan.record_type == self.record_type.name)


def result(check: Check, key: dg.AssetKey) -> dg.AssetCheckResult:
    """A check as Dagster shows it; broken references warn, because NetSuite itself may have them."""
    severity = dg.AssetCheckSeverity.WARN if check.name == REFERENCES else dg.AssetCheckSeverity.ERROR
    metadata: Mapping[str, Any] = _references(check) if check.name == REFERENCES else check.facts
    return dg.AssetCheckResult(
        passed=check.passed,
        asset_key=key,
        check_name=check.name,
        severity=severity,
        description=check.detail,
        metadata=metadata,
    )


def _references(check: Check) -> dict[str, dg.TableMetadataValue]:
    rows = [
        dg.TableRecord(
            {
                "column": column,
                "references": fact.get("references", ""),
                "orphans": fact.get("orphans", fact.get("skipped")),
                "sample": ", ".join(f"{one['refid']} → {one['refers_to']}" for one in fact.get("sample", ())),
            }
        )
        for column, fact in check.facts.items()
    ]
    return {"references": dg.TableMetadataValue(rows, _SCHEMA)}


_SCHEMA = dg.TableSchema([dg.TableColumn(name) for name in ("column", "references", "orphans", "sample")])
