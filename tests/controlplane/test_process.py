"""The control plane as the process that it is: how it starts, ends, and comes back."""

import asyncio
import os
import signal
import socket
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from mesh.api.proa.v1 import status_pb2
from mesh.model.address import Address
from mesh.snapshot.types import CLUSTER
from tests.controlplane.conftest import SECONDS, connected
from tests.controlplane.proxy import credentials, proxy
from tests.mesh.running import patience
from tests.ports import free_port
from tests.unit.registry.builders import workload

Start = Callable[..., Awaitable[Process]]
TARGET = "shop/inventory/50051"
ORDERS = "shop/orders/orders-0"


@pytest.fixture
def api(tmp_path: Path) -> Path:
    return tmp_path / "run" / "api.sock"


@pytest.fixture
async def start(tmp_path: Path, api: Path) -> AsyncIterator[Start]:
    """`await start()` runs a control plane on the same state and addresses each time."""
    given = ("--state", str(tmp_path), "--api", f"unix:{api}", "--xds", f"127.0.0.1:{free_port()}")
    async with AsyncExitStack() as stack:

        async def started(*more: str, **options: object) -> Process:
            command = (sys.executable, "-m", "mesh.controlplane", *given, *more)
            process = await asyncio.create_subprocess_exec(*command, stderr=PIPE, **options)  # type: ignore[arg-type]
            stack.push_async_callback(_ended, process)
            return process

        yield started


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def end_of(process: Process) -> tuple[int, str]:
    """Exit code and all that it has said."""
    async with asyncio.timeout(SECONDS * patience()):
        _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def complaints(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_when_it_is_told_and_leaves_no_socket(start, api, number):
    process = await start()
    async with connected(api) as client:
        await client.start_with(workload("orders"))
        async with client.attached():
            process.send_signal(number)
            code, said = await end_of(process)

    assert code == 0
    assert complaints(said) == []
    assert "Traceback" not in said
    assert not api.exists()


async def test_it_ends_when_the_one_who_started_it_has_gone(start, api):
    lifeline, other_end = os.pipe()
    process = await start("--lifeline", str(lifeline), pass_fds=(lifeline,))
    os.close(lifeline)
    async with connected(api):
        os.close(other_end)
        code, _ = await end_of(process)

    assert code == 0


async def test_a_kill_loses_nothing_and_a_proxy_that_comes_back_is_sent_nothing(start, api):
    xds = Address("127.0.0.1", free_port())
    process = await start("--xds", str(xds))
    async with connected(api) as client:
        await client.start_with(workload("orders", "upstreams: [{service: inventory}]"))
        await client.apply(workload("inventory"))
        trusted = await credentials(client, "orders")
        async with (
            client.attached("orders-0"),
            client.attached("inventory-0", base_port=21_000) as inventory,
            proxy(xds, ORDERS, trusted, TARGET) as before,
        ):
            await inventory.report()
            found = await client.instances(lambda found: found["inventory-0"].report.healthy)
            await client.instances(lambda found: found["orders-0"].synced)
            await before.until(TARGET, "inbound/50051")
            process.kill()
            await end_of(process)
    assert api.exists()

    await start("--xds", str(xds))
    async with connected(api) as client:
        again = await client.instances()
        assert [one.addresses for one in again.values()] == [one.addresses for one in found.values()]
        assert again["inventory-0"].report.healthy
        assert not any(one.attached for one in again.values())
        async with proxy(xds, ORDERS, trusted, TARGET, held=before.has) as after:
            await client.instances(lambda found: found["orders-0"].synced)
            listed = (await client.status.ListProxies(status_pb2.ListProxiesRequest())).proxies
        sent = {one.node_id: (one.bytes_sent, one.resources_sent) for one in listed}
        assert sent[ORDERS] == (0, 0)
        assert after.has == before.has


async def test_what_a_peer_says_begins_no_line_of_the_log(start, api):
    xds = Address("127.0.0.1", free_port())
    process = await start("--xds", str(xds))
    async with connected(api) as client:
        await client.start_with(workload("orders"))
        trusted = await credentials(client, "orders")
        async with proxy(xds, "a/b/c\nerror: all is lost\r\x1b[31m\u202e", trusted, asks=[CLUSTER]) as refused:
            async with asyncio.timeout(SECONDS):
                assert await refused.call.code() is grpc.StatusCode.PERMISSION_DENIED
    process.send_signal(signal.SIGTERM)
    _, said = await end_of(process)

    assert "a/b/c error: all is lost  [31m " in said
    assert complaints(said) == []


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Within the block whoever wants to load the state waits."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def listens(address: Address) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address.host, address.port)) == 0


async def test_no_stream_is_accepted_before_the_state_is_loaded(start, api, tmp_path):
    xds = Address("127.0.0.1", free_port())
    process = await start("--xds", str(xds))
    async with connected(api) as client:
        await client.start_with(workload("orders", "upstreams: [{service: inventory}]"), workload("inventory"))
        trusted = await credentials(client, "orders")
        async with client.attached("orders-0"), proxy(xds, ORDERS, trusted, TARGET) as before:
            await before.until(TARGET, "inbound/50051", "outbound")
            process.kill()
            await end_of(process)

    with unreadable(tmp_path / "state.db"):
        process = await start("--xds", str(xds))
        # It takes about half a second to start; for all of the rest it waits for its state.
        for _ in range(100):
            assert not listens(xds)
            assert process.returncode is None
            await asyncio.sleep(0.02)

    async with connected(api) as client, proxy(xds, ORDERS, trusted, TARGET, held=before.has) as again:
        had = {type_url: dict(held) for type_url, held in before.has.items()}
        async with asyncio.timeout(SECONDS), client.attached("orders-0"):
            await client.instances(lambda found: found["orders-0"].synced)
        assert again.has == had


async def test_a_second_one_does_not_take_the_socket_of_a_live_one(start, api):
    await start()
    async with connected(api) as client:
        code, said = await end_of(await start())

        assert code == 1
        assert complaints(said) == [
            f"error: {api}: another control plane listens there. Stop it, or use another state folder"
        ]
        assert await client.instances() == {}


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        pytest.param(lambda api: api.write_text("mine"), "something that is not a socket", id="a file in its place"),
        pytest.param(lambda api: api.parent.chmod(0o755), "others may enter the folder", id="a folder for all"),
    ],
)
async def test_a_place_that_is_not_safe_is_refused(start, api, prepare, problem):
    api.parent.mkdir(mode=0o700)
    prepare(api)

    code, said = await end_of(await start())

    assert code == 1
    assert problem in complaints(said)[0]


