"""``nsimport record-type new``: a criteria.json to begin with.

Belongs here: where the file goes, asking NetSuite which columns it has, checking the file before it is written.
Does not belong here: what is in it (``record_types/scaffold.py``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from nsimport_pipeline.commands.options import tenant_option
from nsimport_pipeline.defs import resources
from nsimport_pipeline.errors import ConfigurationError, UnknownColumn
from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.metadata import record_properties
from nsimport_pipeline.netsuite.suiteql import column_groups, page_statement, selected
from nsimport_pipeline.record_types import scaffold
from nsimport_pipeline.record_types.criteria import Catalog, checked_catalog, load_catalog, parse_criteria
from nsimport_pipeline.settings import Environment


@click.group("record-type")
def record_type() -> None:
    """Make record types of your own (`nsimport record-types` lists the known ones)."""


@record_type.command()
@click.argument("name")
@tenant_option
@click.option(
    "--from",
    "table",
    metavar="TABLE",
    help="Its table in SuiteQL, for example customrecord_machine. Default: what NAME suggests.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where NAME/criteria.json is written. Default: NSIMPORT_CRITERIA_PATH.",
)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
def new(name: str, tenant: str | None, table: str | None, directory: Path | None, force: bool) -> None:
    """Write a criteria.json for the record type NAME, ready to import.

    With --tenant its fields, types, references and dependencies come from NetSuite's metadata catalogue of the tenant's
    account, and one query checks which of them SuiteQL has. Without, it is a short example to be edited.
    """
    chosen = directory or Environment().criteria_path
    if chosen is None:
        raise ConfigurationError(
            "where to? Give --directory DIR, or set NSIMPORT_CRITERIA_PATH to the directory of your own record types"
        )
    file = chosen.absolute() / name / "criteria.json"
    if file.exists() and not force:
        raise ConfigurationError(f"{file} is there already: --force replaces it")
    catalog = load_catalog(chosen if chosen.is_dir() else None)
    if name in catalog and not file.exists() and not force:
        raise ConfigurationError(f"record type {name!r} is built in: take another name, or --force to replace it")

    source = scaffold.source_of(name, table)
    if tenant is None:
        document, dropped = scaffold.skeleton(name, source), list[str]()
    else:
        # Transactions and items share a table, but not their metadata.
        record = table if table and "where" not in source else scaffold.metadata_name(name)
        document, dropped = _from_netsuite(tenant, name, record, source, catalog, file)
    _check(document, catalog, file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(scaffold.criteria_text(document), encoding="utf-8")
    _say(document, dropped, file, chosen, tenant)


def _from_netsuite(
    tenant: str, name: str, record: str, source: Mapping[str, Any], catalog: Catalog, file: Path
) -> tuple[dict[str, Any], list[str]]:
    """The criteria as the tenant's account has them, and the columns that the metadata name but SuiteQL lacks."""
    dropped: list[str] = []
    with NetSuiteClient(resources.settings().enabled_tenant(tenant)) as client:
        document = scaffold.criteria_document(name, source, record_properties(client, record), catalog)
        while True:
            made = parse_criteria(document, str(file))
            try:
                for columns in column_groups(selected(made)):
                    client.query(page_statement(made, None, None, columns), limit=1)
                return document, dropped
            except UnknownColumn as error:
                fewer = scaffold.without_column(document, error.column)
                if fewer is None:
                    raise
                document, dropped = fewer, [*dropped, error.column]


def _check(document: Mapping[str, Any], catalog: Catalog, file: Path) -> None:
    """Raise ConfigurationError if the catalogue could not be loaded with this file in it."""
    made = parse_criteria(document, str(file))
    checked_catalog({**catalog, made.name: made}, {made.name: file})


def _say(document: Mapping[str, Any], dropped: list[str], file: Path, directory: Path, tenant: str | None) -> None:
    name, fields = document["record_type"], document["fields"]
    references = sorted({field["references"] for field in fields if "references" in field})
    click.echo(f"{file}: {len(fields)} fields of {document['source']['from']}, into table {document['table']}")
    if references:
        click.echo(
            f"refers to {', '.join(references)}; imported after {', '.join(document['dependencies']) or 'nothing'}"
        )
    if dropped:
        click.echo(f"left out, because SuiteQL does not have them here: {', '.join(dropped)}")
    if "last_modified" not in document["source"]:
        click.echo("no column with the time of the last change was found: the record type is always read whole")
    click.echo("next:")
    if Environment().criteria_path != directory.absolute():
        click.echo(f"  export NSIMPORT_CRITERIA_PATH={directory.absolute()}")
    click.echo(f"  nsimport record-types {name}")
    click.echo(f"  nsimport import {name} --tenant {tenant or 'NAME'} --wait")
    click.echo("a daemon that is running learns of it when `nsimport up` is started again")
