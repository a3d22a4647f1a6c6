"""`proa render`: the Envoy configuration of one proxy, without a running mesh."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mesh.cli.options import ConfigFormat, ConfigOutputOption, FilesOption
from mesh.cli.output import report, write
from mesh.cli.sources import source_files
from mesh.local.render import rendered
from mesh.local.state import State


def render(
    files: FilesOption,
    proxy: Annotated[str, typer.Option("--proxy", metavar="NAME", help="Workload, or NAMESPACE/WORKLOAD/INSTANCE.")],
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="DIR",
            help="Take what this mesh knows: addresses, not 127.0.0.1:0, and methods.",
            readable=False,
        ),
    ] = None,
    output: ConfigOutputOption = ConfigFormat.JSON,
) -> None:
    """Print a proxy's configuration, from files alone.

    It is the exact one: bootstrap, listeners, routes, clusters, endpoints.
    """
    found = rendered(source_files(files), proxy, State.at(state) if state else None)
    report(found.problems)
    report(found.warnings, "warning")
    if found.config is None:
        raise typer.Exit(2)
    write(found.config, output)