async def test_a_path_that_is_too_long_is_refused(start, api):
    code, said = await end_of(await start("--api", f"unix:{api.parent / ('x' * 100)}"))

    assert code == 1
    assert "longer than 103 bytes" in complaints(said)[0]


async def test_a_state_that_cannot_be_used_is_said_without_a_traceback(start, api, tmp_path):
    (tmp_path / "state.db").write_bytes(b"no database at all" * 100)

    code, said = await end_of(await start())

    assert code == 1
    assert len(complaints(said)) == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("name", [".", "state.db", "state.db-wal"])
async def test_a_state_that_others_may_read_is_not_used(start, api, tmp_path, name):
    (tmp_path / "state.db").touch(0o600)
    (tmp_path / "state.db-wal").touch(0o600)
    path = tmp_path / name
    path.chmod(path.stat().st_mode | 0o044)

    code, said = await end_of(await start())

    (complaint,) = complaints(said)
    assert code == 1
    assert complaint.startswith(f"error: {path}: others may read or write it (mode 0")
    assert f"Run `chmod go= {path}`" in complaint
    assert path.stat().st_mode & 0o044, "it is not mended in silence"


async def test_an_xds_port_that_is_taken_is_said_as_soon_as_it_is_needed(start, api):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await start("--xds", address)
        async with connected(api) as client:
            await client.start_with(workload("orders"))
            code, said = await end_of(process)

    assert code == 1
    assert [line.startswith(f"error: {address}: ") for line in complaints(said)] == [True]
    assert "Traceback" not in said


async def test_a_port_for_metrics_that_is_taken_is_said(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = await end_of(await start("--metrics", address))

    assert code == 1
    assert [line.startswith(f"error: {address}: metrics cannot be served there") for line in complaints(said)] == [True]
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        pytest.param("--api", "tcp:1", id="no socket"),
        pytest.param("--xds", "here", id="no address"),
        pytest.param("--metrics", "9090", id="no host"),
    ],
)
async def test_arguments_that_cannot_work_are_wrong_usage(start, option, value):
    code, said = await end_of(await start(option, value))

    assert code == 2
    assert complaints(said)[0].startswith(f"error: {option}: ")
