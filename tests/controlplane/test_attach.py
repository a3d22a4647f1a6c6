"""The stream of an agent: what it is told, and what becomes of its instance."""

import asyncio
import json
from contextlib import AsyncExitStack
from itertools import pairwise

import grpc
import pytest

from mesh.api.proa.v1 import agents_pb2, documents_pb2, status_pb2
from mesh.controlplane import wire
from mesh.model.names import InstanceId
from tests.controlplane.conftest import SECONDS, Agent
from tests.unit.registry.builders import workload


def is_healthy(found: dict[str, status_pb2.Instance]) -> bool:
    return "orders-0" in found and found["orders-0"].report.healthy


def is_gone(found: dict[str, status_pb2.Instance]) -> bool:
    return "orders-0" not in found


def is_detached(found: dict[str, status_pb2.Instance]) -> bool:
    return not found["orders-0"].attached


async def ended(agent: Agent) -> tuple[grpc.StatusCode, str]:
    async with asyncio.timeout(SECONDS):
        return await agent.call.code(), await agent.call.details()


async def test_an_agent_is_told_its_node_its_bootstrap_and_its_term(plane):
    await plane.client.start_with(workload("orders"))

    async with plane.client.attached() as agent:
        assert agent.attached.node_id == "shop/orders/orders-0"
        assert agent.attached.term.ToSeconds() == 10
        bootstrap = json.loads(agent.attached.bootstrap)
        assert bootstrap["node"]["id"] == "shop/orders/orders-0"
        assert str(plane.settings.xds.port) in agent.attached.bootstrap


async def test_an_attached_instance_is_shown_with_what_its_agent_reports(client):
    await client.start_with(workload("orders", "version: v2"))

    async with client.attached() as agent:
        await agent.report()
        instance = (await client.instances(is_healthy))["orders-0"]

    assert (instance.namespace, instance.workload, instance.service, instance.version) == (
        "shop",
        "orders",
        "orders",
        "v2",
    )
    assert instance.identity == "spiffe://proa.local/ns/shop/sa/orders"
    assert instance.addresses.inbound[50051] == "127.0.0.1:20000"
    assert (instance.attached, instance.draining, instance.synced) == (True, False, False)
    assert instance.report.agent_pid == 7


async def test_an_attached_proxy_is_listed_before_it_connects(client):
    await client.start_with(workload("orders"))

    async with client.attached():
        await client.instances(lambda found: "orders-0" in found)
        (proxy,) = (await client.status.ListProxies(status_pb2.ListProxiesRequest())).proxies

    assert proxy.node_id == "shop/orders/orders-0"
    assert proxy.state == status_pb2.PROXY_STATE_DISCONNECTED
    assert proxy.problem == ""


async def test_an_instance_of_no_workload_is_not_found(client):
    await client.start_with(workload("orders"))
    call = client.agents.Attach()
    await call.write(agents_pb2.AttachRequest(hello=await client.hello()))
    hello = await client.hello()
    hello.workload = "oders"
    call = client.agents.Attach()
    await call.write(agents_pb2.AttachRequest(hello=hello))

    assert await call.code() is grpc.StatusCode.NOT_FOUND
    assert "Did you mean shop/orders?" in await call.details()


def no_hello(hello: agents_pb2.Hello) -> agents_pb2.AttachRequest:
    return agents_pb2.AttachRequest(drain=agents_pb2.Drain())


def no_name(hello: agents_pb2.Hello) -> agents_pb2.AttachRequest:
    hello.instance = ""
    return agents_pb2.AttachRequest(hello=hello)


def a_slash(hello: agents_pb2.Hello) -> agents_pb2.AttachRequest:
    hello.instance = "orders/0"
    return agents_pb2.AttachRequest(hello=hello)


def no_address(hello: agents_pb2.Hello) -> agents_pb2.AttachRequest:
    hello.addresses.inbound[50051] = "somewhere"
    return agents_pb2.AttachRequest(hello=hello)


