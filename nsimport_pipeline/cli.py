"""The ``nsimport`` command: its root, and what an error looks like to a user.

Belongs here: putting commands together, exit codes. Does not belong here: any command (``commands/``).
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import click
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline import __version__, garbage
from nsimport_pipeline.errors import AccessDenied, ApiUnavailable, ConfigurationError, NsimportError, RefusedError

FAILED, WRONG_USAGE, WITH_FAILURES, REFUSED, INTERRUPTED = 1, 2, 3, 4, 130

_COMMANDS = {
    "up": "services:up",
    "simulate": "simulating:simulate",
    "demo": "demo:demo",
    "record-types": "catalogue:record_types",
    "record-type": "scaffolding:record_type",
    "graph": "catalogue:graph",
    "plan": "importing:plan",
    "import": "importing:import_",
    "resume": "steering:resume",
    "retry": "steering:retry",
    "sweep": "sweeping:sweep",
    "cancel": "steering:cancel",
    "status": "showing:status",
    "watch": "showing:watch",
    "waves": "showing:waves",
    "slots": "showing:slots",
    "errors": "failing:errors",
    "rejects": "failing:rejects",
    "events": "observing:events",
    "report": "observing:report",
    "metrics": "metering:metrics",
    "alerts": "alerting:alerts",
    "reconcile": "steering:reconcile_",
    "doctor": "doctor:doctor",
    "flags": "flags:flags",
    "schedules": "scheduling:schedules",
    "prune": "pruning:prune",
}
"""Where each command lives. Looked up when it is called: most need much less than all of them do."""


class _Commands(click.Group):
    when_loaded: Callable[[], None] | None = None
    """Called when all that a command needs is loaded."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(f"nsimport_pipeline.commands.{module}"), attribute)
        if self.when_loaded is not None:
            self.when_loaded()
        assert isinstance(command, click.Command)  # noqa: S101
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nsimport")
def nsimport() -> None:
    """Import a company's NetSuite records into its own database.

    Tenants are described in tenants.yaml (or where NSIMPORT_TENANTS says). No NetSuite at hand? `nsimport demo` brings
    one along.

    \b
    Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 the import ended with failures;
    4 refused (tenant not enabled, already importing); 130 interrupted (the import itself goes on).
    """


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit. An expected error is one line on stderr, never a traceback."""
    garbage.look_seldom()
    nsimport.when_loaded = garbage.keep
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    try:
        result: Any = nsimport.main(arguments, prog_name="nsimport", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return WRONG_USAGE
    except RefusedError as error:
        click.echo(f"refused: {error}", err=True)
        return REFUSED
    except NsimportError as error:
        click.echo(f"error: {error}", err=True)
        return exit_code(error)
    except SQLAlchemyError as error:
        from nsimport_pipeline.warehouse.errors import classify

        click.echo(f"error: {classify(error)}", err=True)
        return FAILED


def exit_code(error: NsimportError) -> int:
    """Wrong settings are the user's to mend; so is a NetSuite that lets nobody in or is not there."""
    return WRONG_USAGE if isinstance(error, ConfigurationError | AccessDenied | ApiUnavailable) else FAILED
