"""What the tests of xDS with sockets share."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from tests.xds.control_plane import ControlPlane

if TYPE_CHECKING:
    from tests.xds.raw import Raw


@pytest.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    """One that is being served."""
    control_plane = ControlPlane()
    async with control_plane.serving():
        yield control_plane


@pytest.fixture
async def raw() -> "AsyncIterator[Raw]":
    """A raw xDS server where nothing is set."""
    from tests.xds.raw import a_raw_server

    async with a_raw_server() as raw:
        yield raw
