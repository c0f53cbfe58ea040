"""``python -m nsimport_pipeline_tests.benchmarks [NAME…] [--lines N] [--scale S] [--rows N,…]``: run them."""

import argparse
import sys
from collections.abc import Callable

from nsimport_pipeline_tests.benchmarks import (
    beside_dlt,
    catalogue,
    changes,
    imports,
    lines,
    observing,
    tenants,
    upsert,
)

BENCHMARKS: dict[str, Callable[..., list[str]]] = {
    "slots": imports.slot_bound,
    "dlt": beside_dlt.beside_dlt,
    "upsert": upsert.throughput,
    "memory": imports.memory_growth,
    "observing": observing.observing,
    "lines": lines.lines,
    "catalogue": catalogue.catalogue,
    "tenants": tenants.tenants,
    "changes": changes.changes,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nsimport_pipeline_tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--lines", type=int, default=100_000, metavar="N", help="transaction lines of `lines`")
    parser.add_argument("--scale", type=float, default=3, metavar="S", help="size of the account of `catalogue`")
    parser.add_argument("--rows", default="10000,100000,1000000", metavar="N,…", help="sizes of the table of `changes`")
    options = parser.parse_args()
    names = options.names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            sys.exit(f"no benchmark {name!r}: {', '.join(BENCHMARKS)}")
        print(f"\n== {name}", flush=True)
        sized: dict[str, tuple[object, ...]] = {
            "lines": (options.lines,),
            "catalogue": (options.scale,),
            "changes": (options.rows,),
        }
        for line in BENCHMARKS[name](*sized.get(name, ())):
            print(line, flush=True)


if __name__ == "__main__":
    main()
