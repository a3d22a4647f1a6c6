"""Two pairs of real Envoys: as Proa makes them, and as little as possible. Nothing of them outlives this process."""

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mesh.agent.envoy import find
from mesh.agent.process import LAUNCHER
from mesh.agent.sidecar import ARGUMENTS
from tests.bench.rig import ROOT
from tests.ports import free_port

PATIENCE = 30.0
"""Seconds for a control plane or a pair to start, when others use the machine, too."""


class NoPairError(Exception):
    """A process of a pair ended or did not become ready, with the end of what it said."""


@dataclass(frozen=True)
class Pair:
    """`port` is where the caller calls, `pids` are those of the two Envoys, `ids` the SPIFFE ids by workload."""

    folder: Path
    port: int
    pids: Mapping[str, int]
    ids: Mapping[str, str]


@contextmanager
def service(tools: Path, port: int, folder: Path) -> Iterator[None]:
    """Answers every call with what it got."""
    log = folder / "service.log"
    with running([str(tools / "load"), "serve", f"tcp:{port}"], folder, log, subprocess.PIPE) as process:
        first_line(process, log)
        yield


@contextmanager
def own_pair(folder: Path, application: int, methods: int, retried: int) -> Iterator[Pair]:
    """The sidecars of `web`, which calls, and of `orders`, whose service listens at port `application`."""
    sizes = ["--methods", str(methods), "--retried", str(retried), "--application", str(application)]
    command = [sys.executable, "-m", "tests.bench.pair_control_plane", "--folder", str(folder), *sizes]
    envoy = [str(find().path), *ARGUMENTS]
    with running(command, ROOT, folder / "control-plane.log", subprocess.PIPE) as control_plane:
        said = first_line(control_plane, folder / "control-plane.log")
        ports = {"outbound": said["outbound"], "inbound": said["inbound"]}
        with sidecars({"outbound": (envoy, folder / "web"), "inbound": (envoy, folder / "orders")}, ports) as pids:
            yield Pair(folder, said["outbound"], pids, said["ids"])


@contextmanager
def minimal_pair(ruler: ModuleType, own: Pair, application: int) -> Iterator[Pair]:
    """With the certificates of `own`, and in a folder below its own."""
    folder, ports = own.folder / "minimal", {"outbound": free_port(), "inbound": free_port()}
    web, orders = (
        ruler.Identity(own.folder / name / "leaf.pem", own.folder / name / "key.pem", own.ids[name])
        for name in ("web", "orders")
    )
    places = (f"tcp:{ports['outbound']}", ports["inbound"], f"tcp:{application}")
    outbound, inbound = (
        (ruler.command(str(find().path), config), folder)
        for config in ruler.write_pair(folder, *places, web, orders, own.folder / "roots.pem")
    )
    with sidecars({"outbound": outbound, "inbound": inbound}, ports) as pids:
        yield Pair(folder, ports["outbound"], pids, own.ids)


@contextmanager
def sidecars(
    commands: Mapping[str, tuple[Sequence[str], Path]], ports: Mapping[str, int]
) -> Iterator[Mapping[str, int]]:
    """Process ids by name, once each listens at its port."""
    with ExitStack() as stack:
        logs = {name: folder / f"{name}.log" for name, (_, folder) in commands.items()}
        started = {
            name: stack.enter_context(running(command, folder, logs[name]))
            for name, (command, folder) in commands.items()
        }
        for name, process in started.items():
            until_open(ports[name], process, logs[name])
        yield {name: process.pid for name, process in started.items()}


@contextmanager
def running(
    command: Sequence[str], folder: Path, log: Path, output: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with this block, and by the kernel with this process. It has the process id of `command`."""
    launched = [sys.executable, "-I", "-S", str(LAUNCHER), "--parent", str(os.getpid()), "--", *command]
    with (
        log.open("wb") as file,
        subprocess.Popen(
            launched, cwd=folder, stdin=subprocess.PIPE, stdout=output or file, stderr=file, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()


def first_line(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    assert process.stdout
    if not select.select([process.stdout], [], [], PATIENCE)[0] or not (line := process.stdout.readline()):
        raise NoPairError(f"{log.stem} does not start: {tail(log)}")
    said: dict[str, Any] = json.loads(line)
    return said


def until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise NoPairError(f"{log.stem} does not listen: {tail(log)}")


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
