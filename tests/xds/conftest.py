"""What the tests of xDS with sockets share."""

from collections.abc import AsyncIterator

import pytest

from tests.xds.control_plane import ControlPlane


@pytest.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    """One that is being served."""
    control_plane = ControlPlane()
    async with control_plane.serving():
        yield control_plane
