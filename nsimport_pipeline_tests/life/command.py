"""The command: a simulator, a database, a life, and a report.

Belongs here: options and output. Does not belong here: anything that is decided or compared (``course.py``).
"""

import argparse
import signal
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from nsimport_pipeline.simulator.process import SimulatorProcess
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline_tests.life.course import Course, Story, options
from nsimport_pipeline_tests.life.events import draw
from nsimport_pipeline_tests.mysql_server import fresh_database, mysql_server


def main(description: str) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m nsimport_pipeline_tests.life", description=description)
    parser.add_argument("--days", type=float, default=7, help="around the change to summer time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=15, help="minutes between imports")
    parser.add_argument("--looks", type=float, default=4, help="hours between comparisons of all tables")
    parser.add_argument("--overlap", type=float, default=6, help="the tenant's overlap, in hours")
    parser.add_argument("--database", choices=("mysql", "sqlite"), default="mysql")
    parser.add_argument("--directory", type=Path, help="for the databases; a new one in the temporary directory")
    chosen = parser.parse_args()
    # Asked to end, it ends what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = chosen.directory or Path(tempfile.mkdtemp(prefix="nsimport-life-"))
    directory.mkdir(parents=True, exist_ok=True)
    overlap = timedelta(hours=chosen.overlap)
    every, looks = timedelta(minutes=chosen.every), timedelta(hours=chosen.looks)
    life = draw(chosen.seed, chosen.days, every=every, overlap=overlap, looks=looks)
    with ExitStack() as stack:
        url = f"sqlite:///{directory / f'life-{chosen.seed}.db'}"
        if chosen.database == "mysql":
            url = stack.enter_context(fresh_database(stack.enter_context(mysql_server()).url()))
        simulator = stack.enter_context(
            SimulatorProcess(options(credentials=directory / "simulator", seed=chosen.seed))
        )
        course = Course(life, simulator, make_engine(url, pool_size=3), overlap=overlap, say=_say)
        story = course.run()
    for line in report(chosen.seed, len(list(life.events)), story):
        _say(line)
    return 1 if story.problems else 0


def report(seed: int, events: int, story: Story) -> list[str]:
    """What came of it, in lines for people."""
    imports = ", ".join(f"{count} {state}" for state, count in sorted(story.imports.items()))
    answers = ", ".join(f"{count:,} x {status}" for status, count in sorted(story.statuses.items()))
    return [
        f"seed {seed}: {events} events, imports: {imports}, in {story.seconds / 60:.1f} minutes",
        f"  {story.requests:,} requests ({answers}; 0: no answer)",
        f"  {story.rows_read:,} rows read, {story.rows_written:,} written, {story.deleted:,} deleted,"
        f" {story.swept:,} more in {story.sweeps} sweeps",
        f"  tables equal to NetSuite's at {story.looks} quiet moments, {story.rows_compared:,} rows compared"
        if not story.problems
        else "  NOT EQUAL:",
        *(f"  {problem}" for problem in story.problems),
    ]


def _say(text: str) -> None:
    print(text, flush=True)
