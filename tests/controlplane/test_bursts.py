"""What a burst of changes costs each proxy, counted where it arrives."""

import asyncio
import time
from contextlib import AsyncExitStack

from mesh.api.proa.v1 import agents_pb2
from mesh.snapshot.types import ENDPOINT, ROUTE
from tests.controlplane.conftest import SECONDS, Agent, Plane
from tests.controlplane.proxy import Proxy, credentials, proxy
from tests.unit.registry.builders import policy, workload

TARGET = "shop/inventory/50051"
ROUTES = f"upstream/{TARGET}"
CHANGES, AGENTS, MOST_A_SECOND = 1_000, 4, 20
LAST = "nothing more is to come"


async def test_a_thousand_endpoint_changes_in_a_second_are_at_most_twenty_pushes_to_each_proxy(plane: Plane) -> None:
    """Over their agents' streams, as fast as these are; to proxies that answer at once, so that nothing holds back."""
    client = plane.client
    callers = [f"web{n}" for n in range(3)]
    upstreams = "upstreams: [{service: inventory}]"
    await client.start_with(workload("inventory"), *(workload(name, upstreams) for name in callers))
    async with AsyncExitStack() as stack:
        instances = [(f"inventory-{n}", 21_000 + 10 * n) for n in range(AGENTS)]
        agents = [await stack.enter_async_context(client.attached(one, base_port=port)) for one, port in instances]
        proxies = []
        for number, name in enumerate(callers):
            await stack.enter_async_context(client.attached(f"{name}-0", base_port=20_000 + 10 * number))
            node, trusted = f"shop/{name}/{name}-0", await credentials(client, name)
            proxies.append(await stack.enter_async_context(proxy(plane.settings.xds, node, trusted, TARGET)))
        for one in proxies:
            await one.subscribe(ROUTE, ROUTES)
            await one.until(TARGET, ROUTES)
        before, began = [one.by_type[ENDPOINT] for one in proxies], time.monotonic()

        await asyncio.gather(*map(flapping, agents))
        await asyncio.gather(reroute(plane), *map(rerouted, proxies))
        took = time.monotonic() - began

        pushes = [one.by_type[ENDPOINT] - count for one, count in zip(proxies, before, strict=True)]
    assert all(1 <= count <= MOST_A_SECOND * max(1.0, took) for count in pushes), (pushes, took)


async def flapping(agent: Agent) -> None:
    """Its share of the changes, paced so that all of them together take a second on a quiet machine."""
    for number in range(CHANGES // AGENTS):
        await agent.report(healthy=number % 2 == 0)
        await asyncio.sleep(AGENTS / CHANGES / 2)
    last = agents_pb2.InstanceReport(reason=LAST, agent_pid=7)
    await agent.call.write(agents_pb2.AttachRequest(report=last))


async def reroute(plane: Plane) -> None:
    """A change of another kind, once all reports are in: whoever has it has every change of endpoints, too."""
    await plane.client.instances(
        lambda found: all(found[f"inventory-{n}"].report.reason == LAST for n in range(AGENTS))
    )
    await plane.client.apply(policy("p", "inventory", retries=3))


async def rerouted(one: Proxy) -> None:
    held = one.has[ROUTE][ROUTES]
    async with asyncio.timeout(SECONDS):
        while one.has[ROUTE][ROUTES] == held:
            one.changed.clear()
            await one.changed.wait()
