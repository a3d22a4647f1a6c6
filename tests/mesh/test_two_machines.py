"""One mesh on two machines: two network namespaces with a wire between them, which is cut and mended."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mesh.agent.launcher import __file__ as launcher_file
from mesh.local.state import State
from tests.mesh.running import PROA, RunningMesh, documents, eventually, patience, workload

pytestmark = pytest.mark.envoy

GET = """
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open(f"http://{sys.argv[1]}/name", timeout=3).read().decode())
"""


@dataclass(frozen=True)
class Machine:
    """A network namespace with an address on the wire. It has no name, and ends with its first process."""

    pid: int
    address: str

    @property
    def within(self) -> tuple[str, ...]:
        return "nsenter", f"--net=/proc/{self.pid}/ns/net", "--"

    def get(self, address: str) -> str:
        """What an HTTP server says to somebody on this machine; "" when it says nothing."""
        done = subprocess.run(
            [*self.within, sys.executable, "-c", GET, address], capture_output=True, text=True, timeout=20, check=False
        )
        return done.stdout.strip()

    def wire(self, state: str) -> None:
        self.ip("link", "set", "wire", state)

    def ip(self, *words: str) -> None:
        command = [*self.within, "ip", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no network namespaces here: {' '.join(command)}: {done.stderr.strip()}")


@contextmanager
def machine(address: str) -> Iterator[Machine]:
    """It goes when the block ends, or whoever runs it: that closes the stdin of `cat`."""
    command = ["unshare", "--net", "sh", "-c", "echo ready; exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        assert first.stdout is not None
        if first.stdout.readline() != b"ready\n":
            pytest.skip(f"no network namespaces here: {first.communicate()[1].decode()}")
        try:
            yield Machine(first.pid, address)
        finally:
            first.communicate()


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    for program in ("ip", "unshare", "nsenter"):
        if not shutil.which(program):
            pytest.skip(f"there is no {program} (iproute2 and util-linux have them)")
    with machine("10.213.7.1") as here, machine("10.213.7.2") as there:
        here.ip("link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(there.pid))
        for one in (here, there):
            one.ip("address", "add", f"{one.address}/24", "dev", "wire")
            for device in ("lo", "wire"):
                one.ip("link", "set", device, "up")
        yield here, there


@dataclass
class Elsewhere:
    """`proa agent run` on a machine; its service says `there`."""

    machine: Machine
    server: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        launcher = [sys.executable, "-I", "-S", launcher_file, "--parent", str(os.getpid()), "--"]
        service = [sys.executable, "-m", "http.server", "--bind", "${host}", "${port}"]
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(*launcher, *self.machine.within, *PROA, "agent", "run", "--server", self.server),
                    *("--workload", "there", "-n", "test", "--address", self.machine.address),
                    *("--dir", str(self.folder / "kept"), *options, "--", *service),
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=20 * patience()) == 0, self.log
            assert not State.at(self.folder / "kept").run.exists()
            self.process = None

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    @property
    def upstream(self) -> str:
        """Where its service finds `here`: a listener of its own sidecar, on its own machine."""
        (ports,) = json.loads((self.folder / "kept" / "ports.json").read_text()).values()
        return f"127.0.0.1:{ports['upstream/here']}"


@pytest.fixture
def two(
    machines: tuple[Machine, Machine], launch: Callable[..., RunningMesh], tmp_path: Path
) -> Iterator[tuple[RunningMesh, Elsewhere]]:
    here, there = machines
    for name in ("here", "there"):
        (tmp_path / name).mkdir(mode=0o700)
        (tmp_path / name / "name").write_text(name)
    http = {"port": 80, "appProtocol": "http"}
    serve = {"command": ["python", "-m", "http.server", "--bind", "${host}", "${port}"]}
    mesh_file = tmp_path / "mesh.yaml"
    mesh_file.write_text(
        documents(
            workload(
                "here", **serve, workingDirectory=str(tmp_path / "here"), ports=[http], upstreams=[{"service": "there"}]
            ),
            workload("there", **serve, replicas=0, ports=[http], upstreams=[{"service": "here"}]),
        )
    )
    server = f"{here.address}:7443"
    options = ("--listen", server, "--address", here.address)
    mesh = launch(mesh_file, options=options, within=here.within)
    elsewhere = Elsewhere(there, server, tmp_path / "there")
    try:
        yield mesh, elsewhere
    finally:
        elsewhere.end()


def test_one_mesh_spans_two_machines_and_outlives_their_wire(two: Any, machines: Any, tmp_path: Path) -> None:
    (mesh, elsewhere), (here, there) = two, machines
    token = tmp_path / "there.token"
    made = mesh.proa("token", "create", "there", "-n", "test", "--to", str(token))
    assert made.returncode == 0, made.stderr
    assert token.stat().st_mode & 0o777 == 0o600

    elsewhere.start("--token", str(token))
    to_there = mesh.upstream("here", "there")

    def both_ways() -> bool:
        return here.get(to_there) == "there" and there.get(elsewhere.upstream) == "here"

    eventually(lambda: here.get(to_there) == "there", 30, lambda: elsewhere.log)
    eventually(both_ways, 10, lambda: elsewhere.log)
    assert mesh.instance("here")["envoy"]["inbound"].startswith(here.address)

    # What is kept is enough for a new start: the token was for one.
    elsewhere.end()
    assert json.loads(token.read_text())["token"] not in elsewhere.log
    token.unlink()
    elsewhere.start()
    eventually(both_ways, 30, lambda: elsewhere.log)

    there.wire("down")
    assert here.get(to_there) == ""
    eventually(lambda: not any("/there/" in node for node in mesh.proxies()), 45, lambda: str(mesh.proxies()))
    assert there.get(elsewhere.upstream) == ""

    there.wire("up")
    eventually(both_ways, 45, lambda: elsewhere.log)
    assert elsewhere.log.count("agent_started") == 2


def test_a_second_use_of_a_token_and_a_control_plane_of_others_are_refused(two: Any, tmp_path: Path) -> None:
    mesh, elsewhere = two
    token, other = tmp_path / "there.token", tmp_path / "other.token"
    assert mesh.proa("token", "create", "here", "-n", "test", "--to", str(token)).returncode == 0
    elsewhere.start("--token", str(token))
    assert elsewhere.process.wait(timeout=30 * patience()) == 1
    assert "it is for test/here, not for test/there" in elsewhere.log

    # With the roots of another mesh in its file, it does not even show its token.
    written = json.loads(token.read_text())
    from datetime import UTC, datetime

    from mesh.identity.ca import new_root, pem

    other.touch(0o600)
    other.write_text(json.dumps({**written, "roots": pem(new_root("proa.local", datetime.now(UTC))[1])}))
    elsewhere.start("--token", str(other))
    eventually(lambda: "control_plane_away" in elsewhere.log, 30, lambda: elsewhere.log)
    assert elsewhere.process.poll() is None
