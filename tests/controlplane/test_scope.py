"""What a proxy is not told: nothing is sent to it for a service outside its scope, not even an empty message."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from mesh.api.proa.v1 import status_pb2
from mesh.snapshot.types import ROUTE
from tests.controlplane.conftest import SECONDS, Agent, Plane
from tests.controlplane.proxy import Proxy, credentials, proxy
from tests.unit.registry.builders import policy, workload

STOCK = "shop/stock/50051"


@dataclass
class Shop:
    """`web` has declared that it calls `stock`; `stock` has declared nothing. Both proxies have all of theirs."""

    plane: Plane
    web: Proxy
    stock: Proxy
    agents: AsyncExitStack

    async def settle(self) -> None:
        """Returns when everybody has been told of everything that was done before."""
        await self.plane.client.instances(lambda found: found["web-0"].synced and found["stock-0"].synced)

    async def sent(self) -> dict[str, tuple[int, int, int]]:
        """Messages that came, and bytes and resources that were sent."""
        await self.settle()
        listed = await self.plane.client.status.ListProxies(status_pb2.ListProxiesRequest())
        counted = {one.node_id.split("/")[1]: (one.bytes_sent, one.resources_sent) for one in listed.proxies}
        return {name: (getattr(self, name).responses, *counted[name]) for name in ("web", "stock")}

    async def attach(self, instance: str, base_port: int) -> Agent:
        """A healthy endpoint, by the time this returns."""
        agent = await self.agents.enter_async_context(self.plane.client.attached(instance, base_port=base_port))
        await agent.report()
        await self.plane.client.instances(lambda found: instance in found and found[instance].report.healthy)
        return agent


@pytest.fixture
async def shop(plane: Plane) -> AsyncIterator[Shop]:
    texts = [workload("web", "upstreams: [{service: stock}]"), workload("stock"), workload("mail")]
    await plane.client.start_with(*texts)
    async with AsyncExitStack() as stack:
        proxies = []
        for number, name in enumerate(("web", "stock")):
            trusted = await credentials(plane.client, name)
            await stack.enter_async_context(plane.client.attached(f"{name}-0", base_port=20_000 + 100 * number))
            node = f"shop/{name}/{name}-0"
            proxies.append(await stack.enter_async_context(proxy(plane.settings.xds, node, trusted, STOCK)))
            await proxies[-1].subscribe(ROUTE, "outbound", f"upstream/{STOCK}", "inbound/50051")
            await proxies[-1].until(STOCK, "outbound", f"upstream/{STOCK}", "inbound/50051")
        shop = Shop(plane, *proxies, stack)
        await shop.settle()
        yield shop


def elsewhere(text: str) -> str:
    return text.replace("namespace: shop", "namespace: elsewhere")


Change = Callable[[Shop], Awaitable[object]]

OUT_OF_ALL_SCOPES: dict[str, Change] = {
    "a new service in another namespace": lambda shop: shop.plane.client.apply(elsewhere(workload("news"))),
    "a policy in another namespace": lambda shop: shop.plane.client.apply(
        elsewhere(workload("news")), elsewhere(policy("retry", "news"))
    ),
}

OUT_OF_THE_SCOPE_OF_WEB: dict[str, Change] = {
    "a new service": lambda shop: shop.plane.client.apply(workload("news")),
    "a policy": lambda shop: shop.plane.client.apply(policy("retry", "mail")),
    "an endpoint": lambda shop: shop.attach("mail-0", 21_000),
}


@pytest.mark.parametrize("what", OUT_OF_ALL_SCOPES)
async def test_nobody_is_told_what_is_in_nobodys_scope(shop: Shop, what: str) -> None:
    before = await shop.sent()

    await OUT_OF_ALL_SCOPES[what](shop)

    assert await shop.sent() == before


@pytest.mark.parametrize("what", OUT_OF_THE_SCOPE_OF_WEB)
async def test_a_proxy_with_upstreams_is_told_of_nothing_else(shop: Shop, what: str) -> None:
    before = await shop.sent()

    await OUT_OF_THE_SCOPE_OF_WEB[what](shop)

    assert (await shop.sent())["web"] == before["web"]


async def test_an_endpoint_that_comes_and_goes_out_of_scope_is_no_message(shop: Shop) -> None:
    before = await shop.sent()

    mail = await shop.attach("mail-0", 21_000)
    await mail.drain()
    await mail.drained()

    assert (await shop.sent())["web"] == before["web"]


async def test_what_is_in_scope_is_told(shop: Shop) -> None:
    """So that the others count something."""
    before = await shop.sent()

    await shop.attach("stock-1", 21_000)
    async with asyncio.timeout(SECONDS):
        while (messages := (await shop.sent())["web"][0]) == before["web"][0]:
            shop.web.changed.clear()
            await shop.web.changed.wait()
    assert messages == before["web"][0] + 1

    await shop.plane.client.apply(policy("retry", "stock"))
    assert (await shop.sent())["web"][0] > messages

    await shop.plane.client.apply(workload("news"))
    assert (await shop.sent())["stock"][0] > before["stock"][0], "without upstreams the whole namespace is in scope"
