"""How batches become waves, and waves become runs.

Belongs here: pure functions from batches to waves and from a wave to its runs. Does not belong here: when a wave
starts (``decide.py``) or may run (``gate.py``).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from nsimport_pipeline.imports.records import KeyRange, RunSpec

REQUESTS_PER_PROCESS = 8
"""Worker threads one process can keep busy: beyond, its interpreter lock is the limit rather than NetSuite."""


@dataclass(frozen=True, slots=True)
class PlannedWave:
    number: int
    level: int
    ranges: tuple[KeyRange, ...]


def plan_waves(
    ranges: Iterable[KeyRange], levels: Mapping[str, int], wave_size: int, first_number: int = 1
) -> list[PlannedWave]:
    """Cut batches into waves of at most ``wave_size``, never mixing levels, lower levels first.

    Within a level the record types with fewest batches come first, so that small ones ride in one wave side by side
    and a type's batches stay adjacent.
    """
    by_level: dict[int, dict[str, list[KeyRange]]] = defaultdict(lambda: defaultdict(list))
    for key_range in ranges:
        by_level[levels[key_range.record_type]][key_range.record_type].append(key_range)
    waves: list[PlannedWave] = []
    for level in sorted(by_level):
        groups = sorted(by_level[level].items(), key=lambda item: (len(item[1]), item[0]))
        ordered = [key_range for _, group in groups for key_range in sorted(group, key=lambda r: r.number)]
        for start in range(0, len(ordered), wave_size):
            number = first_number + len(waves)
            waves.append(PlannedWave(number, level, tuple(ordered[start : start + wave_size])))
    return waves


def plan_runs(wave: int, level: int, ranges: Iterable[KeyRange], slots: int) -> list[RunSpec]:
    """Cut one wave into runs: adjacent partitions of one record type, the longest runs first.

    A record type gets as many processes as are needed to use ``slots`` (requests in flight), usually one.
    """
    stretches: list[list[KeyRange]] = []
    for key_range in sorted(ranges, key=lambda r: (r.record_type, r.number)):
        last = stretches[-1][-1] if stretches else None
        if last is not None and (last.record_type, last.number + 1) == (key_range.record_type, key_range.number):
            stretches[-1].append(key_range)
        else:
            stretches.append([key_range])
    parts = [part for stretch in stretches for part in _split(stretch, slots)]
    parts.sort(key=lambda part: (-len(part), part[0].record_type, part[0].number))
    return [
        RunSpec(wave, number, part[0].record_type, level, tuple(r.partition_key for r in part))
        for number, part in enumerate(parts, start=1)
    ]


def _split(stretch: Sequence[KeyRange], slots: int) -> list[Sequence[KeyRange]]:
    processes = max(1, ceil(min(slots, len(stretch)) / REQUESTS_PER_PROCESS))
    size = ceil(len(stretch) / processes)
    return [stretch[start : start + size] for start in range(0, len(stretch), size)]
