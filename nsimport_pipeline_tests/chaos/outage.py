"""NetSuite away for minutes in the middle of an import: what the waiting costs, and that it ends complete by itself.

    python -m nsimport_pipeline_tests.chaos.outage --minutes 10

Belongs here: one import with the settings that every tenant has by default, one outage, one report. Does not belong
here: outages of seconds (``plan.py`` draws them), or a tenant impatient enough for a test
(``acceptance/test_outage.py``).
"""

import argparse
import tempfile
import time
from pathlib import Path

from nsimport_pipeline_tests.acceptance.environment import Environment, wait_until

RECORDS, BATCH_SIZE, SLOTS, LATENCY = 20_000, 100, 4, 0.5


def main() -> int:
    """The command; 0 if the import ended complete."""
    parser = argparse.ArgumentParser(prog="outage", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    seconds = parser.parse_args().minutes * 60
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "installation"
        with Environment(
            directory,
            f"sqlite:///{directory}/acme.db",
            {"*": 5, "customer": RECORDS},
            latency=LATENCY,
            slots=SLOTS,
            tenant={"record_types": {"customer": {"batch_size": BATCH_SIZE}}},
        ) as environment:
            environment.start_daemon()
            return _sit_out(environment, seconds)


def _sit_out(environment: Environment, seconds: float) -> int:
    import_id = environment.start_import("customer", "--no-dependencies")
    done = "SELECT COUNT(*) AS n FROM wave_batches WHERE status = 'completed'"
    wait_until(lambda: environment.query(done)[0]["n"] >= 20, 180, "the import to be under way")
    environment.simulator.reset_stats()
    environment.simulator.set_faults(f"outage:{seconds + 60:.0f}")
    began = time.monotonic()
    while (gone := time.monotonic() - began) < seconds:
        time.sleep(min(60.0, seconds - gone))
        requests = environment.simulator.stats(log=False)["statuses"].get("503", 0)
        status = environment.json("status", import_id)
        minutes = (time.monotonic() - began) / 60
        print(
            f"{minutes:4.1f} min: {requests} requests refused so far; {status['state']}: {status['reason']}", flush=True
        )
    at = environment.query(done)[0]["n"]
    environment.simulator.set_faults("")
    back = time.monotonic()
    wait_until(lambda: environment.query(done)[0]["n"] > at, 300, "the first batch after the outage")
    print(f"first batch completed {time.monotonic() - back:.0f} s after NetSuite was back", flush=True)
    ended = environment.wait_for_import(import_id)
    (entry,) = ended["record_types"]
    attempts = environment.query("SELECT SUM(attempts) AS n FROM wave_batches")[0]["n"]
    print(
        f"{ended['state']}: {entry['records']['imported']:,} of {RECORDS:,} records, in sync: {entry['in_sync']}; "
        f"attempts counted: {attempts}"
    )
    return 0 if ended["state"] == "completed" and entry["records"]["imported"] == RECORDS and entry["in_sync"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
