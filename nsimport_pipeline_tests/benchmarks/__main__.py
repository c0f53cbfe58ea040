"""``python -m nsimport_pipeline_tests.benchmarks [NAME…]``: run the benchmarks and print what they found."""

import sys

from nsimport_pipeline_tests.benchmarks import beside_dlt, imports

BENCHMARKS = {
    "slots": imports.slot_bound,
    "dlt": beside_dlt.beside_dlt,
    "memory": imports.memory_growth,
}


def main() -> None:
    names = sys.argv[1:] or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            sys.exit(f"no benchmark {name!r}: {', '.join(BENCHMARKS)}")
        print(f"\n== {name}", flush=True)
        for line in BENCHMARKS[name]():
            print(line, flush=True)


if __name__ == "__main__":
    main()
