"""A tenant whose account is simulated, for code that is called without a tenants file.

Belongs here: its settings. Does not belong here: starting the simulator, or a database.
"""

from typing import Any

from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.simulator.process import SimulatorProcess, SimulatorThread


def simulated_tenant(simulator: SimulatorProcess | SimulatorThread, **more: Any) -> Tenant:
    """The tenant ``acme`` of a simulator's account, signed in by tokens; ``more``: other keys of a tenant."""
    document = {
        "name": "acme",
        "account": simulator.options.account,
        "base_url": simulator.base_url,
        "auth": simulator.credentials.tba,
        "warehouse_url": "sqlite://",
    }
    return Tenant.model_validate({**document, **more})
