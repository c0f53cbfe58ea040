"""``nsimport simulate``: a NetSuite to try things on. Knows nothing of Dagster, so it starts fast."""

from pathlib import Path

import click

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.settings import Environment

SIMULATOR_DIRECTORY = Path(".nsimport/simulator")


@click.command()
@click.option("--port", required=True, type=click.IntRange(0, 65535), help="Port on 127.0.0.1; 0 picks a free one.")
@click.option("--scale", default=1.0, show_default=True, help="Size; 1 is about 30,000 records.")
@click.option("--rows", multiple=True, metavar="TYPE=N", help="Exact number of records of a type; *=N for all others.")
@click.option("--latency", default=0.0, show_default=True, metavar="SECONDS", help="Mean service time of a request.")
@click.option("--slots", default=5, show_default=True, help="Requests in flight that the account allows.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same data.")
@click.option("--faults", default="", metavar="SPEC", help="Faults to show; `--faults help` explains them.")
@click.option(
    "--credentials",
    default=str(SIMULATOR_DIRECTORY),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where keys and a ready tenants.yaml are written.",
)
def simulate(
    port: int,
    scale: float,
    rows: tuple[str, ...],
    latency: float,
    slots: int,
    seed: int,
    faults: str,
    credentials: Path,
) -> None:
    """Start a NetSuite to try things on: real HTTP on loopback, real signatures, real SuiteQL, made-up data.

    It writes a tenants.yaml with a tenant `demo` that is ready to import from it.
    """
    # Not at the top: the simulator's parts belong to an extra that an installation for real accounts need not have.
    try:
        from nsimport_pipeline.simulator.faults import FAULTS_HELP
        from nsimport_pipeline.simulator.options import SimulatorOptions, parse_rows
        from nsimport_pipeline.simulator.server import ServerInfo, serve
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the simulator needs {error.name}: install the project with its extra, nsimport-pipeline[simulator]"
        ) from None

    if faults == "help":
        click.echo(FAULTS_HELP)
        return
    options = SimulatorOptions(
        port=port,
        scale=scale,
        latency=latency,
        slots=slots,
        seed=seed,
        faults=faults,
        credentials=credentials,
        rows=parse_rows(rows),
        criteria_path=Environment().criteria_path,
    )

    def ready(info: ServerInfo) -> None:
        click.echo(f"NetSuite simulator: {info.base_url}")
        click.echo(f"try: NSIMPORT_TENANTS={info.tenants_file} nsimport import customer --tenant demo --wait")

    serve(options, ready)
