"""gRPC clients without a sidecar in a STRICT mesh: the real library, and nothing of ours in their process."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.grpc_client.joined import GENERATED, Caller, Joined, calling, joined, running_bootstrap
from tests.mesh.running import RETRY, ROOT, RunningMesh, admin, documents, patience, proa, soon
from tests.mesh.test_docs import blocks, commands

pytestmark = pytest.mark.envoy

PAGE = ROOT / "docs" / "grpc-clients.md"

LONG = "inventory.bookstore.svc.cluster.local"


def policy(name: str, **retry: Any) -> dict[str, Any]:
    return {
        "apiVersion": "proa.mesh/v1alpha1",
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": name, "namespace": "bookstore"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "inventory"}], "retry": retry},
    }


OFTEN = policy("often", numRetries=9, perRetry={"timeout": "1s"})
NEVER = policy("never", disabled=True)


@pytest.fixture
def mesh(mended: RunningMesh) -> RunningMesh:
    return mended


@pytest.fixture
async def client(mesh: RunningMesh, tmp_path: Path) -> AsyncIterator[Joined]:
    async with joined(mesh, tmp_path / "client") as it:
        yield it


@pytest.fixture
async def caller(client: Joined) -> AsyncIterator[Caller]:
    async with calling(client.folder) as it:
        yield it


@pytest.mark.parametrize("name", ["inventory", "inventory:50051", "inventory.bookstore", LONG, f"{LONG}:50051"])
async def test_a_client_calls_by_any_of_the_names_of_a_service(shared: RunningMesh, tmp_path: Path, name: str) -> None:
    async with joined(shared, tmp_path / "client") as client, calling(client.folder) as caller:
        assert await caller.call(name) == "OK"
        # It may call with what it has not answered for yet.
        await soon(lambda: is_synced(shared, client.node))

        proxy = shared.proxies()[client.node]
    assert proxy["identity"] == "spiffe://proa.local/ns/bookstore/sa/reporter"
    assert proxy["state"] == "SYNCED"
    assert "Python" in proxy["envoyVersion"]
    assert proxy["unmet"] == []


async def test_what_it_says_and_keeps_is_for_its_owner_alone(shared: RunningMesh, tmp_path: Path) -> None:
    async with joined(shared, tmp_path / "client", "-o", "json") as client:
        assert client.said == "{\n"
    async with joined(shared, tmp_path / "client") as client:
        assert client.said == f"export GRPC_XDS_BOOTSTRAP={client.folder}/bootstrap.json\n"
        files = [path for path in client.folder.rglob("*") if path.is_file()]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        assert "PRIVATE KEY" not in client.log + client.said


async def test_a_client_of_another_namespace_calls_by_the_long_names_alone(shared: RunningMesh, tmp_path: Path) -> None:
    """Scope is for sidecars: a client asks by name for what it calls."""
    async with joined(shared, tmp_path / "client", namespace="elsewhere") as client, calling(client.folder) as caller:
        assert await caller.call("inventory.bookstore") == "OK"
        short = await caller.ask("call inventory")

        proxy = shared.proxies()[client.node]
    assert short["status"].startswith("UNAVAILABLE")
    assert short["seconds"] < 10, "gRPC's own patience is 15 s"
    assert proxy["identity"] == "spiffe://proa.local/ns/elsewhere/sa/reporter"
    assert proxy["unmet"] == ["it asks for inventory, and no service has that name there"]


async def test_the_page_does_what_it_says(shared: RunningMesh, tmp_path: Path) -> None:
    [command] = [words for words in commands(PAGE) if "bootstrap" in words]
    [program] = blocks(PAGE, "python")
    (tmp_path / ".proa").symlink_to(shared.state.folder)
    assert command[0] == "proa"
    async with running_bootstrap(command[1:], tmp_path / "client", cwd=tmp_path) as client:
        paths = {"GRPC_XDS_BOOTSTRAP": client.said.partition("=")[2].strip(), "PYTHONPATH": str(GENERATED)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, env={**os.environ, **paths}
        )
        said, _ = await process.communicate()

    assert "book_id: 42" in said.decode()


async def test_it_leaves_when_it_ends_and_is_the_same_one_when_it_is_back(shared: RunningMesh, tmp_path: Path) -> None:
    async with joined(shared, tmp_path / "client") as client:
        node = client.node
        assert node in shared.proxies()
        assert await client.end() == 0
    await soon(lambda: node not in shared.proxies(), within=5)  # and not by its term of 10 s

    async with joined(shared, tmp_path / "client") as client, calling(client.folder) as caller:
        assert client.node == node
        assert await caller.call("inventory") == "OK"


async def test_one_that_is_killed_is_gone_after_its_term(shared: RunningMesh, tmp_path: Path) -> None:
    async with joined(shared, tmp_path / "client") as client:
        client.kill()
        await soon(lambda: client.node not in shared.proxies(), within=20)


async def test_a_second_one_on_the_same_folder_is_refused(shared: RunningMesh, tmp_path: Path) -> None:
    async with joined(shared, tmp_path / "client") as client:
        refused = await asyncio.to_thread(bootstrap, shared, client.folder)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "another `proa bootstrap` keeps this folder" in refused.stderr


@pytest.mark.parametrize(
    ("account", "namespace", "said"),
    [
        pytest.param("control-plane", "proa-system", "this is the control plane itself", id="the control plane"),
        pytest.param("Re porter", "bookstore", "is not allowed. Use a-z", id="no name"),
    ],
)
def test_who_cannot_be_is_told_so(shared: RunningMesh, tmp_path: Path, account: str, namespace: str, said: str) -> None:
    refused = bootstrap(shared, tmp_path / "client", account, namespace)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.splitlines()[-1].startswith("error: ")
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_account_without_a_name_is_said_to_be_none(tmp_path: Path) -> None:
    """As of a variable that is not set. To the control plane it would be a workload without a name."""
    refused = proa("bootstrap", "grpc", "--service-account", "", "--dir", str(tmp_path / "c"))

    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --service-account: this is no name.")
    assert not (tmp_path / "c").exists()


def test_without_a_mesh_it_says_how_to_start_one(tmp_path: Path) -> None:
    refused = proa(
        "bootstrap", "grpc", "--service-account", "a", "--dir", str(tmp_path / "c"), "--state", str(tmp_path)
    )

    assert refused.returncode == 1
    assert "no mesh runs on this state folder. Start a mesh with `proa up`" in refused.stderr


def bootstrap(
    mesh: RunningMesh, folder: Path, account: str = "reporter", namespace: str = "bookstore"
) -> subprocess.CompletedProcess[str]:
    return mesh.proa("bootstrap", "grpc", "--service-account", account, "--dir", str(folder), "-n", namespace)


async def test_a_client_goes_on_while_the_control_plane_is_away_and_says_so(
    mesh: RunningMesh, client: Joined, caller: Caller
) -> None:
    async with caller.load("inventory"):
        killed = mesh.file["control_plane"]["pid"]
        os.kill(killed, signal.SIGKILL)
        await soon(lambda: " detached " in client.log)
        await soon(lambda: mesh.file["control_plane"]["pid"] not in (None, killed))
        await soon(lambda: client.log.count(" attached ") == 2)
    await soon(lambda: is_synced(mesh, client.node), within=60)
    mesh.remember()


def is_synced(mesh: RunningMesh, node: str) -> bool:
    done = mesh.proa("proxy-status", node, "-o", "json")
    return done.returncode == 0 and json.loads(done.stdout)["proxies"][0]["state"] == "SYNCED"


async def test_instances_that_come_and_go_fail_no_call(mesh: RunningMesh, caller: Caller) -> None:
    async with caller.load("inventory"):
        await mesh.do("scale", "inventory", "3")
        await soon(lambda: len(served(mesh)) == 3 and all(served(mesh)), otherwise=lambda: str(served(mesh)))
        await mesh.do("scale", "inventory", "1")
        await mesh.do("restart", "inventory")
    mesh.remember()


def served(mesh: RunningMesh) -> list[int]:
    """How many calls the sidecar of each instance has passed to its service."""
    path = "/stats?format=json&filter=^cluster.app/50051.upstream_rq_total$"
    return [sum(one["value"] for one in admin(instance, path)["stats"]) for instance in mesh.instances("inventory")]


@pytest.mark.timeout(300)
@pytest.mark.skipif(os.environ.get("PROA_EFFORT", "1") == "1", reason="takes two minutes: make test-long")
async def test_certificates_of_a_minute_are_renewed_and_no_call_fails(
    launch: Callable[..., RunningMesh], bookstore: Callable[..., Path], tmp_path: Path
) -> None:
    """Each restart of the callee means new handshakes, the last ones when the first certificate has long ended."""
    short = {"apiVersion": "proa.mesh/v1alpha1", "kind": "Mesh", "metadata": {"name": "default"}}
    file = bookstore()
    file.write_text(
        f"{file.read_text()}\n---\n{documents({**short, 'spec': {'certificates': {'leafLifetime': '60s'}}})}"
    )
    mesh = launch(file)
    async with (
        joined(mesh, tmp_path / "client") as client,
        calling(client.folder) as caller,
        caller.load("inventory"),
    ):
        for count in (2, 3, 4):
            await soon(lambda count=count: client.log.count("certificate_written") == count, within=60)
            await mesh.do("restart", "inventory")
    mesh.remember()


async def test_an_instance_that_is_killed_fails_no_call_that_may_be_made_again(
    mesh: RunningMesh, caller: Caller
) -> None:
    await mesh.do("scale", "inventory", "2")
    await mesh.do("apply", "-f", str(RETRY))
    async with caller.load("inventory"):
        await soon(lambda: len(served(mesh)) == 2 and all(served(mesh)), otherwise=lambda: str(served(mesh)))
        victim = mesh.instances("inventory")[0]
        for pid in (victim["envoy"]["pid"], victim["agent"]["pid"]):
            os.kill(pid, signal.SIGKILL)
            await caller.went_on(200)
    mesh.remember()
    await mesh.do("delete", "-f", str(RETRY))
    await mesh.do("scale", "inventory", "1")


async def test_a_policy_reaches_a_client_without_a_failed_call_and_what_it_cannot_do_is_said(
    mesh: RunningMesh, client: Joined, caller: Caller
) -> None:
    async with caller.load("inventory"):
        applied = await asyncio.to_thread(mesh.proa, "apply", "-f", "-", text=documents(OFTEN))
        assert applied.returncode == 0, applied.stderr
        await soon(lambda: "often" in status(mesh, client.node))
        said = status(mesh, client.node)
        await mesh.do("delete", "backendtrafficpolicy", "often", "-n", "bookstore")
        await soon(lambda: "often" not in status(mesh, client.node))

    lines = [line for line in said.splitlines() if "often" in line]
    assert [line.partition(" (")[0] for line in lines] == [f"{client.node}: BackendTrafficPolicy/bookstore/often"] * 2
    assert "retry.perRetry.timeout: a gRPC client" in lines[0]
    assert "retry.numRetries 9: a gRPC client makes 4 at most" in lines[1]


def status(mesh: RunningMesh, node: str) -> str:
    done = mesh.proa("proxy-status", node)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_what_the_proto_says_is_harmless_is_retried_unless_a_policy_says_no(
    launch: Callable[..., RunningMesh], bookstore: Callable[..., Path], tmp_path: Path
) -> None:
    mesh = launch(bookstore(inventory={"env": {"FAIL_EVERY": "3"}}))
    async with joined(mesh, tmp_path / "client") as client, calling(client.folder) as caller:
        await until(caller, {"INVALID_ARGUMENT"})

        applied = await asyncio.to_thread(mesh.proa, "apply", "-f", "-", text=documents(NEVER))
        assert applied.returncode == 0, applied.stderr
        await until(caller, {"INVALID_ARGUMENT", "UNAVAILABLE"})

        await mesh.do("delete", "backendtrafficpolicy", "never", "-n", "bookstore")
        await until(caller, {"INVALID_ARGUMENT"})


async def reserved(caller: Caller, times: int = 12) -> set[str]:
    """The statuses of calls that the service fails when it is told to, and refuses else."""
    return {(await caller.ask("reserve inventory"))["status"].partition(":")[0] for _ in range(times)}


async def until(caller: Caller, statuses: set[str]) -> None:
    async with asyncio.timeout(20 * patience()):
        while await reserved(caller) != statuses:
            pass
