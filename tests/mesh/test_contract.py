"""What other programs rely on: the keys of every answer, their description, and that nobody has to read along."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.running import (
    BOOKSTORE,
    PROA,
    RETRY,
    ROOT,
    RunningMesh,
    documents,
    eventually,
    patience,
    proa,
    workload,
)

pytestmark = pytest.mark.envoy

DOCUMENT = {"apiVersion", "kind", "metadata", "spec", "status"}
STATUS = {"status.from", "status.where", "status.shadowsFile", "status.conditions[].reason"}
CHANGES = {"revision", "changes[].key.kind", "changes[].key.name", "changes[].action", "changes[].shadowsFile"}
WORKLOAD = {"namespace", "name", "replicas", "generation", "drain", "grace", "where", "fixedPort"}

ANSWERS = {
    "get workload orders": DOCUMENT | STATUS,
    "get workloads": {f"items[].{key}" for key in DOCUMENT | STATUS},
    "describe workload orders": {f"items[].{key}" for key in DOCUMENT | STATUS},
    f"apply -f {RETRY}": {"applied", "problems"} | CHANGES,
    f"delete -f {RETRY}": CHANGES,
    "proxy-status": {
        f"proxies[].{key}"
        for key in (
            *("nodeId", "identity", "envoyVersion", "state", "since", "configVersion", "lastNack"),
            *("bytesSent", "resourcesSent", "connectedSince"),
            *("types[].typeUrl", "types[].sent", "types[].acked", "types[].resources"),
        )
    },
    f"render -f {BOOKSTORE} --proxy orders": {"bootstrap", "clusters", "endpoints", "listeners", "routes"},
    "scale orders 1": WORKLOAD,
    "restart catalog": WORKLOAD,
    "logs orders": {"lines[].source", "lines[].line"},
}


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Every key in it, `a.b[].c`, and each way there."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield f"{at}{key}"
            yield from paths(part, f"{at}{key}.")
    elif isinstance(value, list):
        for part in value:
            yield from paths(part, f"{at.removesuffix('.')}[].")


def test_the_keys_of_every_answer_stay_and_are_described(mesh: RunningMesh) -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    for command, keys in ANSWERS.items():
        done = mesh.proa(*command.split(), "-o", "json")
        assert done.returncode == 0, (command, done.stderr)
        assert keys - set(paths(json.loads(done.stdout))) == set(), command
        top = {key.partition(".")[0].removesuffix("[]") for key in keys}
        assert [key for key in top - DOCUMENT if f'"{key}"' not in page] == [], f"{command}: not in docs/commands.md"
        as_yaml = mesh.proa(*command.split(), "-o", "yaml")
        assert as_yaml.returncode == 0 or command.startswith("delete"), (command, as_yaml.stderr)
    followed = mesh.proa("logs", "orders", "--follow", "-o", "json")
    assert (followed.returncode, followed.stderr.startswith("error: --follow: what is followed has no end")) == (
        2,
        True,
    )
    mesh.remember()

    down = mesh.proa("down", "-o", "json")
    assert json.loads(down.stdout) == {"ended": True, "pid": mesh.process.pid, "state": str(mesh.state.folder)}
    assert {"proa", "envoy", "python"} == json.loads(proa("version", "-o", "json").stdout).keys()


def test_mesh_json_has_every_key_that_was_promised(shared: RunningMesh) -> None:
    keys = {
        *(
            "control_plane.address",
            "control_plane.pid",
            "control_plane.xds",
            "control_plane.metrics",
            "gateway",
            "dashboard",
        ),
        *(f"workloads[].{key}" for key in ("name", "namespace", "service", "version", "instance", "identity")),
        *(f"workloads[].{key}" for key in ("pid", "address", "agent.pid", "envoy.pid", "envoy.admin")),
        *(f"workloads[].envoy.{key}" for key in ("inbound", "outbound", "upstreams.inventory")),
    }

    assert keys - set(paths(shared.file)) == set()


def test_a_mesh_goes_on_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    state, errors = tmp_path / "state", tmp_path / "errors"
    mesh_file = state / "mesh.json"
    file = tmp_path / "mesh.yaml"
    file.write_text(IDLE)
    with errors.open("wb") as stderr:
        process = subprocess.Popen([*PROA, "up", str(file), "--state", str(state)], stdout=writer, stderr=stderr)
    os.close(writer)
    try:
        eventually(mesh_file.exists, within=60.0, otherwise=errors.read_text)
        assert proa("proxy-status", "--state", str(state)).returncode == 0
    finally:
        process.terminate()
        assert process.wait(timeout=20 * patience()) == 0, errors.read_text()


def test_documents_that_no_message_holds_are_refused_at_the_door(tmp_path: Path, write: Callable[[int], Path]) -> None:
    done = proa("up", str(write(15)), str(write(2)), "--state", str(tmp_path / "state"))

    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}/15.yaml: all files together have more than 15 MiB. Name fewer files\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[int], Path]:
    """`write(3)` is a file of 3 MiB."""

    def written(mebibytes: int) -> Path:
        path = tmp_path / f"{mebibytes}.yaml"
        path.write_text("#" * (mebibytes << 20))
        return path

    return written


IDLE = """
apiVersion: proa.mesh/v1alpha1
kind: Workload
metadata: {name: idle}
spec: {command: [sleep, "1000"], health: {type: none}}
"""


def test_a_mesh_ends_within_drain_and_grace_and_5_seconds_whatever_hangs(
    launch: Callable[..., RunningMesh], tmp_path: Path
) -> None:
    """One service does not listen to SIGTERM, and the agent of another does nothing any more."""
    stubborn = {"command": ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"], "health": {"type": "none"}}
    frozen = {"command": ["sleep", "1000"], "health": {"type": "none"}}
    limits = {"drain": "1s", "grace": "1s"}
    file = tmp_path / "mesh.yaml"
    file.write_text(documents(workload("stubborn", **stubborn, stop=limits), workload("frozen", **frozen, stop=limits)))
    mesh = launch(file)
    os.kill(mesh.instance("frozen")["agent"]["pid"], signal.SIGSTOP)
    mesh.interrupt()

    assert mesh.wait(within=1 + 1 + 5) == 0
    mesh.assert_nothing_is_left()
