"""`proa debug`: xDS as a proxy sees it."""

import asyncio
from typing import Annotated

import typer

from mesh.api.proa.v1 import debug_pb2, debug_pb2_grpc
from mesh.cli.addresses import local_address
from mesh.cli.connection import SECONDS, connected
from mesh.cli.options import ConfigFormat, ConfigOutputOption, ServerOption, StateOption
from mesh.cli.output import write
from mesh.model.address import Address
from mesh.snapshot.plain import plain

debug = typer.Typer()


@debug.command()
def xds(
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where xDS is served.")],
    api: Annotated[str, typer.Option("--api", metavar="HOST:PORT", help="Where proa.v1.RawXds is served.")],
) -> None:
    """Serve over xDS what is set through an API, until Ctrl-C.

    Plaintext, loopback only; port 0 is a free one. Says `xds ready HOST:PORT api HOST:PORT` when it serves.
    """
    from mesh.controlplane.debug import run

    asyncio.run(run(local_address("--listen", listen), local_address("--api", api), _say_ready))


@debug.command()
def snapshot(
    node: Annotated[str, typer.Argument(metavar="NODE", help="NAMESPACE/WORKLOAD/INSTANCE, or the end of it.")],
    state: StateOption = None,
    server: ServerOption = None,
    output: ConfigOutputOption = ConfigFormat.JSON,
) -> None:
    """Print what a proxy of a running mesh is being told.

    The keys are those of `proa render`; private keys are left out.
    """
    with connected(state, server) as channel:
        stub = debug_pb2_grpc.DebugServiceStub(channel)
        told = stub.GetSnapshot(debug_pb2.GetSnapshotRequest(node_id=node), timeout=SECONDS)
    resources = plain(one.resource for one in told.resources)
    write({"node": told.node_id, "version": told.config_version, **resources}, output)


def _say_ready(xds: Address, api: Address) -> None:
    print(f"xds ready {xds} api {api}", flush=True)
