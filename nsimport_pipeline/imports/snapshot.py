"""All there is to know about one open import, as decisions and explanations need it.

Belongs here: the values, and what can be read off them alone. Does not belong here: reading them (``settle.py``) or
deciding (``decide.py``).
"""

from dataclasses import dataclass, field
from datetime import timedelta

from nsimport_pipeline.imports.records import Batch, ImportJob, RunView, TypePlan, Wave
from nsimport_pipeline.netsuite.circuit import Circuit
from nsimport_pipeline.retry_settings import Retries
from nsimport_pipeline.settings import Tenant


@dataclass(frozen=True, slots=True)
class Rules:
    """The tenant's settings that decisions follow."""

    slots: int = 1
    retries: Retries = field(default_factory=lambda: Retries.model_validate({}))
    wave_timeout: timedelta = timedelta(minutes=30)

    @classmethod
    def of(cls, tenant: Tenant) -> "Rules":
        return cls(tenant.slots, tenant.retries, timedelta(seconds=tenant.wave_timeout))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All there is to know about one open import."""

    job: ImportJob
    types: tuple[TypePlan, ...]
    waves: tuple[Wave, ...]
    batches: tuple[Batch, ...]
    runs: tuple[RunView, ...] | None
    """Its Dagster runs; None where they are not known: then nothing that depends on them is decided."""
    rules: Rules = field(default_factory=Rules)
    circuit: Circuit = field(default_factory=Circuit)
    planner_gone: bool = False
    """The process that planned it had ended before all this was read."""

    @property
    def plannable(self) -> list[TypePlan]:
        """Derived record types whose parents are in, so that they can be planned."""
        waiting = [plan for plan in self.types if plan.to_plan]
        lowest = min([b.level for b in self.batches if not b.terminal] + [plan.level for plan in waiting], default=0)
        return [plan for plan in waiting if plan.level <= lowest]
