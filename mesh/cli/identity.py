"""`proa identity` and `proa audit`: who is not believed any more, and who has changed what."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from mesh.api.proa.v1 import access_pb2, access_pb2_grpc
from mesh.cli.connection import SECONDS, connected
from mesh.cli.options import Format, OutputOption, ServerOption, StateOption
from mesh.cli.output import ago, show
from mesh.errors import UsageError

identity = typer.Typer()

WhoArgument = Annotated[str, typer.Argument(metavar="[IDENTITY]", help="NAMESPACE/SERVICE-ACCOUNT, or a SPIFFE id.")]
SerialOption = Annotated[str, typer.Option("--serial", metavar="SERIAL", help="One certificate instead.")]


@identity.command()
def revoke(
    who: WhoArgument = "",
    serial: SerialOption = "",
    allow_unresolved: Annotated[bool, typer.Option("--allow-unresolved", help="Also one that nobody has.")] = False,
    state: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Take an identity back, or one certificate.

    Its streams to the control plane end, and it gets no certificate any more. An identity is believed by nobody:
    callers do not call it, and what it calls refuses it (open connections to TCP ports go on until they end).
    """
    _one_of(who, serial)
    with connected(state, server) as channel:
        request = access_pb2.RevokeIdentityRequest(identity=who, serial=serial, allow_unresolved=allow_unresolved)
        done = access_pb2_grpc.IdentityServiceStub(channel).RevokeIdentity(request, timeout=SECONDS).revoked
    print(f"{done.identity or done.serial} is revoked", file=sys.stderr)


@identity.command()
def restore(
    who: WhoArgument = "", serial: SerialOption = "", state: StateOption = None, server: ServerOption = None
) -> None:
    """Believe an identity or a certificate again that was revoked."""
    _one_of(who, serial)
    with connected(state, server) as channel:
        request = access_pb2.RestoreIdentityRequest(identity=who, serial=serial)
        access_pb2_grpc.IdentityServiceStub(channel).RestoreIdentity(request, timeout=SECONDS)
    print(f"{who or serial} is believed again", file=sys.stderr)


@identity.command(name="list")
def list_(state: StateOption = None, server: ServerOption = None, output: OutputOption = Format.TABLE) -> None:
    """List what is revoked."""
    with connected(state, server) as channel:
        request = access_pb2.ListRevokedRequest()
        found = access_pb2_grpc.IdentityServiceStub(channel).ListRevoked(request, timeout=SECONDS)
    at = datetime.now(UTC)
    rows = [(one.identity or one.serial, ago(one.since.ToDatetime(UTC), at)) for one in found.revoked]
    show(found, output, ("revoked", "since"), rows, empty="Nothing is revoked.")


def audit(
    most: Annotated[int, typer.Option("--last", metavar="N", min=1, max=1000, help="So many changes.")] = 20,
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show who has changed what, the newest first. `-o json` has what was there before and after."""
    with connected(state, server) as channel:
        request = access_pb2.ListAuditRequest(most=most)
        found = access_pb2_grpc.AuditServiceStub(channel).ListAudit(request, timeout=SECONDS)
    rows = [(f"{one.at.ToDatetime(UTC):%Y-%m-%d %H:%M:%S}Z", one.who, one.what, one.subject) for one in found.entries]
    show(found, output, ("at", "who", "what", "subject"), rows, empty="Nothing was changed.")


def _one_of(who: str, serial: str) -> None:
    if bool(who) == bool(serial):
        raise UsageError("proa identity", "name one of the two", "Write NAMESPACE/SERVICE-ACCOUNT, or --serial SERIAL")
