"""Options that several commands have, and printing JSON.

Belongs here: what must look the same everywhere. Does not belong here: anything a single command needs.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console

_F = TypeVar("_F", bound=Callable[..., Any])


class _Console(Console):
    def on_broken_pipe(self) -> None:
        _speak_to_nobody()


PIPED_WIDTH = 200
"""Columns of what is no terminal: a narrow table would lose words there that somebody searches for."""

_fitted = sys.stdout.isatty() or "COLUMNS" in os.environ
console = _Console(highlight=False, width=None if _fitted else PIPED_WIDTH)

tenant_option: Callable[[_F], _F] = click.option("--tenant", metavar="NAME", help="Tenant, as tenants.yaml names it.")
tenant_required: Callable[[_F], _F] = click.option(
    "--tenant", metavar="NAME", required=True, help="Tenant, as tenants.yaml names it."
)
wait_option: Callable[[_F], _F] = click.option(
    "--wait", is_flag=True, help="Show progress until it is over; starts Dagster's daemon if none runs."
)
json_option: Callable[[_F], _F] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def tell(line: str) -> None:
    """A line on stdout. A reader who has heard enough (``| head -1``) stops nothing that is under way."""
    try:
        click.echo(line)
    except BrokenPipeError:
        _speak_to_nobody()


def _speak_to_nobody() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(document: Any) -> None:
    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode())
