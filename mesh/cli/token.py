"""`proa token`: what lets workloads and people in from other machines."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from mesh.api.proa.v1 import tokens_pb2, tokens_pb2_grpc
from mesh.cli.connection import SECONDS, connected
from mesh.cli.options import Format, OfNamespaceOption, OutputOption, ServerOption, StateOption, duration_of
from mesh.cli.output import ago, count, show
from mesh.errors import StateError, UsageError
from mesh.model.names import DEFAULT_NAMESPACE

token = typer.Typer()


@token.command()
def create(
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where it is written; - is stdout.")],
    workload: Annotated[str, typer.Argument(metavar="[WORKLOAD]", help="Whom it lets in.")] = "",
    namespace: OfNamespaceOption = DEFAULT_NAMESPACE,
    service_account: Annotated[
        str, typer.Option("--service-account", metavar="NAME", help="In place of a workload: of gRPC clients.")
    ] = "",
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="In place of a workload: viewer, operator, admin.")
    ] = "",
    uses: Annotated[int, typer.Option("--uses", metavar="N", help="How often (1; for a role, any number).")] = 0,
    lifetime: Annotated[str, typer.Option("--lifetime", metavar="DURATION", help="For how long.")] = "1h",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What it is for.")] = "",
    state: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Make a token and write it into a file that only you may read. It is never shown again.

    The file has the roots of the mesh, too: by them its holder knows the control plane.
    """
    _check(to, [workload, service_account, role])
    request = tokens_pb2.CreateTokenRequest(
        namespace="" if role else namespace,
        workload=workload,
        service_account=service_account,
        role=role,
        uses=uses,
        note=note,
        lifetime=duration_of(lifetime, "--lifetime"),
    )
    with connected(state, server) as channel:
        made = tokens_pb2_grpc.TokenServiceStub(channel).CreateToken(request, timeout=SECONDS)
    _write(to, made)
    print(f"token {made.made.id} for {_subject(made.made)}, {_uses(made.made)}, written to {to}", file=sys.stderr)


@token.command(name="list")
def list_(state: StateOption = None, server: ServerOption = None, output: OutputOption = Format.TABLE) -> None:
    """List the tokens that have not expired, without what they are worth."""
    with connected(state, server) as channel:
        request = tokens_pb2.ListTokensRequest()
        found = tokens_pb2_grpc.TokenServiceStub(channel).ListTokens(request, timeout=SECONDS)
    columns = ("token", "for", "used", "ends in", "by", "note")
    at = datetime.now(UTC)
    show(found, output, columns, [_row(one, at) for one in found.tokens], empty="There is no token.")


@token.command()
def revoke(
    id_: Annotated[str, typer.Argument(metavar="TOKEN", help="As `proa token list` shows it.")],
    state: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Make a token worthless at once.

    Who has a certificate for it keeps that.
    """
    with connected(state, server) as channel:
        request = tokens_pb2.RevokeTokenRequest(id=id_)
        revoked = tokens_pb2_grpc.TokenServiceStub(channel).RevokeToken(request, timeout=SECONDS).token
    print(f"token {revoked.id} for {_subject(revoked)} is worth nothing any more", file=sys.stderr)


def _check(to: Path, kinds: list[str]) -> None:
    """Before a token is made that nobody could keep."""
    if sum(map(bool, kinds)) != 1:
        remedy = "Name a WORKLOAD, or give --service-account or --role"
        raise UsageError("proa token create", "a token is for one of three", remedy)
    if str(to) != "-" and (os.path.lexists(to) or not to.absolute().parent.is_dir()):
        problem = "something is there already" if os.path.lexists(to) else "there is no such folder"
        raise UsageError(str(to), problem, "Name a new file in a folder that is there")


def _write(to: Path, made: tokens_pb2.CreateTokenResponse) -> None:
    content = {"token": made.token, "roots": made.roots_pem, "expires": made.made.expires.ToJsonString()}
    text = json.dumps(content, indent=2) + "\n"
    if str(to) == "-":
        sys.stdout.write(text)
        return
    try:
        with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        remedy = f"Revoke it, since it was made: proa token revoke {made.made.id}"
        raise StateError(str(to), f"the token cannot be written: {error.strerror}", remedy) from error


def _row(one: tokens_pb2.Token, at: datetime) -> tuple[str, ...]:
    left = "revoked" if one.revoked else ago(at, one.expires.ToDatetime(UTC))
    return one.id, _subject(one), f"{one.used}/{one.uses or 'any'}", left, one.created_by, one.note


def _subject(one: tokens_pb2.Token) -> str:
    return f"role {one.role}" if one.role else f"{one.namespace}/{one.service_account}"


def _uses(one: tokens_pb2.Token) -> str:
    return count(one.uses, "use") if one.uses else "any number of uses"