def a_host_name(hello: agents_pb2.Hello) -> agents_pb2.AttachRequest:
    """Of which Envoy refuses the endpoints of all instances."""
    hello.addresses.inbound[50051] = "db.example:5432"
    return agents_pb2.AttachRequest(hello=hello)


def no_server(hello: agents_pb2.Hello) -> agents_pb2.AttachRequest:
    hello.server = "somewhere"
    return agents_pb2.AttachRequest(hello=hello)


def a_line_of_a_log(hello: agents_pb2.Hello) -> agents_pb2.AttachRequest:
    hello.instance = "orders-0\n2026-01-01T00:00:00.000Z INFO all is well"
    return agents_pb2.AttachRequest(hello=hello)


def a_long_name(hello: agents_pb2.Hello) -> agents_pb2.AttachRequest:
    hello.instance = "x" * 1_000_000
    return agents_pb2.AttachRequest(hello=hello)


def a_long_generation(hello: agents_pb2.Hello) -> agents_pb2.AttachRequest:
    hello.generation = "x" * 1_000_000
    return agents_pb2.AttachRequest(hello=hello)


def many_addresses(hello: agents_pb2.Hello) -> agents_pb2.AttachRequest:
    hello.addresses.upstreams.update({str(number): "127.0.0.1:1" for number in range(1001)})
    return agents_pb2.AttachRequest(hello=hello)


BAD = [no_hello, no_name, a_slash, no_address, a_host_name, a_line_of_a_log, a_long_name, a_long_generation]


@pytest.mark.parametrize("message", [*BAD, many_addresses, no_server])
async def test_a_first_message_that_says_nothing_usable_is_refused(client, message):
    await client.start_with(workload("orders"))
    call = client.agents.Attach()
    await call.write(message(await client.hello()))

    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await client.instances() == {}


async def test_of_what_an_agent_says_no_more_is_kept_than_it_has_to_say(plane):
    await plane.client.start_with(workload("orders"))
    long = "x" * 5_000
    loaded = agents_pb2.LoadedCertificate(serial=long, issuer=long, roots=[long] * 1000)
    report = agents_pb2.InstanceReport(
        healthy=True, agent_pid=7, reason=long, envoy_version=long, exposed=[long] * 1000, loaded=[loaded]
    )
    async with plane.client.attached() as agent:
        await agent.call.write(agents_pb2.AttachRequest(report=report))
        await plane.client.instances(is_healthy)
        (lease,) = plane.registry.leases.values()
        kept = wire.report_message(lease.report)
        assert len(kept.reason) == len(kept.exposed[0]) == len(kept.loaded[0].roots[0]) == 1000
        assert len(kept.exposed) == len(kept.loaded[0].roots) == 100


async def test_nothing_that_an_agent_says_is_an_order_to_a_terminal(plane):
    await plane.client.start_with(workload("orders"))
    order = "\x1b[2J\x9b2J\r\nall is well"
    loaded = agents_pb2.LoadedCertificate(serial=order, issuer=order, roots=[order])
    report = agents_pb2.InstanceReport(
        healthy=True, agent_pid=7, reason=order, envoy_version=order, exposed=[order], loaded=[loaded]
    )
    async with plane.client.attached() as agent:
        await agent.call.write(agents_pb2.AttachRequest(report=report))
        await plane.client.instances(is_healthy)
        (lease,) = plane.registry.leases.values()
        kept = wire.report_message(lease.report)
        one = kept.loaded[0]
        assert {kept.reason, kept.envoy_version, *kept.exposed, one.serial, one.issuer, *one.roots} == {
            " [2J 2J  all is well"
        }


async def test_a_stream_that_says_nothing_is_refused(client):
    call = client.agents.Attach()
    await call.done_writing()

    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_broken_stream_starts_the_term_after_which_the_instance_is_forgotten(plane, clock):
    await plane.client.start_with(workload("orders"))
    async with plane.client.attached() as agent:
        await agent.report()
        await plane.client.instances(is_healthy)

    assert is_healthy(await plane.client.instances(is_detached))
    clock.advance(10)
    plane.registry.changed.notify()
    await plane.client.instances(is_gone)
    assert (await plane.client.status.ListProxies(status_pb2.ListProxiesRequest())).proxies == []


