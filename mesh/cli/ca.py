"""`proa ca`: whom the mesh trusts, and another root for it."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from mesh.api.proa.v1 import ca_pb2, ca_pb2_grpc
from mesh.cli.certificates import LEFT, certificates_of
from mesh.cli.connection import SECONDS, connected
from mesh.cli.options import Format, OutputOption, ServerOption, StateOption, TimeoutOption, duration_of
from mesh.cli.output import ago, as_json, table, write
from mesh.errors import MeshError, UnreachableError

POLL: Final = 0.2
NAMED_AFTER: Final = 3.0
"""Seconds of a step after which it is said for whom it waits."""

ca = typer.Typer()


@ca.command()
def status(state: StateOption = None, server: ServerOption = None, output: OutputOption = Format.TABLE) -> None:
    """Show the certificates of the authority, how far a rotation has come, and who has not followed."""
    authority = _ask(state, server)
    if output is not Format.TABLE:
        write(_plain(authority), output)
        return
    at = datetime.now(UTC)
    columns = ("key id", "serial", "role", "expires", "subject")
    table(columns, (_row(one, at) for one in authority.certificates), empty="There is no certificate.")
    print("", *_news(authority, at), sep="\n")
    for warning in warnings(authority, at):
        print(f"warning: {warning}", file=sys.stderr)


@ca.command()
def rotate(
    force: Annotated[
        bool, typer.Option("--force", help="Go on without proxies that do not follow within 10 seconds.")
    ] = False,
    timeout: TimeoutOption = "60s",
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Exchange the root of the mesh while it runs; no call fails.

    Returns when every proxy has let go of the old one. It goes on by itself when this command is interrupted, or the
    control plane ends; the next `proa ca rotate` then waits for the one that runs.
    """
    until = time.monotonic() + duration_of(timeout).total_seconds()
    with connected(state, server) as channel:
        begun = ca_pb2_grpc.CaServiceStub(channel).RotateRoot(ca_pb2.RotateRootRequest(force=force), timeout=SECONDS)
    done = _followed(begun.authority, state, server, until, quiet=output is not Format.TABLE)
    if output is not Format.TABLE:
        write(_plain(done), output)
        return
    left = [one.node_id for one in done.waits_for if one.left_behind]
    print(f"rotated: {next(one.key_id for one in done.certificates if one.signs)} is the only root now")
    if left:
        print(f"warning: left behind: {', '.join(left)}: nobody trusts them until they are back", file=sys.stderr)


def warnings(authority: ca_pb2.Authority, at: datetime) -> Iterator[str]:
    """What somebody should do something about: what is wrong, and what ends soon."""
    if authority.problem:
        yield authority.problem
    for one in certificates_of(authority):
        if one.part_left(at) < LEFT:
            yield f"{one.where}: it {_ends(one.not_after, at)}. {one.remedy}"


def _followed(
    authority: ca_pb2.Authority, state: Path | None, server: str | None, until: float, *, quiet: bool
) -> ca_pb2.Authority:
    """The authority at the end of the rotation. A control plane that is away for a moment is waited for."""
    said, began, named = -1, time.monotonic(), ""
    while True:
        if authority.step != said:
            said, began = authority.step, time.monotonic()
            _say(_sentence(authority), quiet=quiet)
        if authority.step == ca_pb2.ROTATION_STEP_STEADY:
            return authority
        lagging = ", ".join(_waits(authority))
        waits = authority.problem or f"it waits for {lagging or 'nobody'}"
        if (authority.problem or lagging) and time.monotonic() - began > NAMED_AFTER and waits != named:
            named = waits
            _say(f"  {waits}", quiet=quiet)
        if time.monotonic() > until:
            raise MeshError("proa ca rotate", waits, "It goes on by itself; with --force it does not wait any more")
        time.sleep(POLL)
        try:
            authority = _ask(state, server)
        except UnreachableError:
            if time.monotonic() > until:
                raise


def _waits(authority: ca_pb2.Authority) -> Iterator[str]:
    for one in authority.waits_for:
        if not one.left_behind:
            yield f"{one.node_id}: {one.why}"


def _ask(state: Path | None, server: str | None) -> ca_pb2.Authority:
    with connected(state, server) as channel:
        answer = ca_pb2_grpc.CaServiceStub(channel).GetAuthority(ca_pb2.GetAuthorityRequest(), timeout=SECONDS)
    authority: ca_pb2.Authority = answer.authority
    return authority


def _step(authority: ca_pb2.Authority) -> str:
    return ca_pb2.RotationStep.Name(authority.step).removeprefix("ROTATION_STEP_")


def _sentence(authority: ca_pb2.Authority) -> str:
    return {
        "STEADY": "steady: there is no rotation",
        "TRUST": "trust: the new root is told to every proxy; the old one signs",
        "RENEW": "renew: the new root signs, and every certificate is renewed",
        "RETIRE": "retire: the old root is taken from every proxy",
    }[_step(authority)]


def _plain(authority: ca_pb2.Authority) -> dict[str, object]:
    return {**as_json(authority), "step": _step(authority)}


def _row(one: ca_pb2.CaCertificate, at: datetime) -> tuple[str, ...]:
    role = ", ".join(word for word, holds in (("signs", one.signs), ("trusted", one.root)) if holds)
    ends = one.not_after.ToDatetime(UTC)
    return one.key_id, one.serial, role, f"{ends:%Y-%m-%d}, {_ends(ends, at)}", one.subject


def _news(authority: ca_pb2.Authority, at: datetime) -> Iterator[str]:
    yield f"{_sentence(authority)}; since {ago(authority.since.ToDatetime(UTC), at)}"
    if authority.source:
        yield f"its files come from {authority.source}"
    for one in authority.waits_for:
        what = "left behind" if one.left_behind else "waits for"
        yield f"{what} {one.node_id}: {one.why}"


def _ends(moment: datetime, at: datetime) -> str:
    return f"expires in {ago(at, moment)}" if moment > at else f"expired {ago(moment, at)} ago"


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        print(text, flush=True)
