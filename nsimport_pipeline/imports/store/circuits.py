"""The circuit of a tenant: one row, replaced by compare-and-set."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from nsimport_pipeline.imports.store.rows import aware, naive
from nsimport_pipeline.netsuite.circuit import Circuit, CircuitState
from nsimport_pipeline.warehouse.control import netsuite_circuits

_TIMES = ("opened_at", "next_probe_at", "changed_at")


def circuit_of(connection: Connection, tenant: str) -> Circuit:
    """A tenant's circuit; closed if nothing ever happened."""
    table = netsuite_circuits
    row = connection.execute(select(table).where(table.c.tenant == tenant)).mappings().first()
    if row is None:
        return Circuit()
    times = {name: aware(row[name]) for name in _TIMES}
    return Circuit(CircuitState(row["state"]), row["failures"], row["probes"], **times)


def set_circuit(connection: Connection, tenant: str, current: Circuit, changed: Circuit) -> bool:
    """Replace ``current`` by ``changed``. False if it is not as ``current`` has it any more."""
    table = netsuite_circuits
    same = [table.c[name].is_not_distinct_from(value) for name, value in _row(current).items()]
    taken = connection.execute(update(table).where(table.c.tenant == tenant, *same).values(_row(changed))).rowcount
    if taken or current != Circuit():
        return bool(taken)
    try:
        with connection.begin_nested():
            connection.execute(insert(table).values(tenant=tenant, **_row(changed)))
    except IntegrityError:
        return False
    return True


def _row(circuit: Circuit) -> dict[str, Any]:
    row = asdict(circuit) | {"state": circuit.state.value}
    return row | {name: naive(row[name]) for name in _TIMES}
