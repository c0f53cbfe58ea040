"""Carrying out many seeds side by side on one installation, and telling what became of them.

Belongs here: the command's options, sharing seeds out over lanes, the report. Does not belong here: one seed's import
(``drive.py``), or what must hold after it (``verify.py``).
"""

import argparse
import contextlib
import json
import queue
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

from nsimport_pipeline_tests.chaos.drive import Drive, Story, TooLateError
from nsimport_pipeline_tests.chaos.installation import Installation
from nsimport_pipeline_tests.chaos.kills import done_twice
from nsimport_pipeline_tests.chaos.plan import Plan, draw, draw_kill
from nsimport_pipeline_tests.chaos.verify import measured, verify


def parse_seeds(text: str) -> list[int]:
    """``10`` is 1 to 10, ``5-9`` and ``3,7`` are what they say."""
    if text.isdigit():
        return list(range(1, int(text) + 1))
    seeds: list[int] = []
    for part in filter(None, text.split(",")):
        low, dash, high = part.partition("-")
        seeds += range(int(low), int(high) + 1) if dash else [int(low)]
    return seeds


def main(description: str) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="chaos", description=description)
    parser.add_argument("--seeds", default="", help="N for 1 to N, A-B, or A,B,C")
    parser.add_argument("--kills", default="", help="likewise: imports of which only a run is killed")
    parser.add_argument("--lanes", type=int, default=3, help="imports at the same time, on one daemon")
    parser.add_argument(
        "--storage", choices=("sqlite", "mysql"), default="sqlite", help="where Dagster keeps its records"
    )
    parser.add_argument("--directory", type=Path, help="for logs and databases; a new one in the temporary directory")
    parser.add_argument("--results", type=Path, help="a file for one JSON document a seed")
    parser.add_argument("--show", action="store_true", help="print the schedules and do nothing")
    parser.add_argument("--verbose", action="store_true", help="tell every import in full")
    options = parser.parse_args()
    plans = [draw(seed) for seed in parse_seeds(options.seeds)] + [draw_kill(n) for n in parse_seeds(options.kills)]
    if options.show:
        for plan in plans:
            print("\n  ".join(plan.lines()))
        return 0
    # Asked to end, it ends what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = options.directory or Path(tempfile.mkdtemp(prefix="nsimport-chaos-"))
    began = time.monotonic()
    failed: list[str] = []
    done = 0
    installed = Installation(directory / "installation", min(options.lanes, len(plans)), options.storage)
    with installed as installation, contextlib.suppress(KeyboardInterrupt):
        for story, problems in _all(plans, installation):
            done += 1
            failed += [story.plan.name] if problems else []
            _report(story, problems, f"{done}/{len(plans)}", options.verbose)
            if options.results:
                with options.results.open("a") as results:
                    document = {
                        "name": story.plan.name,
                        "problems": problems,
                        "seconds": round(story.seconds, 1),
                        "measured": measured(story.plan, story),
                    }
                    results.write(json.dumps(document) + "\n")
    minutes = (time.monotonic() - began) / 60
    print(f"{done - len(failed)} of {done} passed in {minutes:.1f} minutes", end="")
    print(f"; failed: {', '.join(failed)}; logs in {directory}" if failed else "")
    if done < len(plans):
        print(f"broken off: {len(plans) - done} were not carried out to their end")
        return 130
    return 1 if failed else 0


def _all(plans: Iterable[Plan], installation: Installation) -> Iterable[tuple[Story, list[str]]]:
    """Every plan carried out and looked at, as many at a time as there are lanes."""
    waiting: queue.SimpleQueue[Plan] = queue.SimpleQueue()
    for plan in plans:
        waiting.put(plan)
    done: queue.SimpleQueue[tuple[Story, list[str]] | None] = queue.SimpleQueue()

    def work(lane: str) -> None:
        while True:
            try:
                plan = waiting.get_nowait()
            except queue.Empty:
                done.put(None)
                return
            done.put(_one(plan, installation, lane))

    for lane in installation.lanes:
        threading.Thread(target=work, args=(lane,), name=lane, daemon=True).start()
    working = len(installation.lanes)
    while working:
        item = done.get()
        if item is None:
            working -= 1
        else:
            yield item


def _one(plan: Plan, installation: Installation, lane: str) -> tuple[Story, list[str]]:
    story = Story(plan, lane, "")
    problems: list[str] = []
    try:
        with installation.fresh_database(plan.database, plan.name.replace(" ", "_")) as url:
            drive = Drive(plan, installation, lane, url)
            story = drive.story
            problems = verify(drive.run(), installation)
            problems += done_twice(story) if plan.kind == "kill" and not problems else []
            if problems:
                raise _Wrong  # so that the database stays
    except _Wrong:
        pass
    except TooLateError:
        installation.leave(lane, plan.record_types)
        return _one(plan.without("ask again"), installation, lane)
    except Exception:
        problems = [*story.problems, traceback.format_exc()]
    try:
        installation.leave(lane, plan.record_types)
    except Exception:
        problems.append(traceback.format_exc())
    return story, problems


class _Wrong(Exception):
    pass


def _report(story: Story, problems: list[str], place: str, verbose: bool) -> None:
    plan = story.plan
    print(f"{place} {plan.name}: {'FAILED' if problems else 'ok'} in {story.seconds:.0f} s ({story.lane})", flush=True)
    for line in measured(plan, story):
        print(f"  {line}")
    if problems or verbose:
        for title, lines in (("schedule", plan.lines()), ("story", story.log), ("wrong", problems)):
            print(f"  {title}:")
            for line in lines:
                print("    " + line.replace("\n", "\n    "))
        print(f"  import {story.import_id}, database {story.url.rpartition('@')[2]}", flush=True)
