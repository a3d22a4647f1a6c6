"""A real mesh: `proa up` as a process, as a person would run it."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from mesh.agent.launcher import __file__ as launcher_file
from mesh.local.state import State
from tests.mesh import warm

ROOT = Path(__file__).parents[2]
BOOKSTORE = ROOT / "services" / "bookstore" / "mesh.yaml"
RETRY = BOOKSTORE.with_name("retry.yaml")
PROA = [str(Path(sys.executable).with_name("proa"))]

READY_WITHIN = 60.0
STOPS_WITHIN = 20.0
"""`drain` + `grace` of the bookstore, and 5 s more."""

T = TypeVar("T")


def patience() -> float:
    """How much longer things may take here than on a machine that does nothing else: 1, or how many share a core."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@dataclass
class RunningMesh:
    """One `proa up`. `pids` remembers every process that was ever seen of it."""

    state: State
    process: subprocess.Popen[bytes]
    output: Path
    pids: set[psutil.Process] = field(default_factory=set)

    @property
    def file(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.state.mesh_file.read_text())
        return content

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def instances(self, workload: str) -> list[dict[str, Any]]:
        return [one for one in self.file["workloads"] if one["name"] == workload]

    def instance(self, workload: str) -> dict[str, Any]:
        """The entry of the only instance of a workload."""
        (entry,) = self.instances(workload)
        return entry

    def upstream(self, of: str, key: str) -> str:
        """Where a workload finds an upstream: a listener of its own sidecar."""
        address: str = self.instance(of)["envoy"]["upstreams"][key]
        return address

    def proa(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return warm.proa(*arguments, "--state", str(self.state.folder), text=text)

    async def do(self, *arguments: str) -> str:
        """Runs a command, which must succeed, without holding up what goes on here meanwhile; its stdout."""
        done = await asyncio.to_thread(self.proa, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def proxies(self) -> dict[str, dict[str, Any]]:
        """`proa proxy-status`, by node id."""
        done = self.proa("proxy-status", "-o", "json")
        assert done.returncode == 0, done.stderr
        return {proxy["nodeId"]: proxy for proxy in json.loads(done.stdout)["proxies"]}

    def remember(self) -> None:
        """Notes the processes that run now."""
        if self.process.poll() is None:
            parent = psutil.Process(self.process.pid)
            self.pids.update([parent, *parent.children(recursive=True)])

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        self.remember()
        self.process.send_signal(number)

    def wait(self, within: float = STOPS_WITHIN) -> int:
        """Its exit code."""
        return self.process.wait(timeout=within * patience())

    def end(self) -> None:
        """Ctrl-C; it has to end in order and leave nothing."""
        if self.process.poll() is None:
            self.interrupt()
            assert self.wait() == 0, self.printed
        self.assert_nothing_is_left()

    def assert_nothing_is_left(self, within: float = 5.0) -> None:
        """No process that was ever seen, no socket, no half-written file, and nobody holds the state folder."""
        eventually(lambda: not [process for process in self.pids if alive(process)], within, lambda: str(self.pids))
        eventually(lambda: not self.processes_of_this_state(), within, lambda: str(self.processes_of_this_state()))
        assert not self.state.run.exists(), list(self.state.run.iterdir())
        assert not self.state.mesh_file.exists()
        assert not [file for file in self.state.folder.rglob("*") if file.is_socket() or file.name.endswith(".new")]

    def processes_of_this_state(self) -> list[psutil.Process]:
        """All that name the state folder or the run folder in their command line, wherever they hang."""
        mine = (str(self.state.folder), str(self.state.run))
        return [
            process
            for process in psutil.process_iter()
            if alive(process) and any(name in word for word in command_line(process) for name in mine)
        ]


def start(
    state: Path,
    *files: Path | str,
    env: dict[str, str] | None = None,
    timeout: str = "",
    options: Iterable[str] = (),
    within: Iterable[str] = (),
) -> RunningMesh:
    """`proa up FILES --state STATE`, not ready yet; `within` are the words of a program that runs it elsewhere."""
    state.parent.mkdir(parents=True, exist_ok=True)
    limit = timeout or f"{READY_WITHIN * patience():.0f}s"
    output = state.with_name(f"{state.name}.{time.monotonic_ns()}.up")
    # A test run that is killed takes its meshes along.
    launcher = [sys.executable, "-I", "-S", launcher_file, "--parent", str(os.getpid()), "--"]
    with output.open("ab") as stream:
        process = subprocess.Popen(
            [*launcher, *within, *PROA, "up", *map(str, files), "--state", str(state), "--timeout", limit, *options],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # as a shell would: Ctrl-C reaches its group only
        )
    return RunningMesh(State.at(state), process, output)


def wait_until_ready(mesh: RunningMesh) -> None:
    def ready() -> bool:
        assert mesh.process.poll() is None, mesh.printed
        return any(line.startswith("mesh ready") for line in mesh.printed.splitlines())

    eventually(ready, READY_WITHIN, lambda: mesh.printed)
    mesh.remember()


def proa(*arguments: str, text: str = "", timeout: float = 90.0) -> subprocess.CompletedProcess[str]:
    """One command, to its end; on a busy machine it may take longer."""
    return subprocess.run(
        [*PROA, *arguments], input=text, capture_output=True, text=True, timeout=timeout * patience(), check=False
    )


def eventually(
    condition: Callable[[], T], within: float = 15.0, otherwise: Callable[[], str] = lambda: "not in time"
) -> T:
    """What `condition` gives as soon as it is something; fails after `within` seconds, on a busy machine more."""
    deadline = time.monotonic() + within * patience()
    asked = time.monotonic()
    while not (value := condition()):
        assert time.monotonic() < deadline, otherwise()
        time.sleep(_pause(asked))
        asked = time.monotonic()
    return value


def _pause(asked: float) -> float:
    """Seconds until a condition is looked at again. To ask for it should not be what the machine is busy with."""
    return max(0.05, 2 * (time.monotonic() - asked))


async def soon(
    condition: Callable[[], T], within: float = 15.0, otherwise: Callable[[], str] = lambda: "not in time"
) -> T:
    """As `eventually`, while other tasks go on."""
    deadline = time.monotonic() + within * patience()
    asked = time.monotonic()
    while not (value := await asyncio.to_thread(condition)):
        assert time.monotonic() < deadline, otherwise()
        await asyncio.sleep(_pause(asked))
        asked = time.monotonic()
    return value


def taken(host: str, port: int) -> socket.socket:
    """The port, held by somebody else, as soon as it is free."""

    def take() -> socket.socket | None:
        try:
            return socket.create_server((host, port))
        except OSError:
            return None

    return eventually(take)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def admin(instance: dict[str, Any], path: str) -> Any:
    """Asks an Envoy's admin interface."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(instance["envoy"]["admin"].removeprefix("unix:"))
        connection.request("GET", path)
        answer = connection.getresponse().read()
    finally:
        connection.close()
    return json.loads(answer)


def documents(*written: Iterable[Any]) -> str:
    """A stream of YAML documents (JSON is YAML)."""
    return "\n---\n".join(json.dumps(document) for document in written)


def workload(name: str, **spec: Any) -> dict[str, Any]:
    """A Workload document in namespace `test`."""
    return {
        "apiVersion": "proa.mesh/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": name, "namespace": "test"},
        "spec": spec,
    }
