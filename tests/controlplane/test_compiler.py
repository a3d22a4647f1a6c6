"""What the compiler publishes, what it does not make again, and what one mistake costs."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from mesh.api.proa.v1 import status_pb2
from mesh.controlplane import compiler
from mesh.controlplane.status_service import StatusService
from mesh.errors import SnapshotError
from mesh.model.address import Address
from mesh.model.names import InstanceId
from mesh.model.shape import Instance
from mesh.model.workload import NOWHERE, Locality
from mesh.registry.leases import Report
from mesh.registry.registry import Registry
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from mesh.translate.resources import Resources, instance_resources
from tests.controlplane.compiled import HEALTHY, Mesh
from tests.unit.registry.builders import call, policy, workload

ORDERS, INVENTORY, CATALOG = (InstanceId("shop", name, f"{name}-0") for name in ("orders", "inventory", "catalog"))


@pytest.fixture
async def shop(registry: Registry) -> Mesh:
    """Orders calls inventory; both are attached."""
    mesh = Mesh(registry)
    await registry.apply(call(workload("orders", "upstreams: [{service: inventory}]"), workload("inventory")))
    await mesh.attach(ORDERS)
    await mesh.attach(INVENTORY, 21_000)
    mesh.compiler.compile()
    return mesh


@pytest.fixture
async def running(shop: Mesh) -> AsyncIterator[Mesh]:
    task = asyncio.create_task(shop.compiler.run())
    yield shop
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_proxy_gets_clusters_for_its_upstreams_and_listeners_for_its_addresses(shop):
    state = shop.state(ORDERS)

    assert [*state[CLUSTER]] == ["app/50051", "shop/inventory/50051"]
    assert [*state[LISTENER]] == ["inbound/50051", "outbound", "upstream/inventory"]
    assert shop.compiler.problems == {}


async def test_every_target_has_endpoints_or_an_empty_assignment(shop):
    await shop.registry.apply(call(workload("web", "version: v7")))
    shop.compiler.compile()

    assert shop.endpoints("shop/inventory/50051") == [(21_000, 1)]
    assert shop.endpoints("shop/web/50051") == []
    assert shop.endpoints("shop/web/50051/v7") == []


async def test_an_unhealthy_instance_stays_listed_and_a_draining_one_goes(shop):
    await shop.registry.report(INVENTORY, Report(healthy=False, agent_pid=7))
    shop.compiler.compile()
    assert shop.endpoints("shop/inventory/50051") == [(21_000, 2)]

    await shop.registry.drain(INVENTORY)
    shop.compiler.compile()
    assert shop.endpoints("shop/inventory/50051") == []


async def test_each_locality_has_its_own_view_of_the_endpoints(shop):
    zone = Locality("r1", "z1")
    await shop.registry.apply(call(workload("catalog", "locality: {region: r1, zone: z1}")))
    await shop.attach(CATALOG, 22_000)
    shop.compiler.compile()

    assert shop.endpoints("shop/catalog/50051") == [(22_000, 1)]
    assert shop.endpoints("shop/catalog/50051", near=zone) == [(22_000, 1)]
    assert shop.endpoints("shop/inventory/50051", near=zone) == [(21_000, 1)]


async def test_what_does_not_concern_a_proxy_does_not_wake_it(shop):
    woken: list[str] = []
    with shop.cache.watch(ORDERS.node_id, NOWHERE, lambda: woken.append("orders")):
        await shop.registry.apply(call(workload("orders", "upstreams: [{service: inventory}], replicas: 3")))
        await shop.registry.report(ORDERS, Report(healthy=True, agent_pid=7, pid=9))
        shop.compiler.compile()
        assert woken == []

        await shop.registry.apply(call(policy("retry", "inventory", 3)))
        shop.compiler.compile()
        assert woken == ["orders"]


async def test_a_restarted_control_plane_publishes_the_same_before_any_agent_is_back(shop, opened):
    before = shop.state(ORDERS)

    again = Mesh(await opened())
    again.compiler.compile()

    assert again.state(ORDERS) == before


async def test_an_instance_keeps_the_shape_it_was_started_with(shop):
    await shop.registry.apply(call(workload("orders", "upstreams: [{service: catalog}]"), workload("catalog")))
    shop.compiler.compile()

    assert "shop/inventory/50051" in shop.state(ORDERS)[CLUSTER]


async def test_an_instance_that_is_forgotten_is_withdrawn(shop, clock):
    shop.registry.detach(INVENTORY)
    clock.advance(10)
    await shop.registry.expire()
    shop.compiler.compile()

    assert shop.cache.state(INVENTORY.node_id, NOWHERE) is None
    assert [proxy.node_id for proxy in shop.board.proxies()] == [ORDERS.node_id]
    assert shop.endpoints("shop/inventory/50051") == []


async def test_one_bad_instance_keeps_what_it_had_and_spoils_no_other(registry, caplog, monkeypatch):
    """No document is known that leads to this; a mistake in translation would."""
    bad: set[InstanceId] = set()

    def translated(instance: Instance) -> Resources:
        if instance.id in bad:
            raise SnapshotError(instance.id.node_id, "two resources of one type have this name", "Report it")
        return instance_resources(instance)

    monkeypatch.setattr(compiler, "instance_resources", translated)
    mesh = Mesh(registry)
    await registry.apply(
        call(workload("orders", "upstreams: [{service: inventory}]"), workload("inventory"), workload("catalog"))
    )
    await mesh.attach(ORDERS, upstreams={"inventory": Address("127.0.0.1", 1)})
    await mesh.attach(CATALOG, 22_000)
    mesh.compiler.compile()
    before = mesh.state(ORDERS)
    assert mesh.compiler.problems == {}

    bad.add(ORDERS)
    await mesh.attach(ORDERS, 23_000)
    await registry.apply(call(policy("retry", "inventory", 3), policy("more", "catalog", 3)))
    with caplog.at_level(logging.ERROR):
        mesh.compiler.compile()
        mesh.compiler.compile()

    assert {**mesh.state(ORDERS), ENDPOINT: None} == {**before, ENDPOINT: None}
    assert mesh.endpoints("shop/orders/50051") == [(23_000, 1)]
    assert "two resources of one type" in mesh.compiler.problems[ORDERS.node_id]
    assert len(caplog.records) == 1
    assert CATALOG.node_id not in mesh.compiler.problems

    bad.clear()
    mesh.compiler.compile()
    assert mesh.compiler.problems == {}
    assert mesh.state(ORDERS)[ROUTE] != before[ROUTE]
    assert mesh.state(ORDERS)[LISTENER] != before[LISTENER]


async def test_a_single_change_is_published_at_once_and_a_burst_together(running):
    passes = running.compiler._passes
    await running.compiler.caught_up()
    before = passes.number

    for n in range(20):
        await running.registry.apply(call(policy(f"p{n}", "inventory")))
    await running.compiler.caught_up()

    assert 1 <= passes.number - before < 20


async def test_catching_up_waits_for_what_has_changed_before(running):
    await running.registry.drain(INVENTORY)
    await running.compiler.caught_up()

    assert running.endpoints("shop/inventory/50051") == []


async def test_an_instance_is_told_to_be_healthy_when_its_callers_know(running, monkeypatch):
    """Also when it becomes so just after the pass that was waited for: else `mesh ready` would come too soon."""
    caught_up = running.compiler.caught_up

    async def a_moment_later():
        await caught_up()
        await running.registry.report(INVENTORY, HEALTHY)

    monkeypatch.setattr(running.compiler, "caught_up", a_moment_later)
    await running.registry.report(INVENTORY, Report(healthy=False, agent_pid=7))
    nobody: Any = None
    service = StatusService(running.registry, running.board, running.compiler, nobody, nobody)
    async for response in service.WatchInstances(status_pb2.WatchInstancesRequest(), nobody):
        if all(one.report.healthy for one in response.instances):
            break

    assert running.endpoints("shop/inventory/50051") == [(21_000, 1)]
