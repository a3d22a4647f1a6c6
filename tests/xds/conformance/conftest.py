"""A real gRPC client of a STRICT mesh."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.agent.client_folder import ClientFolder
from mesh.model.address import Address
from tests.xds.conformance.grpc_shop import CLIENT, Shop
from tests.xds.conformance.test_grpc_client import Caller


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    folder = ClientFolder(tmp_path / "client")
    folder.claim()
    shop = Shop(folder)
    shop.sign()
    async with shop.plane.serving():
        folder.keep_bootstrap(CLIENT, Address("127.0.0.1", shop.plane.port))
        yield shop


@pytest.fixture
async def caller(shop: Shop) -> AsyncIterator[Caller]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("grpc_call.py")),
        "xds:///stock",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP": str(shop.folder.bootstrap)},
    )
    try:
        yield Caller(process)
    finally:
        process.kill()
        await process.wait()
