"""Another root for a mesh that runs: real Envoys, calls that go on, and processes that are killed meanwhile."""

import asyncio
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.mesh.certificates.calls import authority, calling, in_use
from tests.mesh.load import connected, get_book, load
from tests.mesh.running import PROA, RunningMesh, eventually, patience, soon

pytestmark = pytest.mark.envoy


@pytest.fixture
def mesh(mended: RunningMesh) -> RunningMesh:
    return mended


QUICKLY = 30.0
"""Seconds for the bookstore."""


def step_of(mesh: RunningMesh) -> str:
    """From the journal: a command takes longer than a step."""
    step: str = json.loads((mesh.state.folder / "ca" / "authority.json").read_text())["step"]
    return step.upper()


def rotating(mesh: RunningMesh, *options: str) -> subprocess.Popen[str]:
    command = [*PROA, "ca", "rotate", *options, "--state", str(mesh.state.folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def begun(process: subprocess.Popen[str]) -> None:
    """Returns when the command has said its first step: only then has it heard that its request was taken."""
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline)


async def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = await asyncio.to_thread(process.communicate, timeout=90)
    return process.returncode, out, err


async def test_a_rotation_loses_no_call_and_leaves_nothing_of_the_old_root(mesh: RunningMesh, short: Path) -> None:
    roots, leaves = in_use(mesh)
    assert (len(roots), len(leaves)) == (1, 3)
    async with calling(mesh, short) as (calls, _):
        started = time.monotonic()
        said = await mesh.do("ca", "rotate")
        assert time.monotonic() - started < QUICKLY * patience()
        await calls.went_on(200)

    now_roots, now_leaves = in_use(mesh)
    (root,) = authority(mesh)["certificates"]
    assert now_roots == {root["serial"]}
    assert (len(now_leaves), now_leaves & leaves, now_roots & roots) == (3, set(), set())
    steps = [line.partition(":")[0] for line in said.splitlines() if not line.startswith(" ")]
    assert steps == ["trust", "renew", "retire", "steady", "rotated"]
    assert {proxy["state"] for proxy in mesh.proxies().values()} == {"SYNCED"}


async def test_leaves_that_change_every_few_seconds_lose_no_call(mesh: RunningMesh, short: Path) -> None:
    async with calling(mesh, short) as (calls, _):
        for _ in range(4):
            before = in_use(mesh)[1]
            await mesh.do("ca", "rotate")
            assert not in_use(mesh)[1] & before
            await calls.went_on(100)


async def test_a_control_plane_that_is_killed_in_any_step_goes_on_with_it(mesh: RunningMesh, short: Path) -> None:
    async with calling(mesh, short) as (calls, _):
        for step in ("TRUST", "RENEW", "RETIRE"):
            before = authority(mesh)["certificates"][0]["serial"]
            command = rotating(mesh)
            await begun(command)
            await soon(lambda step=step: step_of(mesh) == step, within=QUICKLY)  # type: ignore[misc]
            os.kill(mesh.file["control_plane"]["pid"], signal.SIGKILL)
            code, said, wrong = await ended(command)
            assert (code, wrong) == (0, ""), said
            await calls.went_on(100)

            (root,) = authority(mesh)["certificates"]
            assert root["serial"] != before
            assert in_use(mesh)[0] == {root["serial"]}
    mesh.remember()


async def test_a_command_that_is_interrupted_stops_nothing(mesh: RunningMesh) -> None:
    before = authority(mesh)["certificates"][0]["serial"]
    command = rotating(mesh)
    await begun(command)
    command.send_signal(signal.SIGINT)
    code, _, _ = await ended(command)
    assert code == 130

    await soon(lambda: authority(mesh)["step"] == "STEADY", within=QUICKLY)
    assert authority(mesh)["certificates"][0]["serial"] != before


async def test_a_lost_proxy_is_named_and_left_behind_by_force(mesh: RunningMesh) -> None:
    stopped = mesh.instance("catalog")["agent"]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        done = await asyncio.to_thread(mesh.proa, "ca", "rotate", "--timeout", "5s")
        assert done.returncode == 1
        assert "it waits for bookstore/catalog/catalog-0: it does not trust the new root yet" in done.stderr
        assert "--force" in done.stderr
        listed = mesh.proa("ca", "status").stdout
        assert "waits for bookstore/catalog/catalog-0" in listed
        assert authority(mesh)["step"] == "TRUST"

        started = time.monotonic()
        done = await asyncio.to_thread(mesh.proa, "ca", "rotate", "--force")
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - started < QUICKLY * patience()
        assert "left behind: bookstore/catalog/catalog-0" in done.stderr
        assert "left behind bookstore/catalog/catalog-0" in mesh.proa("ca", "status").stdout
    finally:
        os.kill(stopped, signal.SIGCONT)

    await soon(lambda: not authority(mesh)["waitsFor"], within=QUICKLY)
    async with connected(mesh.upstream("orders", "catalog")) as catalog, load(get_book(catalog)) as calls:
        await calls.went_on(50)
    assert calls.failures == []
    mesh.remember()


async def test_an_agent_that_cannot_write_is_named_and_goes_on_when_it_can(mesh: RunningMesh, short: Path) -> None:
    """As on a full disk: the link to the next files cannot be made."""
    in_the_way = mesh.state.folder / "instances" / "bookstore.catalog-0" / "sds" / "current.new"
    in_the_way.mkdir()
    async with calling(mesh, short) as (calls, _):
        command = rotating(mesh)
        await soon(lambda: "bookstore/catalog/catalog-0" in str(authority(mesh)["waitsFor"]), within=20)
        log = mesh.state.log("bookstore", "catalog-0", "agent")
        await soon(lambda: "certificate_not_renewed" in log.read_text())
        await calls.went_on(100)
        in_the_way.rmdir()
        code, said, wrong = await ended(command)
        assert (code, wrong) == (0, ""), said


async def test_without_its_key_a_mesh_goes_on_says_so_and_gets_another_root(mesh: RunningMesh, short: Path) -> None:
    (key,) = (mesh.state.folder / "ca").glob("*/tls.key")
    content = key.read_bytes()
    async with calling(mesh, short) as (calls, _):
        key.write_bytes(content[:100])
        assert "not readable as PEM" in authority(mesh)["problem"]
        killed = mesh.file["control_plane"]["pid"]
        os.kill(killed, signal.SIGKILL)
        await soon(lambda: mesh.file["control_plane"]["pid"] not in (None, killed))
        await soon(
            lambda: "not readable as PEM" in authority(mesh)["problem"] and "tls.key" in authority(mesh)["problem"]
        )
        assert key.read_bytes() == content[:100], "nothing is overwritten"
        status = mesh.proa("ca", "status")
        assert "proa ca rotate" in status.stderr
        await calls.went_on(200)

        await mesh.do("ca", "rotate")
        await calls.went_on(100)
    assert authority(mesh)["problem"] == ""
    mesh.remember()
    eventually(lambda: {proxy["state"] for proxy in mesh.proxies().values()} == {"SYNCED"}, within=60)
