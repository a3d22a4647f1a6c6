"""Who else follows another root: gRPC clients without a sidecar, and agents that reach the control plane by TCP."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from tests.mesh.certificates.calls import authority, in_use
from tests.mesh.grpc_client.joined import calling, joined
from tests.mesh.running import PROA, RunningMesh, documents, eventually, patience, soon, workload
from tests.ports import free_port

pytestmark = pytest.mark.envoy


async def test_a_grpc_client_without_a_sidecar_loses_no_call(mesh: RunningMesh, tmp_path: Path) -> None:
    async with joined(mesh, tmp_path / "client") as client, calling(client.folder) as caller:
        async with caller.load("inventory"):
            started = time.monotonic()
            await mesh.do("ca", "rotate")
            # Its files are read every five seconds, and there are three steps.
            assert time.monotonic() - started < 45 * patience()
            # New handshakes.
            await mesh.do("restart", "inventory")
            await caller.went_on(200)
        bundle = (client.folder / "certificates" / "current" / "roots.pem").read_bytes()
        (root,) = x509.load_pem_x509_certificates(bundle)
        assert in_use(mesh)[0] == {f"{root.serial_number:x}"}
        async with calling(client.folder) as another:
            assert await another.call("inventory") == "OK"
    mesh.remember()


@contextmanager
def agent(mesh: RunningMesh, server: str, folder: Path) -> Iterator[Callable[[], str]]:
    """`proa agent run` of the workload `there`, by TCP; gives its log."""
    token = folder / "token"
    done = mesh.proa("token", "create", "there", "-n", "test", "--to", str(token))
    assert done.returncode == 0, done.stderr
    command = [*PROA, "agent", "run", "--server", server, "--workload", "there", "-n", "test", "--token", str(token)]
    serve = [sys.executable, "-m", "http.server", "--bind", "${host}", "${port}"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--dir", str(folder / "kept"), "--", *serve], stdout=log, stderr=log, cwd=folder
        )
    try:
        yield (folder / "log").read_text
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20 * patience()) == 0


async def test_an_agent_that_came_by_tcp_follows(launch: Callable[..., RunningMesh], tmp_path: Path) -> None:
    server = f"127.0.0.1:{free_port(neighbours=1)}"  # the one above is for first contact
    file, elsewhere = tmp_path / "mesh.yaml", tmp_path / "there"
    elsewhere.mkdir(mode=0o700)
    serve = {"command": ["python", "-m", "http.server", "--bind", "${host}", "${port}"]}
    http = {"port": 80, "appProtocol": "http"}
    here = workload("here", **serve, ports=[http], upstreams=[{"service": "there"}])
    file.write_text(documents(here, workload("there", **serve, replicas=0, ports=[http])))
    mesh = launch(file, options=("--listen", server))
    with agent(mesh, server, elsewhere) as log:
        eventually(lambda: len(authority(mesh)["leaves"]) == 2, 30, log)
        for _ in range(2):
            (before,) = {one["serial"] for one in authority(mesh)["certificates"]}
            await mesh.do("ca", "rotate")
            assert [one["serial"] for one in authority(mesh)["certificates"]] != [before]
            assert not authority(mesh)["waitsFor"]
            assert len(authority(mesh)["leaves"]) == 2, "it was not waited for until it was forgotten"
        assert log().count(" attached ") > 1
        to_there = mesh.instance("here")["envoy"]["upstreams"]["there"]
        await soon(lambda: answered(to_there))
    mesh.remember()


def answered(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: there\r\nconnection: close\r\n\r\n")
        return connection.recv(64).startswith(b"HTTP/1.1 200")
