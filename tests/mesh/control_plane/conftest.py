"""One mesh for all of a module who should not get in."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh.model.address import Address
from tests.intruders import Authority
from tests.mesh.control_plane.plane import Plane, legitimate
from tests.mesh.running import BOOKSTORE, start, wait_until_ready
from tests.ports import free_port


@pytest.fixture(scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    folder = tmp_path_factory.mktemp("plane")
    api = Address("127.0.0.1", free_port(neighbours=1))
    mesh = start(folder / "state", BOOKSTORE, options=("--listen", str(api)))
    try:
        await asyncio.to_thread(wait_until_ready, mesh)
        under_attack = Plane(mesh, api, Authority.of_mesh(mesh.state.folder), folder, [])
        over = asyncio.Event()
        going_on = asyncio.create_task(legitimate(under_attack, over))
        yield under_attack
        over.set()
        await going_on
    finally:
        await asyncio.to_thread(mesh.end)