async def test_an_agent_that_comes_back_within_the_term_goes_on(plane, clock):
    await plane.client.start_with(workload("orders"))
    async with plane.client.attached() as agent:
        await agent.report()
        await plane.client.instances(is_healthy)
    await plane.client.instances(is_detached)
    clock.advance(9)

    async with plane.client.attached():
        clock.advance(9)
        plane.registry.changed.notify()
        found = await plane.client.instances(lambda found: found["orders-0"].attached)

    assert is_healthy(found)


async def test_a_second_stream_takes_the_place_of_the_first(client):
    await client.start_with(workload("orders"))

    async with client.attached() as first, client.attached() as second:
        status, words = await ended(first)
        assert status is grpc.StatusCode.ABORTED
        assert "shop/orders/orders-0" in words

        await second.report()
        assert (await client.instances(is_healthy))["orders-0"].attached


async def test_a_drained_instance_is_told_so_and_forgotten_when_its_stream_ends(client):
    await client.start_with(workload("orders"))
    async with client.attached() as agent:
        await agent.report()
        await client.instances(is_healthy)

        await agent.drain()
        await agent.drained()

        assert (await client.instances())["orders-0"].draining
        await agent.call.done_writing()
        assert (await ended(agent))[0] is grpc.StatusCode.OK
    await client.instances(is_gone)


async def test_an_instance_whose_workload_was_deleted_can_still_come_back_and_drain(client):
    await client.apply(workload("orders"))
    hello = await client.hello()
    async with client.attached() as agent:
        await agent.report()
        await client.instances(is_healthy)
    key = documents_pb2.DocumentKey(kind="Workload", namespace="shop", name="orders")
    await client.documents.DeleteDocuments(documents_pb2.DeleteDocumentsRequest(keys=[key]))

    call = client.agents.Attach()
    await call.write(agents_pb2.AttachRequest(hello=hello))
    agent = Agent(call, (await call.read()).attached)
    await agent.drain()
    await agent.drained()
    call.cancel()


async def test_a_new_file_set_forgets_the_instances_of_an_earlier_start(client):
    await client.start_with(workload("orders"))
    async with client.attached() as agent:
        await agent.report()
        await client.instances(is_healthy)
    await client.instances(is_detached)

    await client.start_with(workload("orders"))

    assert await client.instances() == {}


async def test_a_hundred_agents_attach_side_by_side(client):
    await client.start_with(workload("orders"))
    names = [f"orders-{n}" for n in range(100)]

    async with AsyncExitStack() as stack:

        async def attach(name: str, port: int) -> None:
            agent = await stack.enter_async_context(client.attached(name, base_port=port))
            await agent.report()

        await asyncio.gather(*(attach(name, 20_000 + 10 * n) for n, name in enumerate(names)))
        found = await client.instances(
            lambda found: len(found) == 100 and all(one.report.healthy for one in found.values())
        )

    assert [*found] == sorted(names)
    assert all(one.attached for one in found.values())


async def test_watchers_get_no_answer_twice(client):
    await client.start_with(workload("orders"))
    watch = client.status.WatchInstances(status_pb2.WatchInstancesRequest())
    heard = [await watch.read()]

    async with client.attached() as agent:
        for _ in range(3):
            await agent.report()
        await client.apply(workload("catalog"))
        while not (heard[-1].instances and heard[-1].instances[0].report.healthy):
            heard.append(await watch.read())

    assert all(one != other for one, other in pairwise(heard))
    watch.cancel()


async def test_the_registry_knows_who_is_attached(plane):
    await plane.client.start_with(workload("orders"))
    instance = InstanceId("shop", "orders", "orders-0")

    async with plane.client.attached():
        assert plane.registry.attached(instance)
        assert plane.registry.identity_of(instance.node_id) == "spiffe://proa.local/ns/shop/sa/orders"
