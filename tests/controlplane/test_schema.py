"""Schemas as agents tell them, and people push them."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.api.proa.v1 import schema_pb2, schema_pb2_grpc
from mesh.controlplane import schema_service
from mesh.model.descriptors import LARGEST_SET, digest_of
from tests.unit.registry.builders import NOON, workload


def a_set(*methods: str, service: str = "Orders", padding: int = 0) -> bytes:
    file = FileDescriptorProto(name="orders.proto", package="shop.v1")
    added = file.service.add(name=service)
    for method in methods:
        added.method.add(name=method)
    file.options.java_package = "x" * padding
    return FileDescriptorSet(file=[file]).SerializeToString()


def an_offer(content: bytes = b"", instance: str = "orders-0", **fields: Any) -> schema_pb2.SchemaOffer:
    return schema_pb2.SchemaOffer(
        **{
            "namespace": "shop",
            "workload": instance.rpartition("-")[0],
            "instance": instance,
            "source": schema_pb2.SCHEMA_SOURCE_REFLECTION,
            "digest": digest_of(content) if content else "",
            "size": len(content),
            "read_at": NOON - timedelta(minutes=1),
        }
        | fields
    )


async def told(client: Any, offer: schema_pb2.SchemaOffer, pieces: Iterable[bytes] = ()) -> list[str | None]:
    """The answers to an offer; the pieces are sent when they are wanted."""
    stub: Any = schema_pb2_grpc.SchemaServiceStub(client.channel)
    call = stub.ReportSchema()
    await call.write(schema_pb2.ReportSchemaRequest(offer=offer))
    answers: list[str | None] = []
    while isinstance(answer := await call.read(), schema_pb2.ReportSchemaResponse):
        answers.append(answer.WhichOneof("event"))
        if answers[-1] == "wanted":
            for piece in pieces:
                await call.write(schema_pb2.ReportSchemaRequest(piece=piece))
            await call.done_writing()
    return answers


async def listed(client: Any, service: str = "orders") -> schema_pb2.ServiceSchema:
    stub: Any = schema_pb2_grpc.SchemaServiceStub(client.channel)
    (found,) = (await stub.ListSchemas(schema_pb2.ListSchemasRequest(namespace="shop", service=service))).schemas
    return found


async def push(client: Any, content: bytes, service: str = "orders", version: str = "", **fields: Any) -> Any:
    stub: Any = schema_pb2_grpc.SchemaServiceStub(client.channel)
    request = schema_pb2.PushSchemaRequest(
        namespace="shop", service=service, version=version, descriptor_set=content, **fields
    )
    return await stub.PushSchema(request)


async def test_descriptors_are_sent_when_they_are_not_known_and_only_then(client):
    await client.start_with(workload("orders", "replicas: 2"))
    content = a_set("Get", "Put")

    async with client.attached(), client.attached("orders-1"):
        assert await told(client, an_offer(content), [content[:10], content[10:]]) == ["wanted", "kept"]
        assert await told(client, an_offer(content)) == ["kept"]
        assert await told(client, an_offer(content, instance="orders-1")) == ["kept"]

    found = await listed(client)
    assert [(method.service, method.name) for method in found.methods] == [
        ("shop.v1.Orders", "Get"),
        ("shop.v1.Orders", "Put"),
    ]
    (version,) = found.versions
    assert (found.grpc, found.complete, version.version, version.workload) == (True, True, "v1", "orders")
    assert version.source == schema_pb2.SCHEMA_SOURCE_REFLECTION
    assert version.since.ToDatetime().isoformat() == "2030-01-01T12:00:00"


async def test_a_new_schema_counts_at_once(client):
    await client.start_with(workload("orders"))
    async with client.attached():
        for methods in (["Get"], ["Get", "Put"]):
            content = a_set(*methods)
            await told(client, an_offer(content), [content])
            assert [method.name for method in (await listed(client)).methods] == methods


async def test_a_service_without_reflection_says_so_and_is_no_failure(client):
    await client.start_with(workload("orders"))
    async with client.attached():
        assert await told(client, an_offer(problem="it does not answer server reflection")) == ["kept"]

    found = await listed(client)
    assert (list(found.methods), found.complete) == ([], False)
    assert list(found.versions[0].problems) == ["it does not answer server reflection"]


@pytest.mark.parametrize(
    ("offer", "pieces", "code", "words"),
    [
        pytest.param(
            an_offer(b"x", instance="orders-7"),
            [],
            grpc.StatusCode.FAILED_PRECONDITION,
            "shop/orders/orders-7 is not attached",
            id="of an instance that is not attached",
        ),
        pytest.param(
            an_offer(a_set("Get")),
            [a_set("Put")],
            grpc.StatusCode.INTERNAL,
            "what came is something else",
            id="of other bytes",
        ),
        pytest.param(
            an_offer(a_set("Get")), [], grpc.StatusCode.INTERNAL, "what came is something else", id="of no bytes"
        ),
        pytest.param(
            an_offer(b"x", size=LARGEST_SET + 1),
            [],
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "16 MiB is the most",
            id="of too many bytes",
        ),
        pytest.param(
            an_offer(b"x", digest="x" * 64),
            [],
            grpc.StatusCode.INVALID_ARGUMENT,
            "the digest of its offer is none",
            id="without a digest",
        ),
        pytest.param(
            an_offer(b"x", source=schema_pb2.SCHEMA_SOURCE_PUSH),
            [],
            grpc.StatusCode.INVALID_ARGUMENT,
            "no source that an agent can have",
            id="that calls itself a push",
        ),
        pytest.param(
            an_offer(b"x", read_at=Timestamp(seconds=10**17)),
            [],
            grpc.StatusCode.INVALID_ARGUMENT,
            "was read at no time",
            id="of a time that is none",
        ),
    ],
)
async def test_an_offer_that_cannot_be_is_refused(client, offer, pieces, code, words):
    await client.start_with(workload("orders"))
    async with client.attached():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await told(client, offer, pieces)

    assert caught.value.code() is code
    assert words in (caught.value.details() or "")
    assert list((await listed(client)).methods) == []


async def test_the_words_of_a_service_do_nothing_to_a_terminal(client):
    await client.start_with(workload("orders"))
    async with client.attached():
        await told(client, an_offer(problem="\x1b[2J" + "x" * 5000, undescribed=["a\nb"] * 200))

    problem, *undescribed = (await listed(client)).versions[0].problems
    assert problem == " [2J" + "x" * 996
    assert undescribed == ["a b is not described"] * 100


async def test_the_offer_comes_first(client):
    stub: Any = schema_pb2_grpc.SchemaServiceStub(client.channel)
    call = stub.ReportSchema()
    await call.write(schema_pb2.ReportSchemaRequest(piece=b"x"))

    with pytest.raises(grpc.aio.AioRpcError, match="the first message is not `offer`"):
        await call.read()


async def test_an_agent_that_sends_more_than_it_offered_is_not_believed(client):
    await client.start_with(workload("orders"))
    content = a_set("Get")
    async with client.attached():
        with pytest.raises(grpc.aio.AioRpcError, match="what came is something else"):
            await told(client, an_offer(content), [content + b"more"])


async def test_nothing_is_waited_for_that_was_not_offered(client):
    await client.start_with(workload("orders"))
    content = a_set("Get")
    stub: Any = schema_pb2_grpc.SchemaServiceStub(client.channel)
    async with client.attached(), asyncio.timeout(10):
        call = stub.ReportSchema()
        await call.write(schema_pb2.ReportSchemaRequest(offer=an_offer(content)))
        assert (await call.read()).HasField("wanted")
        await call.write(schema_pb2.ReportSchemaRequest(piece=content))
        assert (await call.read()).HasField("kept")


async def test_what_another_instance_sends_meanwhile_is_not_asked_for_again(client):
    await client.start_with(workload("orders"))
    content = a_set("Get")
    stub: Any = schema_pb2_grpc.SchemaServiceStub(client.channel)
    async with client.attached():
        calls = [stub.ReportSchema() for _ in range(schema_service.TRANSFERS)]
        for number, call in enumerate(calls):
            offered = content if call is calls[-1] else b"x" * (number + 1)
            await call.write(schema_pb2.ReportSchemaRequest(offer=an_offer(offered)))
            assert (await call.read()).HasField("wanted")
        waiting = asyncio.create_task(told(client, an_offer(content), [content]))
        assert await asyncio.wait([waiting], timeout=0.3) == (set(), {waiting})

        await calls[-1].write(schema_pb2.ReportSchemaRequest(piece=content))

        assert await waiting == ["kept"]
        for call in calls:
            call.cancel()


async def test_a_clock_that_is_ahead_keeps_nobody_out(client):
    await client.start_with(workload("orders"))
    early, late = a_set("Get"), a_set("Get", "Put")
    async with client.attached():
        await told(client, an_offer(early, read_at=NOON + timedelta(days=900)), [early])
        await told(client, an_offer(late, read_at=NOON), [late])

    assert [method.name for method in (await listed(client)).methods] == ["Get", "Put"]


async def test_an_agent_that_stops_sending_holds_up_nobody(client, monkeypatch):
    monkeypatch.setattr(schema_service, "PATIENCE", 0.2)
    await client.start_with(workload("orders"))
    content = a_set("Get")
    stub: Any = schema_pb2_grpc.SchemaServiceStub(client.channel)
    async with client.attached():
        silent = [stub.ReportSchema() for _ in range(schema_service.TRANSFERS)]
        for number, call in enumerate(silent):
            await call.write(schema_pb2.ReportSchemaRequest(offer=an_offer(b"x" * (number + 1))))
            assert (await call.read()).HasField("wanted")

        async with asyncio.timeout(10):
            assert await told(client, an_offer(content), [content]) == ["wanted", "kept"]
        assert all([await call.code() is grpc.StatusCode.INTERNAL for call in silent])


async def test_only_some_send_at_one_time_and_who_leaves_makes_room(client):
    await client.start_with(workload("orders"))
    content = a_set("Get")
    stub: Any = schema_pb2_grpc.SchemaServiceStub(client.channel)
    async with client.attached():
        sending = []
        for number in range(schema_service.TRANSFERS):
            sending.append(stub.ReportSchema())
            await sending[-1].write(schema_pb2.ReportSchemaRequest(offer=an_offer(b"x" * (number + 1))))
            assert (await sending[-1].read()).HasField("wanted")
        waiting = asyncio.create_task(told(client, an_offer(content), [content]))
        assert await asyncio.wait([waiting], timeout=0.3) == (set(), {waiting})

        for call in sending:
            call.cancel()
        assert await waiting == ["wanted", "kept"]


async def test_descriptors_of_16_mib_are_taken_and_no_more(client):
    await client.start_with(workload("orders"))
    largest = a_set("Get", padding=LARGEST_SET - len(a_set("Get", padding=1 << 21)) + (1 << 21) - 2)
    assert LARGEST_SET - 16 < len(largest) <= LARGEST_SET
    pieces = [largest[at : at + (1 << 20)] for at in range(0, len(largest), 1 << 20)]
    async with client.attached():
        assert await told(client, an_offer(largest), pieces) == ["wanted", "kept"]
    assert (await push(client, largest)).methods == 1

    with pytest.raises(grpc.aio.AioRpcError, match="it has more than 16 MiB"):
        await push(client, largest + b"\x0a\x00" * 16)


async def test_what_was_pushed_comes_before_what_the_service_tells_until_it_is_deleted(client):
    await client.start_with(workload("orders"))
    content = a_set("Get")
    async with client.attached():
        await told(client, an_offer(content), [content])

    first = await push(client, a_set("Put", "Zap"))
    assert (first.methods, first.changed, list(first.problems)) == (2, True, [])
    assert not (await push(client, a_set("Put", "Zap"))).changed
    found = await listed(client)
    assert [method.name for method in found.methods] == ["Put", "Zap"]
    assert [(one.source, one.overridden) for one in found.versions] == [
        (schema_pb2.SCHEMA_SOURCE_PUSH, False),
        (schema_pb2.SCHEMA_SOURCE_REFLECTION, True),
    ]

    stub: Any = schema_pb2_grpc.SchemaServiceStub(client.channel)
    request = schema_pb2.DeletePushedSchemaRequest(namespace="shop", service="orders")
    await stub.DeletePushedSchema(request)
    assert [method.name for method in (await listed(client)).methods] == ["Get"]
    with pytest.raises(grpc.aio.AioRpcError, match="nothing was pushed for it"):
        await stub.DeletePushedSchema(request)


async def test_a_push_that_cannot_be_is_refused(client):
    await client.start_with(workload("orders"))

    with pytest.raises(grpc.aio.AioRpcError, match=r"Did you mean shop/orders\?"):
        await push(client, a_set("Get"), service="order")
    with pytest.raises(grpc.aio.AioRpcError, match="no method can be read from it"):
        await push(client, b"hello, world")
    with pytest.raises(grpc.aio.AioRpcError, match="it has no version v9"):
        await push(client, a_set("Get"), version="v9")

    await push(client, a_set("Get"), version="v9", allow_unresolved=True)
    assert [one.version for one in (await listed(client)).versions] == ["v9", "v1"], "shown before it is there"


async def test_schemas_are_listed_for_all_services_or_one(client):
    await client.start_with(workload("orders"), workload("catalog"))
    stub: Any = schema_pb2_grpc.SchemaServiceStub(client.channel)

    every = await stub.ListSchemas(schema_pb2.ListSchemasRequest())
    assert [schema.service for schema in every.schemas] == ["catalog", "orders"]
    with pytest.raises(grpc.aio.AioRpcError, match=r"order: there is no such service\. Services: shop/catalog"):
        await stub.ListSchemas(schema_pb2.ListSchemasRequest(service="order"))
