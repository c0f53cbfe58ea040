"""The dependency graph of record types: closure, topological generations, and what can be wrong with it.

Belongs here: pure functions over the catalogue. Does not belong here: anything about waves or runs.
A record type's *level* is its topological generation: 0 for one that depends on nothing. Derived record types come
after all others, as they are planned from what is in the database then.
"""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.record_types.criteria import Catalog, RecordType


def closure(catalog: Catalog, names: Iterable[str]) -> list[str]:
    """``names`` and everything they depend on, directly or not, in name order.

    Raises ConfigurationError for an unknown record type.
    """
    found: set[str] = set()
    waiting = [catalog.require(name).name for name in names]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(catalog[name].upstream)
    return sorted(found)


def generations(catalog: Mapping[str, RecordType], names: Iterable[str] | None = None) -> list[list[str]]:
    """Topological generations of ``names`` (default: all), lowest first, each in name order.

    Only edges inside ``names`` count, so a request without dependencies is one generation.
    """
    chosen = set(catalog if names is None else names)
    plain = {name for name in chosen if not catalog[name].derived_from}
    sorter = TopologicalSorter(
        {name: (set(catalog[name].upstream) & chosen) | (set() if name in plain else plain) for name in chosen}
    )
    sorter.prepare()
    result: list[list[str]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        result.append(ready)
        sorter.done(*ready)
    return result


def levels(catalog: Mapping[str, RecordType], names: Iterable[str] | None = None) -> dict[str, int]:
    """The level of each of ``names`` (default: all) within ``names``."""
    return {name: level for level, group in enumerate(generations(catalog, names)) for name in group}


def dependents(catalog: Mapping[str, RecordType], name: str) -> set[str]:
    """Every record type that depends on ``name``, directly or not."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        for other in catalog.values():
            if current in other.upstream and other.name not in found:
                found.add(other.name)
                waiting.append(other.name)
    return found


def check_graph(record_types: Mapping[str, RecordType], files: Mapping[str, Path | str]) -> None:
    """Check record types against each other.

    Raises ConfigurationError naming file and key for an unknown reference, a duplicate table, a cycle, or a record
    type that depends on a derived one without being derived.
    """
    tables: dict[str, str] = {}
    for name, record_type in sorted(record_types.items()):
        named = [("dependencies", other) for other in record_type.dependencies]
        named += [("derived_from", other) for other in record_type.derived_from]
        named += [(f"fields.{f.name}.references", f.references) for f in record_type.fields if f.references]
        for key, other in named:
            if other not in record_types:
                raise ConfigurationError(f"{files[name]}: {key}: unknown record type {other!r}")
        problem = _misderived(record_type, record_types)
        if problem is not None:
            raise ConfigurationError(f"{files[name]}: {problem}")
        if record_type.table in tables:
            raise ConfigurationError(
                f"{files[name]}: table: duplicate table {record_type.table!r}, "
                f"already used by {tables[record_type.table]}"
            )
        tables[record_type.table] = name
    try:
        generations(record_types)
    except CycleError as error:
        cycle = [str(name) for name in reversed(error.args[1])]
        raise ConfigurationError(f"{files[cycle[0]]}: dependencies: cycle {' -> '.join(cycle)}") from None


def _misderived(record_type: RecordType, record_types: Mapping[str, RecordType]) -> str | None:
    """What is wrong with how a record type is derived from others, or depends on derived ones, after its key."""
    parent = record_type.source.parent
    if not record_type.derived_from:
        late = next((other for other in record_type.dependencies if record_types[other].derived_from), None)
        if late is not None:
            return f"dependencies: {late} is derived, and only another derived record type can wait for it"
        return "source.parent: goes with derived_from, which is empty" if parent else None
    if parent is None:
        return "source.parent: is missing: the column that holds the id of the record it is derived from"
    if record_type.parent_field is None:
        return f"source.parent: no field has {parent} as its source"
    return None
