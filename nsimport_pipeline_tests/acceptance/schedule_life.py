"""Five tenants whose schedules a real daemon drives, once a minute; the database of one swallows whatever it is sent.

Belongs here: the installation, editing records, and reading what became of them. Does not belong here: what is expected
in the suite (``test_schedules.py``). ``python -m nsimport_pipeline_tests.acceptance.schedule_life --minutes 10 --down
3`` lets them live longer, with an edit every minute and no daemon for a while in the middle; exit code 1 if an edit did
not arrive, an import was begun twice, or more than one made up for the pause.
"""

import argparse
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from nsimport_pipeline_tests.acceptance.environment import Environment, wait_until

HEALTHY, BROKEN = ("acme", "beta", "gamma", "delta"), "swallowed"
ROWS = 40
SCHEDULES = {
    "changes": {"cron": "* * * * *", "record_types": ["vendor"], "dependencies": False, "enabled": True},
    "never": {"cron": "* * * * *", "mode": "full", "record_types": ["vendor"]},
}


@contextmanager
def five_tenants(directory: Path) -> Iterator[Environment]:
    """An installation that begins nothing until its daemon is started."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as hole:
        port = hole.getsockname()[1]
        with Environment(
            directory,
            f"sqlite:///{directory}/acme.db",
            {"*": 3, "vendor": ROWS},
            slots=4 * len(HEALTHY),
            tenant={"slots": 2, "schedules": SCHEDULES},
            others={
                **{name: {"warehouse_url": f"sqlite:///{directory}/{name}.db"} for name in HEALTHY[1:]},
                # It takes connections and never says a word.
                BROKEN: {"warehouse_url": f"mysql+pymysql://user:secret@127.0.0.1:{port}/gone"},
            },
        ) as environment:
            yield environment


def edit(environment: Environment, text: str) -> None:
    """Change a record of the account that they share."""
    now = "date_trunc('second', timezone('UTC', now()))"
    change = f"UPDATE vendor SET phone = '{text}', lastmodifieddate = {now}"
    environment.simulator.sql(f"{change} WHERE id = (SELECT MIN(id) FROM vendor)")


def arrived(environment: Environment, tenant: str, text: str) -> bool:
    there = "SELECT COUNT(*) AS n FROM sqlite_master WHERE name = 'vendors'"
    if not environment.query(there, tenant=tenant)[0]["n"]:
        return False
    return bool(
        environment.query("SELECT COUNT(*) AS n FROM vendors WHERE phone = :text", tenant=tenant, text=text)[0]["n"]
    )


def imports(environment: Environment, tenant: str) -> list[dict[str, Any]]:
    """A tenant's imports, oldest first, with what their partitions show."""
    return environment.query(
        "SELECT import_id, mode, state, created_at, finished_at, (SELECT COALESCE(SUM(rows_upserted), 0) FROM"
        " wave_batches b WHERE b.import_id = j.import_id) AS written FROM import_jobs j ORDER BY created_at",
        tenant=tenant,
    )


def ticks(environment: Environment, tenant: str, schedule: str = "changes") -> list[tuple[datetime, str, str | None]]:
    """When a schedule's ticks were due, what became of each, and why one was skipped; oldest first."""
    with environment.dagster() as instance:
        (state,) = [one for one in instance.all_instigator_state() if one.instigator_name == f"{tenant}__{schedule}"]
        found = instance.get_ticks(state.instigator_origin_id, state.selector_id)
    told = [(datetime.fromtimestamp(one.timestamp, UTC), one.status.value, one.skip_reason) for one in found]
    return sorted(told, key=lambda one: one[0])


def wrong(environment: Environment) -> list[str]:
    """What must not be: imports of a tenant side by side, without a tick that asked for them, or ticks that failed."""
    found = []
    for tenant in HEALTHY:
        began = [became for _, became, _ in ticks(environment, tenant) if became == "SUCCESS"]
        done = imports(environment, tenant)
        if len(done) > len(began):
            found.append(f"{tenant}: {len(done)} imports, but {len(began)} ticks asked for one")
        for before, after in pairwise(done):
            if before["finished_at"] is None or str(after["created_at"]) < str(before["finished_at"]):
                found.append(f"{tenant}: {after['import_id']} was begun while {before['import_id']} was open")
    for tenant in (*HEALTHY, BROKEN):
        failed = [at for at, became, _ in ticks(environment, tenant) if became == "FAILURE"]
        found += [f"{tenant}: the tick of {at} failed" for at in failed]
    return found


def live(environment: Environment, minutes: int, down: int) -> list[str]:
    """Let them live for so many edits, a minute each, with a pause of the daemon. Returns what went wrong."""
    found: list[str] = []
    environment.start_daemon()
    for number in range(minutes):
        if down and number == minutes // 2:
            found += paused(environment, down)
        edit(environment, f"edit {number}")
        everywhere(environment, f"edit {number}")
        print(f"{datetime.now(UTC):%H:%M:%S} edit {number} arrived at {', '.join(HEALTHY)}", flush=True)
    for tenant in (*HEALTHY, BROKEN):
        told = ticks(environment, tenant)
        done = imports(environment, tenant) if tenant != BROKEN else []
        idle = sum(not one["written"] for one in done)
        print(f"{tenant}: {len(told)} ticks, {len(done)} imports, {idle} of them wrote nothing; last tick {told[-1]}")
    return found + wrong(environment)


def everywhere(environment: Environment, text: str) -> None:
    """Wait until an edit has arrived at all healthy tenants."""
    wait_until(lambda: all(arrived(environment, one, text) for one in HEALTHY), 150, f"{text} to arrive", every=1)


def paused(environment: Environment, minutes: int) -> list[str]:
    """Stop the daemon for so long. Returns where more than one tick made up for it."""
    environment.stop_daemon()
    gone = datetime.now(UTC)
    time.sleep(60 * minutes)
    back = datetime.now(UTC)
    environment.start_daemon()
    wait_until(lambda: all(ticks(environment, one)[-1][0] > gone for one in HEALTHY), 150, "a tick", every=1)
    caught_up = {one: sum(gone < at <= back for at, _, _ in ticks(environment, one)) for one in (*HEALTHY, BROKEN)}
    return [f"{tenant}: {number} ticks made up for a pause" for tenant, number in caught_up.items() if number > 1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--down", type=int, default=3, help="minutes without a daemon")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, five_tenants(Path(folder) / "installation") as installation:
        problems = live(installation, options.minutes, options.down)
    print("\n".join(problems) or "all is well")
    sys.exit(1 if problems else 0)
