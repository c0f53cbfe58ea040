"""One account as SuiteQL sees it: the tables, less what its features, role and oddities take away.

Belongs here: what is switched off and the texts NetSuite gives for it. Does not belong here: faults that come and go
with requests (``faults.py``).
"""

from dataclasses import dataclass

from nsimport_pipeline.simulator.suiteql_text import PREFIX, ColumnFailureError, SuiteQLError
from nsimport_pipeline.simulator.tables import Tables


@dataclass(frozen=True)
class Variant:
    """What an account lacks. Tables and columns in lower case; a column is (table, column), ``*`` any table."""

    missing: frozenset[str] = frozenset()
    """Tables whose feature is off: ``Record 'x' was not found.``"""
    denied: frozenset[str] = frozenset()
    """Tables that the role may not see: ``Invalid search type: x.``"""
    unknown: frozenset[tuple[str, str]] = frozenset()
    """Columns that the account does not have."""
    removed: frozenset[tuple[str, str]] = frozenset()
    """Columns that are switched off: ``Reason: REMOVED``."""
    broken: frozenset[tuple[str, str]] = frozenset()
    """Columns that make any statement fail with 500."""


FEATURES: dict[str, Variant] = {
    "oneworld": Variant(
        missing=frozenset({"subsidiary", "customersubsidiaryrelationship", "vendorsubsidiaryrelationship"}),
        unknown=frozenset({("*", "subsidiary")}),
    ),
    "multicurrency": Variant(
        missing=frozenset({"currency"}),
        unknown=frozenset({("*", "currency"), ("*", "fxrate"), ("transaction", "exchangerate")}),
    ),
    "projects": Variant(missing=frozenset({"job", "jobtype"})),
    "locations": Variant(missing=frozenset({"location"}), unknown=frozenset({("*", "location")})),
    "departments": Variant(missing=frozenset({"department"}), unknown=frozenset({("*", "department")})),
    "classes": Variant(missing=frozenset({"classification"}), unknown=frozenset({("*", "class")})),
    "charges": Variant(missing=frozenset({"charge", "chargetype"})),
}
"""What an account is without a feature."""


class AccountView:
    """The tables of a dataset through one variant."""

    def __init__(self, tables: Tables, variant: Variant | None = None) -> None:
        self.tables = tables
        self.variant = variant or Variant()

    def check_table(self, name: str) -> None:
        if name in self.variant.missing:
            raise SuiteQLError.search(f"Record '{name}' was not found.")
        if name in self.variant.denied or name not in self.tables:
            raise SuiteQLError(f"{PREFIX}Invalid search type: {name}.")

    def check_column(self, table: str, column: str, available: str) -> None:
        variant = self.variant
        if (table, column) in variant.unknown or ("*", column) in variant.unknown:
            raise SuiteQLError.search(f"Unknown identifier '{column}'. Available identifiers are: {available}.")
        if (table, column) in variant.removed or ("*", column) in variant.removed:
            raise SuiteQLError.search(
                f"Field '{column}' for record '{table}' was not found. Reason: REMOVED - Field is removed"
            )
        if (table, column) in variant.broken or ("*", column) in variant.broken:
            raise ColumnFailureError(column)
