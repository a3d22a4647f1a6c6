"""From documents and agents to what a proxy gets over mutual TLS."""

import asyncio

import grpc
import pytest

from mesh.api.proa.v1 import documents_pb2, status_pb2
from mesh.snapshot.types import CLUSTER, ENDPOINT, ROUTE
from tests.controlplane.conftest import SECONDS, Plane
from tests.controlplane.proxy import credentials, proxy
from tests.unit.registry.builders import policy, workload

ORDERS = "shop/orders/orders-0"
TARGET = "shop/inventory/50051"


@pytest.fixture
async def shop(plane: Plane) -> Plane:
    await plane.client.start_with(workload("orders", "upstreams: [{service: inventory}]"), workload("inventory"))
    return plane


async def listed(plane: Plane) -> status_pb2.Proxy:
    (proxy,) = (await plane.client.status.ListProxies(status_pb2.ListProxiesRequest())).proxies
    return proxy


async def test_a_proxy_gets_its_configuration_and_is_shown_as_synced(shop):
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders:
        await orders.until(TARGET, "app/50051", "inbound/50051", "outbound")
        await shop.client.instances(lambda found: found["orders-0"].synced)

        status = await listed(shop)
        assert status.state == status_pb2.PROXY_STATE_SYNCED
        assert status.identity == "spiffe://proa.local/ns/shop/sa/orders"
        assert status.config_version
        assert status.resources_sent == sum(len(held) for held in orders.has.values())

    await shop.client.instances(lambda found: not found["orders-0"].synced)
    assert (await listed(shop)).state == status_pb2.PROXY_STATE_DISCONNECTED


async def test_a_change_reaches_the_proxy(shop):
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders:
        await orders.until(TARGET, "inbound/50051")
        before = orders.has[ENDPOINT][TARGET]

        async with shop.client.attached("inventory-0", base_port=21_000) as inventory:
            await inventory.report()
            async with asyncio.timeout(SECONDS):
                while orders.has[ENDPOINT][TARGET] == before:
                    orders.changed.clear()
                    await orders.changed.wait()


async def test_a_refusal_is_told_with_the_documents_behind_it_and_so_is_what_waits_for_it(shop):
    routes = f"upstream/{TARGET}"
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders:
        orders.refuses[CLUSTER, TARGET] = "no such thing"
        await orders.subscribe(ROUTE, routes, "inbound/50051")
        await orders.until("inbound/50051")
        inventory = await programmed(shop, "inventory", reason="Refused")
        assert inventory == f"{ORDERS}: Cluster {TARGET}: no such thing"
        [refused] = [each for one in (await listed(shop)).types if one.type_url == CLUSTER for each in one.refused]
        assert [(str(one.key.name), one.where) for one in refused.documents] == [("inventory", "1.yaml:1")]

        await shop.client.apply(policy("retry", "inventory"))
        orders.refuses.clear()
        waits = await programmed(shop, "retry", reason="Held")
        assert f"{ORDERS}: RouteConfiguration {routes} waits for Cluster {TARGET}" in waits
        needs = [(wait.resource.name, [need.name for need in wait.needs]) for wait in (await listed(shop)).waits]
        assert (routes, [TARGET]) in needs

        await shop.client.apply(workload("inventory", "serviceAccount: clerk"))  # another cluster, by the same name
        assert "1 of the connected" in await programmed(shop, "inventory", reason="Programmed")
        assert "1 of the connected" in await programmed(shop, "retry", reason="Programmed")
        assert not (await listed(shop)).waits


async def programmed(plane: Plane, name: str, *, reason: str) -> str:
    """The message of the condition, as soon as that is its reason."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = await plane.client.documents.ListDocuments(documents_pb2.ListDocumentsRequest(name=name))
            [condition] = [one for one in found.documents[0].conditions if one.type == "Programmed"]
            if condition.reason == reason:
                return condition.message
            await asyncio.sleep(0.02)


async def test_a_proxy_may_only_be_who_its_certificate_says(shop):
    trusted = await credentials(shop.client, "inventory")
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted, asks=[CLUSTER]) as impostor:
        async with asyncio.timeout(SECONDS):
            assert await impostor.call.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_proxy_that_nobody_has_attached_is_refused(shop):
    trusted = await credentials(shop.client, "orders")
    async with proxy(shop.settings.xds, ORDERS, trusted, asks=[CLUSTER]) as stranger, asyncio.timeout(SECONDS):
        assert await stranger.call.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_drain_waits_until_every_proxy_has_answered_and_no_longer_than_it_may(shop):
    trusted = await credentials(shop.client, "orders")
    async with (
        shop.client.attached("orders-0"),
        shop.client.attached("inventory-0", base_port=21_000) as inventory,
        proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders,
    ):
        await inventory.report()
        await orders.until(TARGET, "inbound/50051")
        await shop.client.instances(lambda found: found["orders-0"].synced and found["inventory-0"].report.healthy)
        orders.acknowledges = False
        had = orders.responses

        await inventory.drain()
        draining = asyncio.create_task(inventory.drained())
        async with asyncio.timeout(SECONDS):
            while orders.responses == had:
                orders.changed.clear()
                await orders.changed.wait()
        assert not draining.done()
        orders.call.cancel()  # it is connected no more, so nobody waits for it

        await draining


async def test_a_proxy_that_comes_back_is_sent_nothing_it_has(shop):
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"):
        async with proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders:
            await orders.until(TARGET, "inbound/50051", "outbound")
        async with proxy(shop.settings.xds, ORDERS, trusted, TARGET, held=orders.has):
            await shop.client.instances(lambda found: found["orders-0"].synced)
            assert (await listed(shop)).resources_sent == 0


async def test_an_applied_policy_changes_the_routes_and_no_cluster(shop):
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted, TARGET) as orders:
        await orders.until(TARGET, "inbound/50051")
        clusters = dict(orders.has[CLUSTER])
        await shop.client.instances(lambda found: found["orders-0"].synced)
        version = (await listed(shop)).config_version

        await shop.client.apply(policy("retry", "inventory"))
        await shop.client.instances(lambda found: found["orders-0"].synced)

        assert (await listed(shop)).config_version != version
        assert orders.has[CLUSTER] == clusters
