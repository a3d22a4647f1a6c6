"""Workloads that come, change and go while the mesh runs, and services that have never heard of a mesh."""

import http.client
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.load import connected, get_book, load
from tests.mesh.running import BOOKSTORE, RunningMesh, documents, eventually, soon, workload

pytestmark = pytest.mark.envoy

SLEEP = {"command": ["sleep", "1000"], "health": {"type": "none"}}


def names(mesh: RunningMesh) -> list[str]:
    return [one["instance"] for one in mesh.file["workloads"]]


def apply(mesh: RunningMesh, *parts: Any) -> str:
    done = mesh.proa("apply", "-f", "-", text=documents(*parts))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_applied_workload_starts_changes_and_stops(launch: Callable[..., RunningMesh], tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(documents(workload("first", **SLEEP)))
    mesh = launch(file)

    assert apply(mesh, workload("second", **SLEEP)) == "Workload/test/second created\n"
    eventually(lambda: names(mesh) == ["first-0", "second-0"])
    first = mesh.instance("first")

    assert apply(mesh, workload("second", **SLEEP, replicas=2)) == "Workload/test/second configured\n"
    eventually(lambda: names(mesh) == ["first-0", "second-0", "second-1"])
    mesh.remember()

    apply(mesh, workload("second", command=["sleep", "2000"], health={"type": "none"}))
    eventually(lambda: len(mesh.instances("second")) == 1 and "sleep 2000" in commands(mesh, "second"))
    mesh.remember()

    assert mesh.proa("delete", "workload", "second").returncode == 0
    eventually(lambda: names(mesh) == ["first-0"])
    assert mesh.instance("first") == first


def commands(mesh: RunningMesh, name: str) -> str:
    import psutil

    return " ".join(" ".join(psutil.Process(one["pid"]).cmdline()) for one in mesh.instances(name) if one["pid"])


def test_an_applied_document_wins_over_the_file_and_stays(launch: Callable[..., RunningMesh], tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(documents(workload("one", **SLEEP), workload("two", **SLEEP)))
    mesh = launch(file)
    assert "created (wins over the one in the file of `proa up`)" in apply(mesh, workload("one", **SLEEP, replicas=2))
    eventually(lambda: len(mesh.instances("one")) == 2)
    mesh.end()

    file.write_text(documents(workload("one", **SLEEP), workload("three", **SLEEP)))
    again = launch(file)
    assert "Workload/test/one: the applied document counts, not the one in the file\n" in again.printed
    assert names(again) == ["one-0", "one-1", "three-0"], "what left the file is gone, what was applied is not"

    assert "deleted; the one in the file of `proa up` counts again" in again.proa("delete", "workload", "one").stdout
    eventually(lambda: [one["name"] for one in again.file["workloads"]] == ["one", "three"])


async def test_a_changed_workload_is_replaced_under_load(
    launch: Callable[..., RunningMesh], bookstore: Callable[..., Path]
) -> None:
    mesh = launch(BOOKSTORE)
    before = mesh.instance("catalog")
    changed = bookstore(catalog={"env": {"LOG_LEVEL": "WARNING"}})
    async with connected(mesh.upstream("orders", "catalog")) as catalog, load(get_book(catalog)) as calls:
        await mesh.do("apply", "-f", str(changed))
        await soon(lambda: [one["instance"] for one in mesh.instances("catalog")] == ["catalog-1"])
        mesh.remember()

    assert calls.failures == []
    assert mesh.instance("catalog")["pid"] != before["pid"]


ECHO = """
import socketserver, os
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"echo " + self.rfile.readline())
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer((os.environ["HOST"], int(os.environ["PORT_ECHO"])), Echo).serve_forever()
"""


def test_unmodified_http_and_tcp_services_run_behind_sidecars(
    launch: Callable[..., RunningMesh], tmp_path: Path
) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "index.html").write_text("hello")
    file = tmp_path / "mesh.yaml"
    file.write_text(
        documents(
            workload(
                "web",
                command=["${python}", "-m", "http.server", "--bind", "${host}", "${port}"],
                workingDirectory="www",
                port=None,
                ports=[{"port": 80, "appProtocol": "http"}],
            ),
            workload(
                "echo", command=["${python}", "-c", ECHO], ports=[{"name": "echo", "port": 7, "appProtocol": "tcp"}]
            ),
            workload(
                "client",
                **SLEEP,
                env={"ALL": "${upstreams.web} ${upstreams.echo}"},
                upstreams=[{"service": "web", "env": "WEB"}, {"service": "echo", "port": 7, "env": "ECHO"}],
            ),
        )
    )
    mesh = launch(file)

    web = http.client.HTTPConnection(mesh.upstream("client", "web"), timeout=5)
    web.request("GET", "/index.html")
    assert web.getresponse().read() == b"hello"
    web.close()

    host, _, port = mesh.upstream("client", "echo").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as echo:
        echo.sendall(b"me\n")
        assert echo.recv(100) == b"echo me\n"

    import psutil

    environment = psutil.Process(mesh.instance("client")["pid"]).environ()
    assert environment["WEB"] == mesh.upstream("client", "web")
    assert environment["ALL"] == f"{mesh.upstream('client', 'web')} {mesh.upstream('client', 'echo')}"
    assert json.loads(mesh.proa("proxy-status", "-o", "json").stdout)["proxies"][0]["state"] == "SYNCED"
    assert re.search(r"^mesh ready: 3 workloads, 3 instances \(", mesh.printed, re.MULTILINE)
