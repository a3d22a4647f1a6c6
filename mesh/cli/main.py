"""The `proa` command."""

import os
import sys
from typing import Annotated, Final

import typer

from mesh.cli import (
    agent,
    bootstrap,
    ca,
    check,
    debug,
    documents,
    down,
    explain,
    identity,
    logs,
    proxies,
    render,
    schema,
    token,
    up,
    version,
    workloads,
)
from mesh.errors import MeshError

INTERRUPTED: Final = 130
"""What a shell reports for a command that Ctrl-C has ended."""

app = typer.Typer(
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
        version.version()
        raise typer.Exit


for command in (
    up.up,
    down.down,
    documents.apply,
    documents.get,
    documents.describe,
    documents.delete,
    proxies.proxy_status,
    check.check,
    render.render,
    workloads.scale,
    workloads.restart,
    logs.logs,
    identity.audit,
    version.version,
):
    app.command()(command)
app.add_typer(agent.agent)
app.add_typer(bootstrap.bootstrap)
app.add_typer(ca.ca)
app.add_typer(debug.debug)
app.add_typer(explain.explain)
app.add_typer(identity.identity)
app.add_typer(schema.schema)
app.add_typer(token.token)


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
