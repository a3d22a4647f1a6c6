"""Processes that are killed while calls go on."""

import asyncio
import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import pytest

from tests.mesh.load import connected, get_book, get_stock, load, outcomes, place_order
from tests.mesh.running import BOOKSTORE, RunningMesh, alive, eventually, patience, soon, wait_until_ready

pytestmark = pytest.mark.envoy


@pytest.fixture
def mesh(mended: RunningMesh) -> RunningMesh:
    return mended


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def test_a_control_plane_that_is_killed_is_missed_by_nobody(mesh: RunningMesh) -> None:
    before = mesh.proxies()
    killed = mesh.file["control_plane"]["pid"]
    async with (
        connected(mesh.upstream("orders", "catalog")) as catalog,
        connected(mesh.upstream("orders", "inventory")) as inventory,
        load(get_book(catalog), get_stock(inventory)) as calls,
    ):
        kill(killed)
        await soon(lambda: mesh.file["control_plane"]["pid"] not in (None, killed))
        # Envoy's pause between attempts grows, at random, to 30 s.
        await soon(lambda: all_reconnected(mesh, before), within=60)
        await calls.went_on()

    assert calls.failures == []
    for name, proxy in mesh.proxies().items():
        assert (proxy["bytesSent"], proxy["resourcesSent"]) == (0, 0), "what a proxy has is not sent again"
        assert proxy["configVersion"] == before[name]["configVersion"]
        endpoints = next(one for one in proxy["types"] if one["typeUrl"].endswith("ClusterLoadAssignment"))
        assert endpoints["acked"] == endpoints["sent"] != ""
    mesh.remember()
    assert re.search(
        r"^warning: the control plane was ended by SIGKILL after .* s; it is started again$", mesh.printed, re.MULTILINE
    )


def all_reconnected(mesh: RunningMesh, before: dict[str, dict[str, Any]]) -> bool:
    done = mesh.proa("proxy-status", "-o", "json")
    if done.returncode:
        return False  # it has not begun to answer
    now = mesh.proxies()
    return now.keys() == before.keys() and all(
        proxy["state"] == "SYNCED" and proxy["connectedSince"] > before[name]["connectedSince"]
        for name, proxy in now.items()
    )


@pytest.mark.parametrize("part", ["envoy", "service", "agent"])
async def test_a_part_that_is_killed_is_started_again_and_the_rest_is_not_disturbed(
    mesh: RunningMesh, part: str
) -> None:
    before = mesh.instance("inventory")
    others = {name: mesh.instance(name) for name in ("catalog", "orders")}
    pids = {"envoy": before["envoy"]["pid"], "service": before["pid"], "agent": before["agent"]["pid"]}
    async with (
        connected(mesh.upstream("orders", "catalog")) as catalog,
        connected(mesh.instance("orders")["address"]) as orders,
        load(get_book(catalog)) as calls,
    ):
        kill(pids[part])
        await soon(lambda: is_back(mesh, part, pids))
        await soon_ok(place_order(orders))

    assert calls.failures == []
    after = mesh.instance("inventory")
    assert {name: mesh.instance(name) for name in others} == others
    assert after["address"] == before["address"]
    assert after["envoy"]["inbound"] == before["envoy"]["inbound"]
    assert part == "agent" or after["agent"]["pid"] == pids["agent"]
    mesh.remember()


def is_back(mesh: RunningMesh, part: str, before: dict[str, int]) -> bool:
    """Whether the part that was killed, and whatever ended with it, runs again and is in sync."""
    entry = mesh.instance("inventory")
    now = {"envoy": entry["envoy"]["pid"], "service": entry["pid"], "agent": entry["agent"]["pid"]}
    ended = ("envoy", "service", "agent") if part == "agent" else (part,)
    return (
        all(now[one] not in (None, before[one]) for one in ended)
        and all(now[one] == before[one] for one in now if one not in ended)
        and mesh.proxies()["bookstore/inventory/inventory-0"]["state"] == "SYNCED"
    )


async def soon_ok(call: Callable[[], Any], within: float = 10.0) -> None:
    """Returns when the call succeeds: its callee may only just be healthy again."""
    async with asyncio.timeout(within * patience()):
        while await outcomes(call, 1) != ["OK"]:  # noqa: ASYNC110 # a call is the only way to know
            await asyncio.sleep(0.05)


def test_mesh_json_says_what_is_being_started_again(mesh: RunningMesh) -> None:
    """The service ends again and again, and each time it is longer away, so that there is time to look."""

    def is_away() -> bool:
        pid = mesh.instance("inventory")["pid"]
        if pid is not None:
            with suppress(ProcessLookupError):
                kill(pid)
        return pid is None

    eventually(is_away)
    eventually(lambda: mesh.instance("inventory")["pid"] is not None)
    mesh.remember()


def test_a_mesh_goes_on_while_mesh_json_cannot_be_written(mesh: RunningMesh) -> None:
    """As on a full disk."""
    in_the_way = mesh.state.folder / "mesh.json.new"
    in_the_way.mkdir()
    said = len(mesh.printed)
    before = mesh.instance("inventory")["agent"]["pid"]
    kill(before)
    eventually(lambda: f"{mesh.state.mesh_file}: it cannot be written: is a directory. " in mesh.printed[said:])
    eventually(lambda: mesh.printed[said:].count("bookstore/inventory-0: it is healthy") == 1)
    assert mesh.instance("inventory")["agent"]["pid"] == before, "that is what could be written last"

    in_the_way.rmdir()
    eventually(lambda: mesh.instance("inventory")["agent"]["pid"] not in (None, before))
    eventually(lambda: mesh.instance("inventory")["pid"] is not None)
    mesh.remember()


def test_a_supervisor_that_is_killed_leaves_no_orphan_and_the_next_one_starts_cleanly(
    launch: Callable[..., RunningMesh],
) -> None:
    first = launch(BOOKSTORE)
    addresses = {one["instance"]: one["address"] for one in first.file["workloads"]}
    kill(first.process.pid)
    first.process.wait()

    eventually(lambda: not [process for process in first.pids if alive(process)], within=5.0)
    eventually(lambda: not first.processes_of_this_state(), within=5.0)
    assert first.state.run.exists(), "a crash cleans nothing up"

    second = launch(BOOKSTORE)
    assert {one["instance"]: one["address"] for one in second.file["workloads"]} == addresses
    assert {proxy["state"] for proxy in second.proxies().values()} == {"SYNCED"}


def test_the_grandchildren_of_a_service_end_with_the_supervisor(
    launch: Callable[..., RunningMesh], tmp_path: Any
) -> None:
    """A service that is a shell that starts others: not even those survive."""
    from tests.mesh.running import documents, workload

    path = tmp_path / "mesh.yaml"
    command = ["/bin/sh", "-c", "sleep 1234 & echo $! > ${state}/grandchild; wait"]
    path.write_text(documents(workload("shell", command=command, health={"type": "none"})))
    mesh = launch(path)
    written = mesh.state.folder / "workloads" / "test.shell" / "grandchild"
    grandchild = psutil.Process(int(eventually(lambda: written.exists() and written.read_text())))

    kill(mesh.process.pid)
    mesh.process.wait()

    eventually(lambda: not alive(grandchild), within=5.0)
    wait_until_ready(launch(path))
