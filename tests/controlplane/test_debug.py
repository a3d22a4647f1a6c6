"""What a node is being told, as the control plane shows it."""

import grpc
import pytest

from mesh.api.proa.v1 import debug_pb2, debug_pb2_grpc
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.controlplane.conftest import Plane
from tests.controlplane.proxy import credentials, proxy
from tests.unit.registry.builders import workload

ORDERS = "shop/orders/orders-0"


@pytest.fixture
async def shop(plane: Plane) -> Plane:
    await plane.client.start_with(
        workload("orders", "upstreams: [{service: inventory}]"), workload("inventory"), workload("other")
    )
    return plane


async def snapshot(shop: Plane, node: str) -> debug_pb2.GetSnapshotResponse:
    stub = debug_pb2_grpc.DebugServiceStub(shop.client.channel)
    response: debug_pb2.GetSnapshotResponse = await stub.GetSnapshot(debug_pb2.GetSnapshotRequest(node_id=node))
    return response


async def test_it_is_what_the_proxy_gets(shop):
    trusted = await credentials(shop.client, "orders")
    own, upstream = "shop/orders/50051", "shop/inventory/50051"
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted, own, upstream) as orders:
        await orders.until(own, upstream, "inbound/50051", "outbound")

        shown = await snapshot(shop, ORDERS)

    by_type = {}
    for one in shown.resources:
        by_type.setdefault(one.resource.type_url, {})[one.name] = one.version
    assert shown.node_id == ORDERS
    assert shown.config_version
    for type_url in (CLUSTER, ENDPOINT, LISTENER):
        assert by_type[type_url].keys() == orders.has[type_url].keys()
    assert by_type[ROUTE]


@pytest.mark.parametrize(
    ("node", "status", "words"),
    [
        pytest.param(
            "shop/orders/orders-7", grpc.StatusCode.NOT_FOUND, "Did you mean shop/orders/orders-0?", id="near"
        ),
        pytest.param("nobody", grpc.StatusCode.NOT_FOUND, "Nodes: ", id="unknown"),
        pytest.param("", grpc.StatusCode.NOT_FOUND, "Nodes: ", id="empty"),
        pytest.param("0", grpc.StatusCode.NOT_FOUND, "Nodes: ", id="no whole name"),
    ],
)
async def test_a_node_that_is_not_there_is_said_so(shop, node, status, words):
    async with shop.client.attached("orders-0"), shop.client.attached("inventory-0", base_port=21_000):
        assert (await snapshot(shop, "orders-0")).node_id == ORDERS
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await snapshot(shop, node)

    assert refused.value.code() is status
    assert words in (refused.value.details() or "")
