"""A mesh that several tests have, one after the other, as long as each leaves it as it has found it."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.mesh.running import RunningMesh, eventually, start, wait_until_ready

SETTLES_WITHIN = 10.0
"""Seconds. To start another mesh takes about as long."""

LASTING = (
    "SELECT * FROM documents ORDER BY kind, namespace, name",
    "SELECT * FROM revoked ORDER BY name",
    "SELECT namespace, workload, service, version, digest FROM known ORDER BY 1, 2, 3, 4",
)
"""What stays in the state until somebody takes it back."""


class Reused:
    """`lent` gives the mesh that runs, or another one after a test has left it changed."""

    def __init__(self, folder: Path, *files: Path) -> None:
        self._folder = folder
        self._files = files
        self._started = 0
        self._mesh: RunningMesh | None = None

    @contextmanager
    def lent(self) -> Iterator[RunningMesh]:
        mesh = self._mesh or self._start()
        before = found(mesh)
        try:
            yield mesh
        finally:
            if not (settled(mesh) and found(mesh) == before):
                self.end()

    def end(self) -> None:
        """In order, and nothing is left."""
        mesh, self._mesh = self._mesh, None
        if mesh:
            mesh.end()

    def _start(self) -> RunningMesh:
        self._started += 1
        self._mesh = mesh = start(self._folder / str(self._started) / "state", *self._files)
        try:
            wait_until_ready(mesh)
        except BaseException:
            self.end()
            raise
        return mesh


def found(mesh: RunningMesh) -> dict[str, Any]:
    """All that the next test could notice, and that is not of the moment as a process id is."""
    with closing(sqlite3.connect(f"file:{mesh.state.folder / 'state.db'}?mode=ro", uri=True)) as state:
        lasting = [state.execute(query).fetchall() for query in LASTING]
    status = json.loads(mesh.proa("proxy-status", "-o", "json").stdout)
    return {
        "instances": [(one["instance"], one["address"], one["envoy"]["inbound"]) for one in mesh.file["workloads"]],
        "lasting": lasting,
        "proxies": {one["nodeId"] for one in status["proxies"]},
        "refused": status.get("refusedStreams"),
    }


def settled(mesh: RunningMesh) -> bool:
    """Whether nothing of the mesh is wrong, at least within a moment."""
    if mesh.process.poll() is not None:
        return False
    mesh.remember()
    with suppress(AssertionError):
        return eventually(lambda: is_well(mesh), SETTLES_WITHIN)
    return False


def is_well(mesh: RunningMesh) -> bool:
    done = mesh.proa("check", "-o", "json")
    if done.returncode or any(one["result"] != "ok" for one in json.loads(done.stdout)["checks"]):
        return False
    return {proxy["state"] for proxy in mesh.proxies().values()} == {"SYNCED"} and runs_completely(mesh)


def runs_completely(mesh: RunningMesh) -> bool:
    """`mesh.json` names the processes of every instance."""
    return all(one["pid"] and one["agent"]["pid"] and one["envoy"]["pid"] for one in mesh.file["workloads"])
