"""`proa bootstrap`: what programs need that join the mesh without a sidecar."""

import asyncio
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mesh.agent.client_folder import ClientFolder
from mesh.agent.grpc_client import run
from mesh.agent.problems import for_people
from mesh.cli.connection import address_of
from mesh.cli.options import Format, OfNamespaceOption, ServerOption, StateOption, TokenOption
from mesh.cli.output import perhaps_unread, write
from mesh.errors import UsageError
from mesh.model.names import DEFAULT_NAMESPACE

bootstrap = typer.Typer()


@bootstrap.command()
def grpc(
    service_account: Annotated[str, typer.Option("--service-account", metavar="NAME", help="Who the client is.")],
    folder: Annotated[
        Path,
        typer.Option("--dir", metavar="DIR", help="Where its bootstrap and certificates are kept.", readable=False),
    ],
    namespace: OfNamespaceOption = DEFAULT_NAMESPACE,
    token: TokenOption = None,
    state: StateOption = None,
    server: ServerOption = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="table: the line for a shell.")] = Format.TABLE,
) -> None:
    """Let gRPC clients call services of the mesh by `xds:///NAME`, until Ctrl-C.

    Says what to export when DIR is ready, and renews the certificates in it while it runs.
    """

    def say_ready(path: Path) -> None:
        with perhaps_unread(sys.stdout):
            if output is Format.TABLE:
                print(f"export GRPC_XDS_BOOTSTRAP={shlex.quote(str(path))}")
            else:
                write(json.loads(path.read_text()), output)

    if not service_account:
        raise UsageError("--service-account", "this is no name", "Name the account that the client is to be")
    address = address_of(state, server)
    try:
        with for_people():
            asyncio.run(run(address, namespace, service_account, ClientFolder(folder.absolute()), say_ready, token))
    except asyncio.CancelledError:  # by a second Ctrl-C
        raise KeyboardInterrupt from None
