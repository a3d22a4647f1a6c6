"""A mesh that several tests have, one after the other, as long as each leaves it as it has found it."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mesh.running import RunningMesh, eventually, patience, start, wait_until_ready

SETTLES_WITHIN = 10.0
"""Seconds. To start another mesh takes about as long."""

LASTING = (
    "SELECT * FROM documents ORDER BY kind, namespace, name",
    "SELECT * FROM revoked ORDER BY name",
    "SELECT namespace, workload, service, version, digest FROM known ORDER BY 1, 2, 3, 4",
)
"""What is in the state until somebody takes it back: no use to wait for that."""


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
        before = Found(kept(mesh), shown(mesh), complaints(mesh))
        try:
            yield mesh
        finally:
            if not is_again(mesh, before):
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


@dataclass(frozen=True)
class Found:
    kept: list[Any]
    shown: tuple[Any, ...]
    complaints: set[str]


def is_again(mesh: RunningMesh, before: Found) -> bool:
    """Whether the mesh is as before, and all of it runs, now or within a moment."""
    if mesh.process.poll() is not None:
        return False
    mesh.remember()
    # A part of it may not answer.
    with suppress(AssertionError, OSError, ValueError, LookupError, sqlite3.Error):
        if kept(mesh) == before.kept:
            return eventually(lambda: is_well(mesh, before), SETTLES_WITHIN / patience())
    return False


def kept(mesh: RunningMesh) -> list[Any]:
    with closing(sqlite3.connect(f"file:{mesh.state.folder / 'state.db'}?mode=ro", uri=True)) as state:
        return [state.execute(query).fetchall() for query in LASTING]


def shown(mesh: RunningMesh) -> tuple[Any, ...]:
    """What the next test could notice of instances and proxies, and that is not of the moment as a process id is."""
    status = json.loads(mesh.proa("proxy-status", "-o", "json").stdout)
    instances = [(one["instance"], one["address"], one["envoy"]["inbound"]) for one in mesh.file["workloads"]]
    return instances, {one["nodeId"] for one in status["proxies"]}, status.get("refusedStreams")


def complaints(mesh: RunningMesh) -> set[str]:
    """What `proa check` says is not as it should be."""
    checks = json.loads(mesh.proa("check", "-o", "json").stdout)["checks"]
    return {one["check"] for one in checks if one["result"] != "ok"}


def is_well(mesh: RunningMesh, before: Found) -> bool:
    if not complaints(mesh) <= before.complaints or not mesh.file["control_plane"]["pid"]:
        return False
    if not all(one["pid"] and one["agent"]["pid"] and one["envoy"]["pid"] for one in mesh.file["workloads"]):
        return False
    return {proxy["state"] for proxy in mesh.proxies().values()} == {"SYNCED"} and shown(mesh) == before.shown
