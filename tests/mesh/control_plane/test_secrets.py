"""No secret of a running mesh is in anything that it prints, logs, shows or answers, and none gets into a core file."""

import json
import re
import sqlite3
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator

import grpc
import psutil
import pytest
from google.protobuf.json_format import MessageToJson

from mesh.api.envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from mesh.api.proa.v1 import agents_pb2, agents_pb2_grpc
from tests.mesh.control_plane.plane import WHO, Plane
from tests.mesh.running import BOOKSTORE, RunningMesh, command_line
from tests.scrape import read

pytestmark = pytest.mark.envoy

KEY = re.compile(r"-----BEGIN (?:EC )?PRIVATE KEY-----(.+?)-----END", re.DOTALL)


def keys_in(text: str) -> Iterator[str]:
    """Parts of each private key: of its base64, a line of which may be broken or escaped anywhere else."""
    for found in KEY.findall(text.replace("\\n", "\n")):
        body = re.sub(r"\s", "", found)
        yield from (body[start : start + 40] for start in (20, 60, 100))


def secrets_of(mesh: RunningMesh) -> set[str]:
    folder = mesh.state.folder
    files = [*(folder / "ca").rglob("*.key"), *(folder / "instances").glob("*/sds/current/id.json")]
    keys = {part for path in files for part in keys_in(path.read_text())}
    assert len(keys) == 3 * len(files) >= 12
    with sqlite3.connect(folder / "state.db") as state:
        ((tokens,),) = state.execute("SELECT value FROM keys").fetchall()
    return {*keys, tokens.hex(), b64encode(tokens).decode()[:40], urlsafe_b64encode(tokens).decode()[:40]}


def printed(mesh: RunningMesh) -> Iterator[tuple[str, str]]:
    """What commands say: of everything that there is, in every form."""
    commands = (
        *("proxy-status -o json", "ca status -o json", "token list -o json", "identity list", "audit -o json"),
        *("get workloads -A -o json", "check -o json", "schema get -o json", "get workloads -A"),
        *(f"debug snapshot bookstore/{name}/{name}-0" for name in ("orders", "catalog", "inventory")),
    )
    for command in commands:
        done = mesh.proa(*command.split())
        assert done.returncode == 0, done.stderr
        yield f"proa {command}", done.stdout + done.stderr
    yield "proa render", mesh.proa("render", "-f", str(BOOKSTORE)).stdout


def written(mesh: RunningMesh) -> Iterator[tuple[str, str]]:
    for path in (*(mesh.state.folder / "logs").iterdir(), mesh.state.mesh_file, mesh.state.ports, mesh.output):
        yield path.name, path.read_text(errors="replace")
    for path in (mesh.state.folder / "instances").glob("*/bootstrap.json"):
        yield str(path), path.read_text()


def processes(mesh: RunningMesh) -> Iterator[tuple[str, str]]:
    mesh.remember()
    for process in mesh.pids:
        yield f"the words of {process.pid}", " ".join(command_line(process))
        yield f"the variables of {process.pid}", json.dumps(process.environ())


async def answered(plane: Plane) -> tuple[str, str]:
    async with grpc.aio.insecure_channel(plane.mesh.file["control_plane"]["address"]) as channel:
        clients = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)
        dump = await clients.FetchClientStatus(csds_pb2.ClientStatusRequest())
        assert len(dump.config) == 3
        return "client status", MessageToJson(dump)


async def refused(plane: Plane, token: str) -> tuple[str, str]:
    async with plane.channel("first contact", None) as channel:
        agents = agents_pb2_grpc.AgentServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await agents.SignCertificate(agents_pb2.SignCertificateRequest(**WHO, csr=b"nonsense", token=token))
        return "an error", str(caught.value.details())


async def test_no_secret_is_in_anything_that_is_said_shown_or_written(plane: Plane) -> None:
    mesh = plane.mesh
    token = await plane.token(**WHO)
    said = [*printed(mesh), *written(mesh), *processes(mesh), await answered(plane), await refused(plane, token)]
    said.append(("metrics", read(mesh.file["control_plane"]["metrics"])))
    said.append(("the log, now", plane.log()))
    assert sum(len(text) for _, text in said) > 100_000

    secrets = {*secrets_of(mesh), token, token.split(".")[2]}
    found = {where for where, text in said for secret in secrets if secret in re.sub(r"\\n|\s", "", text)}
    assert found == set()
    assert {where for where, text in said if "PRIVATE KEY" in text} == set()


def test_keys_are_in_files_for_their_owner_alone(plane: Plane) -> None:
    """And what is found in no output above is found there: the test looks for the right thing."""
    folder, secrets = plane.mesh.state.folder, secrets_of(plane.mesh)
    holding = {
        path
        for path in folder.rglob("*")
        if path.is_file() and any(one in re.sub(r"\\n|\s", "", path.read_text(errors="replace")) for one in secrets)
    }
    assert {path.relative_to(folder).parts[0] for path in holding} == {"ca", "instances"}
    for path in (*holding, folder / "state.db"):
        assert path.stat().st_mode & 0o077 == 0
        assert all(parent.stat().st_mode & 0o077 == 0 for parent in path.parents if parent.is_relative_to(folder))


def test_the_control_plane_leaves_no_core_file(plane: Plane) -> None:
    process = psutil.Process(plane.mesh.file["control_plane"]["pid"])
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
