"""Slots: the right to have one request in flight at NetSuite.

Belongs here: the protocol by which code that talks to NetSuite takes and gives back slots. Does not belong here:
where slots are kept (a Dagster pool: ``defs/slots.py``), or how many workers use them (``imports/execute.py``).
"""

from typing import Protocol


class SlotPool(Protocol):
    """A tenant's slots, shared by every process. Thread-safe."""

    def try_claim(self) -> str | None:
        """Take a free slot and return its name, or None if there is none to be had now."""

    def release(self, slot: str) -> None:
        """Give a slot back. Giving back one that is already free does nothing."""

    def contended(self) -> bool:
        """Whether somebody else waits for a slot of this tenant, so that a holder of several should give one back."""
