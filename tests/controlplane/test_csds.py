"""How far each proxy is, asked in Envoy's own words."""

import asyncio
from collections.abc import Callable

import grpc
import pytest

from mesh.api.envoy.admin.v3.config_dump_shared_pb2 import ClientResourceStatus
from mesh.api.envoy.config.cluster.v3 import cluster_pb2
from mesh.api.envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from mesh.api.envoy.type.matcher.v3 import node_pb2, string_pb2, struct_pb2
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.controlplane.conftest import SECONDS, Plane
from tests.controlplane.proxy import credentials, proxy
from tests.unit.registry.builders import workload

ORDERS = "shop/orders/orders-0"
TARGET = "shop/inventory/50051"

Configs = dict[tuple[str, str], csds_pb2.ClientConfig.GenericXdsConfig]


@pytest.fixture
async def shop(plane: Plane) -> Plane:
    texts = [workload("orders", "upstreams: [{service: inventory}]"), workload("inventory")]
    await plane.client.start_with(*texts)
    return plane


def a_matcher(**pattern: object) -> csds_pb2.ClientStatusRequest:
    matcher = node_pb2.NodeMatcher(node_id=string_pb2.StringMatcher(**pattern))  # type: ignore[arg-type]
    return csds_pb2.ClientStatusRequest(node_matchers=[matcher])


async def clients(plane: Plane, request: csds_pb2.ClientStatusRequest | None = None) -> dict[str, Configs]:
    """By node id, then by type and name."""
    stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(plane.client.channel)
    response = await stub.FetchClientStatus(request or csds_pb2.ClientStatusRequest())
    return {
        client.node.id: {(one.type_url, one.name): one for one in client.generic_xds_configs}
        for client in response.config
    }


def config_status(configs: Configs, *key: str) -> str:
    return status(configs[key])[0] if key in configs else ""  # type: ignore[index]


async def orders_until(plane: Plane, condition: Callable[[Configs], bool]) -> Configs:
    async with asyncio.timeout(SECONDS):
        while True:
            configs = (await clients(plane)).get(ORDERS, {})
            if condition(configs):
                return configs
            await asyncio.sleep(0.02)


def status(config: csds_pb2.ClientConfig.GenericXdsConfig) -> tuple[str, str]:
    return (
        csds_pb2.ConfigStatus.Name(config.config_status),
        ClientResourceStatus.Name(config.client_status),
    )


async def test_what_a_proxy_has_acknowledged_is_synced_and_shown_whole(shop):
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders:
        await orders.until(TARGET, "inbound/50051", "outbound")
        configs = await orders_until(shop, lambda found: config_status(found, LISTENER, "outbound") == "SYNCED")

        assert status(configs[CLUSTER, TARGET]) == ("SYNCED", "ACKED")
        assert configs[CLUSTER, TARGET].version_info == orders.has[CLUSTER][TARGET]
        assert configs[CLUSTER, TARGET].HasField("last_updated")
        packed = cluster_pb2.Cluster()
        assert configs[CLUSTER, TARGET].xds_config.Unpack(packed)
        assert packed.name == TARGET
        assert {name for type_url, name in configs if type_url == ENDPOINT} == {TARGET}
        # This proxy has not asked for it.
        assert status(configs[ROUTE, "outbound"]) == ("NOT_SENT", "UNKNOWN")


async def test_what_a_proxy_has_not_answered_is_stale(shop):
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders:
        orders.acknowledges = False
        configs = await orders_until(shop, lambda found: config_status(found, CLUSTER, TARGET) == "STALE")

        assert status(configs[CLUSTER, TARGET]) == ("STALE", "REQUESTED")
        assert config_status(configs, LISTENER, "outbound") == "NOT_SENT"


async def test_what_a_proxy_has_refused_is_an_error_with_its_words(shop):
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders:
        orders.refuses[CLUSTER, TARGET] = "no such thing"
        key = (CLUSTER, TARGET)
        configs = await orders_until(shop, lambda found: key in found and found[key].error_state.details != "")

        refused = configs[CLUSTER, TARGET]
        assert status(refused) == ("ERROR", "NACKED")
        assert refused.error_state.details == "no such thing"
        assert refused.error_state.failed_configuration.type_url == CLUSTER
        assert refused.error_state.version_info
        assert refused.error_state.HasField("last_update_attempt")
        assert (refused.version_info, refused.HasField("xds_config")) == ("", False)


async def test_a_proxy_that_is_away_is_listed_as_unknown(shop):
    async with shop.client.attached("orders-0"):
        configs = await orders_until(shop, lambda found: (CLUSTER, TARGET) in found)

    assert {status(config) for config in configs.values()} == {("UNKNOWN", "UNKNOWN")}
    assert ENDPOINT not in {type_url for type_url, _ in configs}


async def test_contents_are_left_out_when_nobody_wants_them(shop):
    async with shop.client.attached("orders-0"):
        await orders_until(shop, lambda found: (CLUSTER, TARGET) in found)
        [configs] = (await clients(shop, csds_pb2.ClientStatusRequest(exclude_resource_contents=True))).values()

    assert configs[CLUSTER, TARGET].version_info
    assert not any(config.HasField("xds_config") for config in configs.values())


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ({"exact": ORDERS}, [ORDERS]),
        ({"prefix": "shop/"}, ["shop/inventory/inventory-0", ORDERS]),
        ({"suffix": "-0"}, ["shop/inventory/inventory-0", ORDERS]),
        ({"contains": "INVENT", "ignore_case": True}, ["shop/inventory/inventory-0"]),
        ({"contains": "INVENT"}, []),
    ],
    ids=str,
)
async def test_proxies_are_chosen_by_node_id(shop, pattern, found):
    async with shop.client.attached("inventory-0", base_port=21_000), shop.client.attached("orders-0"):
        await orders_until(shop, bool)
        assert list(await clients(shop, a_matcher(**pattern))) == found


@pytest.mark.parametrize(
    "matcher",
    [
        node_pb2.NodeMatcher(node_metadatas=[struct_pb2.StructMatcher()]),
        node_pb2.NodeMatcher(node_id=string_pb2.StringMatcher(safe_regex={"regex": "a+"})),
    ],
    ids=["metadata", "regex"],
)
async def test_a_matcher_that_is_not_known_is_refused(shop, matcher):
    async with shop.client.attached("orders-0"):
        await orders_until(shop, bool)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await clients(shop, csds_pb2.ClientStatusRequest(node_matchers=[matcher]))

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_answers_each_request_with_what_is_then(shop):
    call = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(shop.client.channel).StreamClientStatus()
    await call.write(csds_pb2.ClientStatusRequest())
    assert len((await call.read()).config) == 0

    async with shop.client.attached("orders-0"):
        await orders_until(shop, bool)
        await call.write(csds_pb2.ClientStatusRequest())
        assert [client.node.id for client in (await call.read()).config] == [ORDERS]
    call.cancel()
