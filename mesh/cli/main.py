"""The `proa` command."""

import os
import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from mesh.errors import MeshError

INTERRUPTED: Final = 130
"""What a shell reports for a command that Ctrl-C has ended."""

COMMANDS: Final = {
    "up": ("up", "Run a mesh until Ctrl-C."),
    "down": ("down", "End a mesh as Ctrl-C does, and wait for it."),
    "apply": ("documents", "Add or replace documents, all or none."),
    "get": ("documents", "Show documents in force."),
    "describe": ("documents", "Show documents in full, with their conditions."),
    "delete": ("documents", "Delete applied documents, all or none."),
    "proxy-status": ("proxies", "Show what each proxy runs, and since when."),
    "check": ("check", "Look for what is not as it should be."),
    "render": ("render", "Print a proxy's configuration, from files alone."),
    "scale": ("workloads", "Run N instances of a workload."),
    "restart": ("workloads", "Replace the instances of a workload."),
    "logs": ("logs", "Print the output of a service, or its sidecar."),
    "audit": ("identity", "Show who has changed what, the newest first."),
    "version": ("version", "Show the versions of Proa, Envoy and Python."),
    "agent": ("agent", "Attach workloads on other machines."),
    "bootstrap": ("bootstrap", "Join the mesh without a sidecar."),
    "ca": ("ca", "Look at the roots of the mesh, or exchange them."),
    "debug": ("debug", "Look at xDS, or try it without a mesh."),
    "explain": ("explain", "Say why the mesh does what it does."),
    "identity": ("identity", "Take identities and certificates back."),
    "schema": ("schema", "See and tell which methods services have."),
    "token": ("token", "Let workloads and people in from other machines."),
}
"""In the order of the help: the module of each command or group of commands, and the first line of what it says."""


class Commands(TyperGroup):
    """Imports the module of a command when that is called: the others would only cost time."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # One that is not there is compared with all of them, for what was probably meant.
        for name in [cmd_name] if cmd_name in COMMANDS else COMMANDS:
            self.commands.setdefault(name, _command(name))
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _command(name: str) -> Any:
    module, summary = COMMANDS[name]
    found = getattr(import_module(f"mesh.cli.{module}"), name.replace("-", "_"))
    alone = typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name, help=summary, no_args_is_help=True)
    else:
        alone.command(name)(found)
    return typer.main.get_group(alone).commands[name]


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    show: Annotated[bool, typer.Option("--version", help="Show the versions of Proa, Envoy and Python.")] = False,
) -> None:
    """A service mesh for gRPC: real Envoy sidecars and the control plane that feeds them, by one command."""
    if show:
        from mesh.cli.version import version

        version()
        raise typer.Exit


def main() -> None:
    """Runs one command and ends the process: 0 done, 1 failed or not reachable, 2 wrong usage or unusable input."""
    try:
        app(prog_name="proa")
    except MeshError as error:
        sys.exit(_say(f"error: {error}", error.exit_code))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        # Whoever read our output has what he wanted (`proa logs | head`). To typer that is a failure.
        sys.exit(0 if isinstance(end.__context__, BrokenPipeError) else end.code)
    except Exception as error:
        if os.environ.get("PROA_DEBUG"):
            raise
        name = type(error).__name__
        sys.exit(_say(f"error: proa: {name}: {_one_line(error)}. Run it again with PROA_DEBUG=1 to see where", 1))


def _say(text: str, exit_code: int) -> int:
    print(text, file=sys.stderr)
    return exit_code


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or "no message"
