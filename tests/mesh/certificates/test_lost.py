"""What a control plane needs is lost or spoilt while it is away: calls go on, nothing is made anew, all is mended."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mesh.certificates.calls import authority, calling, in_use
from tests.mesh.running import RunningMesh, soon

pytestmark = pytest.mark.envoy

SELDOM = 0.3
"""Seconds between two calls of a worker while the control plane is away for the better part of a minute."""

NONSENSE = b"no database at all " * 200


async def killed(mesh: RunningMesh) -> None:
    """Returns when another one has taken its place."""
    pid = mesh.file["control_plane"]["pid"]
    os.kill(pid, signal.SIGKILL)
    await soon(lambda: mesh.file["control_plane"]["pid"] not in (None, pid))


def write_private(path: Path, content: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(content)


def states(mesh: RunningMesh) -> set[str]:
    done = mesh.proa("proxy-status", "-o", "json")
    return {proxy["state"] for proxy in mesh.proxies().values()} if done.returncode == 0 else set()


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        pytest.param("ca/authority.json", "the authority cannot be read or made", id="the journal"),
        pytest.param("ca", "the authority is gone, and instances have its certificates", id="the whole folder"),
    ],
)
async def test_an_authority_that_is_lost_is_not_made_anew(
    mended: RunningMesh, short: Path, lost: str, words: str
) -> None:
    mesh = mended
    before = in_use(mesh)
    path = mesh.state.folder / lost
    async with calling(mesh, short) as (calls, _):
        path.rename(mesh.state.folder / "elsewhere")
        await killed(mesh)
        await soon(lambda: words in authority(mesh)["problem"], 30)
        await calls.went_on(200)
        assert not path.exists()
        assert in_use(mesh) == before

        (mesh.state.folder / "elsewhere").rename(path)
        await soon(lambda: states(mesh) == {"SYNCED"}, 60)
        assert authority(mesh)["problem"] == ""
        await mesh.do("ca", "rotate")
        await calls.went_on(100)
    mesh.remember()


@pytest.mark.parametrize(
    ("leaves", "words"),
    [
        pytest.param(lambda _: NONSENSE, "state.db: the database does not work: file is not a database", id="spoilt"),
        pytest.param(lambda _: None, "state.db: it is lost, and the authority of its mesh is there", id="gone"),
        pytest.param(lambda db: db, "state.db: it is lost, and the authority of its mesh is there", id="half of it"),
    ],
)
async def test_a_database_that_is_spoilt_or_lost_is_told_of_twice_and_not_made_anew(
    mesh: RunningMesh, short: Path, leaves: Callable[[bytes], bytes | None], words: str
) -> None:
    """To make it anew would be to forget the mesh, and so to end it."""
    path = mesh.state.folder / "state.db"
    async with calling(mesh, short, SELDOM) as (calls, _):
        os.kill(mesh.file["control_plane"]["pid"], signal.SIGSTOP)
        kept = {one: one.read_bytes() for one in mesh.state.folder.glob("state.db*")}
        for one in kept:
            one.unlink()
        left = leaves(kept[path])
        if left is not None:
            write_private(path, left)
        os.kill(mesh.file["control_plane"]["pid"], signal.SIGKILL)
        await soon(lambda: mesh.state.control_plane_log.read_text().count(words) >= 3, 150)
        assert mesh.printed.count(words) == 1, mesh.printed
        assert mesh.printed.count("the control plane ends of the same again and again") == 1
        assert (path.read_bytes() if path.exists() else None) == left
        await calls.went_on(50)

        for one, content in kept.items():
            write_private(one, content)
        await soon(lambda: states(mesh) == {"SYNCED"}, 60)
        await calls.went_on(50)
    mesh.remember()
