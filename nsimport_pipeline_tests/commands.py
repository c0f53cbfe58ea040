"""Calling ``nsimport`` from tests: each call is a process of its own, forked from one that has its modules loaded.

Belongs here: starting such a process, what it says, ending it. Does not belong here: what is called. A command that is
to be watched, or struck, while it runs is started as users start it (``acceptance/environment.py``).
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path

PRELOADED = ("importing", "showing", "waiting", "session", "processes", "steering", "observing", "failing")
"""Modules of commands that are loaded once, for all that is called. To load them takes longer than most commands."""
ENDING_SECONDS = 30.0
"""For a command that was interrupted: it ends the services that it started itself."""
_ASKING = threading.Lock()
"""An exit code can be read once, and ``start`` reads those of all processes that have ended, in whichever thread."""


def call(
    arguments: Sequence[str], *, environ: Mapping[str, str], directory: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in ``directory``: exit code, stdout and stderr.

    Fails the test if that takes longer than ``timeout`` seconds, or if it shows a traceback: an expected error is one
    line.
    """
    with tempfile.TemporaryDirectory(prefix="nsimport-command-") as written:
        output, errors = Path(written, "out"), Path(written, "err")
        body = (tuple(arguments), dict(environ), str(directory), str(output), str(errors))
        process = _forked().Process(target=_body, args=body)
        with _ASKING:
            process.start()
        late = not wait([process.sentinel], timeout)
        if late and process.pid is not None:
            os.kill(process.pid, signal.SIGINT)
            if not wait([process.sentinel], ENDING_SECONDS):
                process.kill()
        with _ASKING:
            process.join()
            code = process.exitcode
            process.close()
        said = [file.read_text(errors="replace") if file.exists() else "" for file in (output, errors)]
    name = f"nsimport {' '.join(arguments)}"
    assert not late, f"{name} took longer than {timeout:g} s:\n{said[0]}\n{said[1]}"
    assert code is not None
    assert "Traceback (most recent call last)" not in said[1], f"{name}: {said[1]}"
    return subprocess.CompletedProcess(arguments, code, *said)


@cache
def _forked() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [__name__, "nsimport_pipeline.cli", *(f"nsimport_pipeline.commands.{name}" for name in PRELOADED)]
    )
    return context


def _body(arguments: tuple[str, ...], environ: dict[str, str], directory: str, output: str, errors: str) -> None:
    from nsimport_pipeline.cli import main

    os.setsid()
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(directory)
    for file, number in ((os.devnull, 0), (output, 1), (errors, 2)):
        opened = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    try:
        main(list(arguments))
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
