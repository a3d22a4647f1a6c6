"""`proa agent`: what runs beside a workload on another machine."""

import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from mesh.agent.folders import Folders
from mesh.agent.main import Options
from mesh.agent.main import run as run_agent
from mesh.agent.private import is_private
from mesh.cli.addresses import check_address
from mesh.cli.options import OfNamespaceOption, ServerOption, TokenOption
from mesh.errors import StartError, UsageError
from mesh.local.state import State
from mesh.model.names import DEFAULT_NAMESPACE, InstanceId

agent = typer.Typer()

NAME: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
"""Of what becomes a part of a node id and of paths; documents say more about names."""


@agent.command()
def run(
    workload: Annotated[str, typer.Option("--workload", metavar="NAME", help="Whose instance this is.")],
    server: ServerOption,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="The service; without, somebody starts it.")
    ] = None,
    token: TokenOption = None,
    address: Annotated[
        str, typer.Option("--address", metavar="IP", help="Where callers reach it; they are told so.")
    ] = "127.0.0.1",
    namespace: OfNamespaceOption = DEFAULT_NAMESPACE,
    instance: Annotated[str, typer.Option("--instance", metavar="NAME", help="Unlike any other (NAME-HOST).")] = "",
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where keys, ports and logs are kept.", readable=False)
    ] = Path(".proa-agent"),
) -> None:
    """Run a workload's Envoy, and its service if a COMMAND is given, on this machine until Ctrl-C.

    What the document says under `command` is for the machine of `proa up`, and not run here. The certificate is kept in
    DIR: a token is needed once.
    """
    check_address(address)
    who = InstanceId(namespace, workload, instance or _default_name(workload))
    for option, name in (("--namespace", namespace), ("--workload", workload), ("--instance", who.instance)):
        if not NAME.fullmatch(name):
            raise UsageError(option, f"{name!r} cannot be a name", "Use a-z, 0-9, - and ., at most 253 characters")
    state = State.at(folder)
    folders = Folders(state.folder, state.run, who)
    _make_private(state.folder, state.run)
    options = Options(server or "", folders, host=address, token=token, command=tuple(command or ()))
    try:
        exit_code = run_agent(options)
    finally:
        with suppress(OSError):  # another instance may have its socket there
            state.run.rmdir()
    raise typer.Exit(exit_code)


def _default_name(workload: str) -> str:
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:30]
    return f"{workload}-{host or 'host'}"


def _make_private(*folders: Path) -> None:
    """Raises StartError when others may look into one of them."""
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            private = is_private(folder)
        except OSError as error:
            raise StartError(str(folder), f"it cannot be made: {error.strerror}", "Name another with --dir") from error
        if not private:
            raise StartError(
                str(folder), "others may look into this folder", f"Run `chmod 700 {folder}`, or name another with --dir"
            )
