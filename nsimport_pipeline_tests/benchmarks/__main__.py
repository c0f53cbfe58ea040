"""``python -m nsimport_pipeline_tests.benchmarks [NAME…] [--lines N]``: run the benchmarks, print what they find."""

import argparse
import sys

from nsimport_pipeline_tests.benchmarks import beside_dlt, imports, lines, upsert

BENCHMARKS = {
    "slots": imports.slot_bound,
    "dlt": beside_dlt.beside_dlt,
    "upsert": upsert.throughput,
    "memory": imports.memory_growth,
    "lines": lines.lines,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nsimport_pipeline_tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--lines", type=int, default=100_000, metavar="N", help="transaction lines of `lines`")
    options = parser.parse_args()
    names = options.names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            sys.exit(f"no benchmark {name!r}: {', '.join(BENCHMARKS)}")
        print(f"\n== {name}", flush=True)
        found = lines.lines(options.lines) if name == "lines" else BENCHMARKS[name]()
        for line in found:
            print(line, flush=True)


if __name__ == "__main__":
    main()
