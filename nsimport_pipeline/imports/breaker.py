"""The circuit of a tenant as its processes share it: one row in its own database, changed by compare-and-set.

Belongs here: reading the row, waiting, sending the probe, noting outcomes, telling of it in the journal. Does not
belong here: when a circuit opens or closes (``netsuite/circuit.py``).

A database that is gone for a moment holds nobody back: the circuit is then taken to be as it was last seen.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import random as uniform

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.errors import ApiUnavailable, ImportFailure, IncompleteResponse, NotAnswering, TimedOut
from nsimport_pipeline.imports import store
from nsimport_pipeline.netsuite.circuit import (
    Circuit,
    after_answer,
    after_failed_probe,
    after_failed_request,
    probing,
    verdict,
)
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import read_only

FRESH_SECONDS = 0.5
"""How long a closed circuit is taken to be closed without a look."""
LOOK_SECONDS = 1.0
"""How often one who waits looks again at most."""

OUTAGE_LOOK_SECONDS = 2.0
"""How often one who waits for NetSuite to come back looks whether somebody else has seen it."""

Step = Callable[[Circuit, datetime], Circuit]


class TenantCircuit:
    """A ``netsuite.circuit.Breaker``. While one sends the first probe, others wait; once that has failed, all are told.

    Until then it may be the request's own statement that makes NetSuite fail, and not an outage.
    """

    def __init__(
        self,
        engine: Engine,
        tenant: Tenant,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        timer: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = uniform,
    ) -> None:
        self._engine = engine
        self._tenant = tenant.name
        self._rules = tenant.circuit
        self._sleep = sleep
        self._now = now
        self._timer = timer
        self._random = random
        self._lock = threading.Lock()
        self._seen = Circuit()
        self._seen_at = float("-inf")

    @property
    def open(self) -> bool:
        """Whether NetSuite was known to be down when somebody of this process last looked."""
        return self._seen.confirmed

    def before(self, probe: Callable[[], object]) -> float:
        waited = 0.0
        while True:
            circuit = self._look()
            match verdict(circuit, self._now()):
                case "go":
                    return waited
                case "probe":
                    self._probe(circuit, probe)
                    continue
            left = self._seconds_left(circuit)
            if circuit.confirmed:
                failure = NotAnswering(f"{circuit}: no request is sent until then")
                failure.retry_after = left
                raise failure
            pause = min(LOOK_SECONDS, left)
            self._sleep(pause)
            waited += pause

    def await_answer(self, probe: Callable[[], object]) -> None:
        """Wait until NetSuite answers again. What ``sleep`` raises goes through to the caller."""
        while True:
            try:
                self.before(probe)
                return
            except NotAnswering as closed:
                self._sleep(min(OUTAGE_LOOK_SECONDS, closed.retry_after or OUTAGE_LOOK_SECONDS))

    def ask_now(self, probe: Callable[[], object]) -> Circuit:
        """Send the probe of an open circuit without waiting until it is due. Returns how the circuit is then."""
        circuit = self._look()
        if not circuit.closed:
            self._probe(circuit, probe)
        return self._look()

    def after(self, failure: ImportFailure | None) -> bool:
        if isinstance(failure, TimedOut | IncompleteResponse):
            return not self._seen.closed
        if isinstance(failure, ApiUnavailable):
            seen = self._change(lambda circuit, now: after_failed_request(circuit, now, self._rules))
        elif self._seen.closed and not self._seen.failures:
            return False
        else:
            seen = self._change(after_answer)
        return not seen.closed

    def _probe(self, circuit: Circuit, probe: Callable[[], object]) -> None:
        won = self._set(circuit, probing(circuit, self._now()))
        if not won:
            return
        try:
            probe()
        except (ApiUnavailable, TimedOut):
            chance = self._random()
            self._change(lambda seen, now: after_failed_probe(seen, now, self._rules, chance))
        except ImportFailure:
            self._change(after_answer)  # whoever refuses is there
        else:
            self._change(after_answer)

    def _seconds_left(self, circuit: Circuit) -> float:
        due = circuit.next_probe_at
        return max(0.05, (due - self._now()).total_seconds()) if due is not None else 0.05

    def _look(self) -> Circuit:
        with self._lock:
            if self._seen.closed and self._timer() - self._seen_at < FRESH_SECONDS:
                return self._seen
        try:
            with read_only(self._engine).connect() as connection:
                return self._saw(store.circuit_of(connection, self._tenant))
        except SQLAlchemyError:
            return self._saw(self._seen)

    def _saw(self, circuit: Circuit) -> Circuit:
        with self._lock:
            self._seen, self._seen_at = circuit, self._timer()
        return circuit

    def _change(self, step: Step) -> Circuit:
        """Take a step from wherever the circuit is by now."""
        while True:
            try:
                with read_only(self._engine).connect() as connection:
                    current = store.circuit_of(connection, self._tenant)
            except SQLAlchemyError:
                return self._seen
            changed = step(current, self._now())
            if changed == current or self._set(current, changed):
                return self._saw(changed)

    def _set(self, current: Circuit, changed: Circuit) -> bool:
        """Compare and set. True too if the database is not there: what was seen last then counts."""
        now = self._now()
        try:
            with self._engine.begin() as connection:
                if not store.set_circuit(connection, self._tenant, current, changed):
                    return False
                if changed.confirmed != current.confirmed:
                    event = "circuit_opened" if changed.confirmed else "circuit_closed"
                    for job in store.open_jobs(connection):
                        store.record_event(connection, job.import_id, event, now, message=f"{changed}")
        except SQLAlchemyError:
            return True
        self._saw(changed)
        return True
