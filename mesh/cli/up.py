"""`proa up`: a mesh in the foreground."""

import asyncio
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mesh.cli.addresses import check_address, check_listen
from mesh.cli.options import StateOption, TimeoutOption, duration_of
from mesh.cli.output import count, perhaps_unread, say, table
from mesh.cli.sources import source_files
from mesh.local.foreground import run
from mesh.local.state import DEFAULT_STATE, State
from mesh.local.supervisor import Reach

KILLED = 130
"""What a shell reports for a command that Ctrl-C has ended."""


def up(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="YAML file, folder of them, or -")],
    state: StateOption = None,
    timeout: TimeoutOption = "60s",
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT[,..]", help="Serve other machines, by mutual TLS.")
    ] = "",
    address: Annotated[
        str, typer.Option("--address", metavar="IP", help="Where callers on other machines reach the workloads.")
    ] = "127.0.0.1",
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="DIR", help="Sign with tls.crt, tls.key, ca.crt in DIR.", readable=False),
    ] = None,
) -> None:
    """Run a mesh until Ctrl-C.

    That is a control plane, the services, and an Envoy beside each.
    """
    started = time.monotonic()
    check_address(address)
    check_listen(listen)
    folder = state or DEFAULT_STATE
    screen = Screen(folder, started)
    in_order = asyncio.run(
        run(
            State.at(folder),
            source_files(files),
            duration_of(timeout),
            screen,
            Reach(listen, address),
            ca and ca.absolute(),
        )
    )
    if not in_order:
        raise typer.Exit(KILLED)


class Screen:
    """The audience of a supervisor: what happens on stdout, what is to be mended on stderr."""

    def __init__(self, folder: Path, started: float) -> None:
        self._folder = folder
        self._started = started

    def note(self, text: str) -> None:
        say(text, sys.stdout)

    def warn(self, text: str) -> None:
        say(f"warning: {text}", sys.stderr)

    def ready(self, mesh: Mapping[str, Any], workloads: int, left_out: int) -> None:
        columns = ("instance", "service at", "mTLS at", "calls")
        took = time.monotonic() - self._started
        with perhaps_unread(sys.stdout):
            table(columns, map(_row, mesh["workloads"]), empty="No workload is wanted yet: apply one.")
            print("\nTry next:", *(f"  {command}" for command in self._next(mesh)), "", sep="\n")
            print(_ready_line(workloads, len(mesh["workloads"]), left_out, took))

    def _next(self, mesh: Mapping[str, Any]) -> Iterator[str]:
        proa = "proa" if shutil.which("proa") else shlex.quote(sys.argv[0])
        state = "" if self._folder == DEFAULT_STATE else f" --state {shlex.quote(str(self._folder))}"
        # Whoever calls most is where a call shows most.
        callers = sorted(mesh["workloads"], key=lambda one: -len(one["envoy"]["upstreams"]))
        yield f"{proa} proxy-status{state}"
        addresses = [one["address"] for one in callers if one["address"]]
        yield f"grpcurl -plaintext {addresses[0]} list" if addresses else f"{proa} get workloads{state}"
        yield f"{proa} logs {callers[0]['name']} --follow{state}" if callers else f"{proa} apply -f FILE{state}"


def _row(workload: Mapping[str, Any]) -> tuple[str, ...]:
    envoy = workload["envoy"]
    return (
        f"{workload['namespace']}/{workload['instance']}",
        workload["address"] or "",
        envoy["inbound"] or "",
        "\n".join(f"{key}={address}" for key, address in envoy["upstreams"].items()),
    )


def _ready_line(workloads: int, instances: int, left_out: int, took: float) -> str:
    parts = [count(workloads, "workload"), count(instances, "instance")]
    if left_out:
        parts.append(f"{count(left_out, 'document')} left out")
    return f"mesh ready: {', '.join(parts)} ({took:.1f} s)"
