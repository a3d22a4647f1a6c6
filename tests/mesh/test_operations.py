"""Scale, restart, logs and down, while calls go on."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mesh.load import add_stock, connected, get_book, get_stock, load, place_order
from tests.mesh.running import BOOKSTORE, ROOT, RunningMesh, documents, patience, soon, workload

pytestmark = pytest.mark.envoy

CUSTOMERS = Path(__file__).with_name("shop") / "customers.py"


async def test_scale_and_restart_fail_no_call(mesh: RunningMesh) -> None:
    async with (
        connected(mesh.upstream("orders", "catalog")) as catalog,
        connected(mesh.upstream("orders", "inventory")) as inventory,
        load(get_book(catalog), get_stock(inventory)) as calls,
    ):
        assert await mesh.do("scale", "inventory", "3") == "bookstore/inventory: 3 instances ready\n"
        assert [one["instance"] for one in mesh.instances("inventory")] == ["inventory-0", "inventory-1", "inventory-2"]
        mesh.remember()
        await calls.went_on()
        assert calls.failures == []

        assert await mesh.do("scale", "inventory", "1") == "bookstore/inventory: 1 instance ready\n"
        await soon(lambda: [one["instance"] for one in mesh.instances("inventory")] == ["inventory-0"])
        await calls.went_on()
        assert calls.failures == []

        before = mesh.instance("catalog")
        assert await mesh.do("restart", "bookstore/catalog") == "bookstore/catalog: 1 instance ready\n"
        await soon(lambda: len(mesh.instances("catalog")) == 1)
        assert mesh.instance("catalog")["instance"] == "catalog-1"
        assert mesh.instance("catalog")["pid"] != before["pid"]
        await calls.went_on()
    mesh.remember()

    assert calls.failures == []
    assert mesh.proa("scale", "inventry", "2").stderr == (
        "error: inventry: there is no such workload. Did you mean inventory?\n"
    )


async def test_restart_replaces_several_instances_one_after_the_other(mesh: RunningMesh) -> None:
    await mesh.do("scale", "catalog", "2")
    before = {one["pid"] for one in mesh.instances("catalog")}
    async with connected(mesh.upstream("orders", "catalog")) as catalog, load(get_book(catalog)) as calls:
        restarted = asyncio.create_task(mesh.do("restart", "catalog"))
        while not restarted.done():
            mesh.remember()
            assert len(mesh.instances("catalog")) <= 3
            await asyncio.sleep(0.1)
        assert await restarted == "bookstore/catalog: 2 instances ready\n"
        await soon(lambda: len(mesh.instances("catalog")) == 2)

    assert calls.failures == []
    assert not before & {one["pid"] for one in mesh.instances("catalog")}


async def test_down_lets_calls_end(launch: Callable[..., RunningMesh], tmp_path: Path) -> None:
    """Who calls is one of the mesh: calls that come past its sidecar nobody holds back when a service stops."""
    kept = tmp_path / "orders.json"
    customers = workload(
        "customers",
        command=["${python}", str(CUSTOMERS), str(kept)],
        env={"PYTHONPATH": str(ROOT / "services" / "gen")},
        upstreams=[{"service": "orders.bookstore", "env": "ORDERS"}],
    )
    (tmp_path / "customers.yaml").write_text(documents(customers))
    mesh = launch(BOOKSTORE)
    async with connected(mesh.upstream("orders", "inventory")) as inventory:
        await add_stock(inventory)
    await mesh.do("apply", "-f", str(tmp_path / "customers.yaml"))
    await soon(lambda: kept.exists() and json.loads(kept.read_text())["placed"] > 50, within=30)
    mesh.remember()

    await mesh.do("down")

    assert mesh.wait(within=1) == 0
    assert json.loads(kept.read_text())["failures"] == []


async def test_logs_are_followed(shared: RunningMesh) -> None:
    mesh = shared
    from tests.mesh.running import PROA

    following = await asyncio.create_subprocess_exec(
        *PROA, "logs", "orders", "-f", "--tail", "1", "--state", str(mesh.state.folder), stdout=asyncio.subprocess.PIPE
    )
    assert following.stdout is not None
    try:
        async with asyncio.timeout(20 * patience()):
            await following.stdout.readline()
            async with connected(mesh.instance("orders")["address"]) as orders:
                placed = (await place_order(orders)()).order
            while placed.id.encode() not in await following.stdout.readline():
                pass
    finally:
        following.send_signal(2)
        async with asyncio.timeout(10 * patience()):
            assert await following.wait() == 130
