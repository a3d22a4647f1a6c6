"""`proa proxy-status` on a control plane that says anything: what is wrong with a mesh is an answer, not a failure."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.api.proa.v1 import status_pb2, status_pb2_grpc
from tests.mesh.running import proa

STATES = ("SYNCED", "PENDING", "NACKED", "DISCONNECTED")


class Status(status_pb2_grpc.StatusServiceServicer):
    """One proxy in each state."""

    async def ListProxies(self, request: Any, context: Any) -> status_pb2.ListProxiesResponse:
        proxies = [
            status_pb2.Proxy(
                node_id=f"shop/{state.lower()}/0",
                state=status_pb2.ProxyState.Value(f"PROXY_STATE_{state}"),
                last_nack="no such field:\n  `typo`" if state == "NACKED" else "",
            )
            for state in STATES
        ]
        return status_pb2.ListProxiesResponse(proxies=proxies)


@pytest.fixture
async def control_plane(tmp_path: Path) -> AsyncIterator[str]:
    address = f"unix:{tmp_path}/api.sock"
    server = grpc.aio.server()
    status_pb2_grpc.add_StatusServiceServicer_to_server(Status(), server)
    server.add_insecure_port(address)
    await server.start()
    yield address
    await server.stop(None)


async def test_whatever_the_states_are_it_exits_0(control_plane: str) -> None:
    import asyncio

    done = await asyncio.to_thread(proa, "proxy-status", "--server", control_plane)

    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()[1:]
    assert [state for state, row in zip(STATES, rows, strict=True) if state in row.split()] == list(STATES)
    assert "no such field: `typo`" in rows[2], "the last NACK is in Envoy's words, on one line"
