"""The DAGSTER_HOME of a command, and the Dagster instance that is kept there.

Belongs here: opening it, with errors a user understands. Does not belong here: tenants (``defs/tenants.py``), or
options and output.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.settings import Environment


def project_file(name: str) -> Path:
    """One of the project's own files: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parents[1]
    beside = package.parent / name
    return beside if beside.is_file() else package / name


def ensure_dagster_home() -> Path:
    """The DAGSTER_HOME of this process, created and configured if it is not yet.

    Raises ConfigurationError if it has a dagster.yaml without the gate: imports would not be held to their limits.
    """
    home = Environment().dagster_home
    home.mkdir(parents=True, exist_ok=True)
    os.environ["DAGSTER_HOME"] = str(home)
    config = home / "dagster.yaml"
    if config.is_symlink() and not config.exists():
        config.unlink()
    if not config.exists():
        try:
            config.symlink_to(project_file("dagster.yaml"))
        except FileExistsError:
            pass
        except OSError:
            config.write_text(project_file("dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    if "WaveRunCoordinator" not in config.read_text(encoding="utf-8"):
        raise ConfigurationError(
            f"{config} does not use WaveRunCoordinator, so nothing would hold imports to their limits: "
            f"take its run_coordinator and concurrency blocks from {project_file('dagster.yaml')}"
        )
    return home


@contextmanager
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    """Dagster's storage of this DAGSTER_HOME."""
    home = ensure_dagster_home()
    try:
        # Two processes that create Dagster's SQLite files at the same time spoil them for good.
        with (home / "opening.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            instance = dg.DagsterInstance.get()
    except Exception as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(f"Dagster's storage of {home} cannot be opened: {first_line[:300]}") from None
    with instance:
        yield instance
