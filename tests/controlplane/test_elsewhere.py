"""What agents on other machines may do, and what they are told."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest

from mesh.api.proa.v1 import (
    agents_pb2,
    agents_pb2_grpc,
    schema_pb2,
    schema_pb2_grpc,
    tokens_pb2,
    tokens_pb2_grpc,
)
from mesh.controlplane import agent_service, wire
from mesh.controlplane.schema_service import TRANSFERS
from mesh.identity.key import new_key
from mesh.model.names import InstanceId
from tests.controlplane.conftest import Client, Remote
from tests.controlplane.test_schema import an_offer
from tests.unit.registry.builders import addresses

DENIED = grpc.StatusCode.PERMISSION_DENIED


async def test_a_workload_acts_for_itself_alone(remote: Remote) -> None:
    async with remote.as_workload("orders") as channel:
        agents: Any = agents_pb2_grpc.AgentServiceStub(channel)
        plan = await agents.GetLaunchPlan(agents_pb2.GetLaunchPlanRequest(namespace="shop", workload="orders"))
        assert plan.plan.identity == "spiffe://proa.local/ns/shop/sa/orders"

        with pytest.raises(grpc.aio.AioRpcError, match="may only act for itself") as caught:
            await agents.GetLaunchPlan(agents_pb2.GetLaunchPlanRequest(namespace="shop", workload="stock"))
        assert caught.value.code() is DENIED

        at = wire.addresses_message(addresses(21_000))
        hello = agents_pb2.Hello(namespace="shop", workload="stock", instance="stock-9", generation="g", addresses=at)
        call = agents.Attach()
        await call.write(agents_pb2.AttachRequest(hello=hello))
        assert await call.code() is DENIED
    assert InstanceId("shop", "stock", "stock-9") not in remote.plane.registry.leases


@pytest.mark.parametrize("name", ["order", "xyz"])
async def test_agents_from_elsewhere_are_not_told_what_else_there_is_and_people_are(remote: Remote, name: str) -> None:
    who: Any = {"namespace": "shop", "workload": name}
    token = await remote.plane.client.token(namespace="shop", workload="orders")
    request = agents_pb2.SignCertificateRequest(csr=new_key().csr, token=token, **who)
    plan = agents_pb2.GetLaunchPlanRequest(**who)
    at = wire.addresses_message(addresses(21_000))
    hello = agents_pb2.AttachRequest(hello=agents_pb2.Hello(**who, instance="x", generation="g", addresses=at))

    async def words(call: Callable[[], Any]) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        return str(caught.value.details())

    async def attached(agents: Any) -> None:
        call: Any = agents.Attach()
        await call.write(hello)
        await call.read()

    async with remote.as_stranger() as channel, remote.as_workload("orders") as certified:
        first: Any = agents_pb2_grpc.AgentServiceStub(channel)
        agents: Any = agents_pb2_grpc.AgentServiceStub(certified)
        asks = partial(first.SignCertificate, request), partial(agents.GetLaunchPlan, plan), partial(attached, agents)
        for call in asks:
            told = await words(call)
            assert told.startswith(f"shop/{name}: there is no such workload. ")
            assert "stock" not in told
            assert "orders" not in told

    async with remote.as_role("admin") as channel:
        tokens: Any = tokens_pb2_grpc.TokenServiceStub(channel)
        assert "orders" in await words(partial(tokens.CreateToken, tokens_pb2.CreateTokenRequest(**who)))
    assert "orders" in await words(partial(remote.plane.client.agents.GetLaunchPlan, plan))


async def test_a_workload_from_elsewhere_has_room_for_so_many_instances(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_service, "MOST_INSTANCES", 1)
    at = wire.addresses_message(addresses(21_000))
    async with remote.as_workload("orders") as channel:
        first, second, again = (
            agents_pb2.Hello(namespace="shop", workload="orders", instance=name, generation="g", addresses=at)
            for name in ("orders-1", "orders-2", "orders-1")
        )
        agents: Any = agents_pb2_grpc.AgentServiceStub(channel)
        calls = [agents.Attach() for _ in range(3)]
        await calls[0].write(agents_pb2.AttachRequest(hello=first))
        assert (await calls[0].read()).attached
        await calls[1].write(agents_pb2.AttachRequest(hello=second))
        assert await calls[1].code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await calls[2].write(agents_pb2.AttachRequest(hello=again))
        assert (await calls[2].read()).attached
        calls[2].cancel()


async def test_a_workload_from_elsewhere_sends_one_schema_at_a_time_so_that_others_have_their_turn(
    remote: Remote,
) -> None:
    def offered(channel: Any, workload: str, content: bytes) -> Any:
        call = schema_pb2_grpc.SchemaServiceStub(channel).ReportSchema()
        return call, call.write(schema_pb2.ReportSchemaRequest(offer=an_offer(content, f"{workload}-0")))

    async with (
        remote.as_workload("orders") as one,
        remote.as_workload("stock") as other,
        remote.plane.client.attached("orders-0"),
        remote.plane.client.attached("stock-0"),
    ):
        greedy = [offered(one, "orders", b"x" * (number + 1)) for number in range(TRANSFERS + 2)]
        for _, written in greedy:
            await written
        reads = [asyncio.ensure_future(call.read()) for call, _ in greedy]
        done, waiting = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().HasField("wanted") for task in done] == [True]

        patient, written = offered(other, "stock", b"y")
        await written
        async with asyncio.timeout(10):
            assert (await patient.read()).HasField("wanted")
        assert not any(task.done() for task in waiting), "one at a time"

        greedy[reads.index(done.pop())][0].cancel()
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert [task.done() for task in waiting].count(True) == 1
        for call, _ in (*greedy, (patient, None)):
            call.cancel()
        await asyncio.gather(*reads, return_exceptions=True)


async def test_an_agent_from_elsewhere_is_told_where_it_has_found_the_control_plane(remote: Remote) -> None:
    async with remote.as_workload("orders") as channel:
        client = Client(channel)
        hello = agents_pb2.Hello(
            namespace="shop",
            workload="orders",
            instance="orders-far",
            generation=(await client.plan()).generation,
            addresses=wire.addresses_message(addresses(21_000)),
            server="10.1.2.3:7443",
        )
        call = client.agents.Attach()
        await call.write(agents_pb2.AttachRequest(hello=hello))
        attached = (await call.read()).attached
        call.cancel()
    assert attached.xds == "10.1.2.3:7443"
    assert '"address": "10.1.2.3"' in attached.bootstrap
