"""Calls through the mesh, and calls past it."""

import json
import shutil
import subprocess
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from bookstore.orders.v1 import orders_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.mesh.load import DEADLINE, connected, get_book, get_stock, place_order
from tests.mesh.running import ROOT, RunningMesh

pytestmark = pytest.mark.envoy

GRPCURL = shutil.which("grpcurl") or shutil.which("grpcurl", path=ROOT / "build" / "bin")


async def test_an_order_reaches_catalog_and_inventory(shared: RunningMesh) -> None:
    before = requests_at(shared, "catalog"), requests_at(shared, "inventory")
    async with connected(shared.instance("orders")["address"]) as channel:
        order = (await place_order(channel)()).order

    assert order.state == orders_pb2.ORDER_STATE_PLACED
    assert [line.book_id for line in order.lines] == [42]
    after = requests_at(shared, "catalog"), requests_at(shared, "inventory")
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1], "each call went through its Envoy"


def requests_at(mesh: RunningMesh, workload: str) -> int:
    """How many requests the sidecar of a workload has passed to its service."""
    from tests.mesh.running import admin

    stats = admin(mesh.instance(workload), "/stats?format=json&filter=^cluster.app/50051.upstream_rq_total$")["stats"]
    return sum(stat["value"] for stat in stats)


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed (.ci/run installs it)")
def test_an_order_can_be_placed_with_grpcurl(shared: RunningMesh) -> None:
    address = shared.instance("orders")["address"]
    request = {"idempotency_key": str(uuid.uuid4()), "customer_id": "me", "items": [{"book_id": 42, "quantity": 1}]}

    listed = grpcurl("-plaintext", address, "list")
    placed = grpcurl("-plaintext", "-d", json.dumps(request), address, "bookstore.orders.v1.OrderService/PlaceOrder")

    assert "bookstore.orders.v1.OrderService" in listed.splitlines()
    assert json.loads(placed)["order"]["state"] == "ORDER_STATE_PLACED"


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed (.ci/run installs it)")
def test_the_control_api_answers_grpcurl(shared: RunningMesh) -> None:
    socket = shared.file["control_plane"]["address"].removeprefix("unix:")

    services = grpcurl("-plaintext", "-unix", socket, "list").splitlines()
    proxies = grpcurl("-plaintext", "-unix", socket, "proa.v1.StatusService/ListProxies")

    assert {"proa.v1.DocumentService", "proa.v1.StatusService", "grpc.health.v1.Health"} <= set(services)
    assert len(json.loads(proxies)["proxies"]) == 3


def grpcurl(*arguments: str) -> str:
    done = subprocess.run([str(GRPCURL), *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("key", "call", "service"),
    [
        pytest.param("catalog", get_book, "bookstore.catalog.v1.CatalogService", id="catalog"),
        pytest.param("inventory", get_stock, "bookstore.inventory.v1.InventoryService", id="inventory"),
    ],
)
async def test_an_upstream_answers_at_its_address_reflection_included(
    shared: RunningMesh, key: str, call: Callable[[grpc.aio.Channel], Callable[[], Awaitable[Any]]], service: str
) -> None:
    async with connected(shared.upstream("orders", key)) as channel:
        await call(channel)()
        assert service in await reflected(channel)


async def test_a_name_that_nobody_has_is_refused_with_a_sentence(shared: RunningMesh) -> None:
    outbound = shared.instance("orders")["envoy"]["outbound"]
    async with grpc.aio.insecure_channel(outbound, options=[("grpc.default_authority", "zebra")]) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await get_stock(channel)()

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "no service of this name can be called from here" in (refused.value.details() or "")


async def test_the_outbound_port_routes_by_authority(shared: RunningMesh) -> None:
    outbound = shared.instance("orders")["envoy"]["outbound"]
    for authority in ("inventory", "inventory:50051", "inventory.bookstore.svc.cluster.local"):
        async with grpc.aio.insecure_channel(outbound, options=[("grpc.default_authority", authority)]) as channel:
            await get_stock(channel)()


async def reflected(channel: grpc.aio.Channel) -> list[str]:
    """The services that the other end says it has."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    async for answer in stub.ServerReflectionInfo(asked, timeout=DEADLINE):
        return [service.name for service in answer.list_services_response.service]
    return []
