"""The services beside the aggregated one: each is for one type, which nobody has to say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import grpc
import pytest

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.snapshot.types import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, RUNTIME, SECRET
from mesh.xds.services import AGGREGATED, SERVICES, Service
from tests.xds.conformance.client import Connection, Variant
from tests.xds.raw import Raw

PER_TYPE = [service for service in SERVICES if service.type_url]
VARIANTS = [Variant(delta, aggregated=False) for delta in (True, False)]
SECONDS = 10
NODE = base_pb2.Node(id="n")

each_service = pytest.mark.parametrize("service", PER_TYPE, ids=[one.type_url.rpartition(".")[2] for one in PER_TYPE])
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=["delta", "sotw"])


def test_there_is_a_service_for_every_type_and_one_for_all() -> None:
    types = [service.type_url for service in SERVICES]

    assert types == ["", CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EXTENSION, RUNTIME]


def test_services_are_called_as_in_the_protos_of_envoy() -> None:
    assert AGGREGATED.name == "envoy.service.discovery.v3.AggregatedDiscoveryService"
    assert AGGREGATED.sotw == "StreamAggregatedResources"
    assert AGGREGATED.delta == "DeltaAggregatedResources"
    assert AGGREGATED.fetch == ""
    assert [(one.name.rpartition(".")[2], one.sotw, one.delta, one.fetch) for one in PER_TYPE] == [
        ("ClusterDiscoveryService", "StreamClusters", "DeltaClusters", "FetchClusters"),
        ("EndpointDiscoveryService", "StreamEndpoints", "DeltaEndpoints", "FetchEndpoints"),
        ("ListenerDiscoveryService", "StreamListeners", "DeltaListeners", "FetchListeners"),
        ("RouteDiscoveryService", "StreamRoutes", "DeltaRoutes", "FetchRoutes"),
        ("SecretDiscoveryService", "StreamSecrets", "DeltaSecrets", "FetchSecrets"),
        (
            "ExtensionConfigDiscoveryService",
            "StreamExtensionConfigs",
            "DeltaExtensionConfigs",
            "FetchExtensionConfigs",
        ),
        ("RuntimeDiscoveryService", "StreamRuntime", "DeltaRuntime", "FetchRuntime"),
    ]


@each_service
@each_variant
async def test_the_type_is_implied(raw: Raw, service: Service, variant: Variant) -> None:
    await raw.put(service.type_url, {"a": "1"})
    for other in PER_TYPE:
        if other != service:
            await raw.put(other.type_url, {"a": "of another type"})
    async with Connection(raw.xds, variant, service.type_url) as connection:
        client = connection.client(service.type_url)
        await client.ask("a")
        await client.has_heard(1)

        assert client.held == {"a": "1"}


def a_request(variant: Variant, type_url: str) -> bytes:
    kind = discovery_pb2.DeltaDiscoveryRequest if variant.delta else discovery_pb2.DiscoveryRequest
    return kind(node=NODE, type_url=type_url).SerializeToString()


async def end(raw: Raw, method: str, messages: list[bytes]) -> tuple[grpc.StatusCode, str]:
    """How the server ends a stream with these messages."""
    call = raw.xds.stream_stream(method)(iter_of(messages), timeout=SECONDS)
    with suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    return await call.code(), await call.details() or ""


async def iter_of(messages: list[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message
    await asyncio.Event().wait()  # the client has more to say, one day


@each_service
@each_variant
@pytest.mark.parametrize("is_first", [True, False], ids=["at first", "later"])
async def test_a_type_that_contradicts_the_service_is_refused(
    raw: Raw, service: Service, variant: Variant, is_first: bool
) -> None:
    other = ROUTE if service.type_url != ROUTE else CLUSTER
    types = [other] if is_first else [service.type_url, "", other]
    status, words = await end(raw, variant.method(service.type_url), [a_request(variant, one) for one in types])

    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert other in words
    assert service.type_url in words


@each_variant
async def test_the_aggregated_service_has_to_be_told_the_type(raw: Raw, variant: Variant) -> None:
    method = Variant(variant.delta, aggregated=True).method("")
    status, words = await end(raw, method, [a_request(variant, "")])

    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert "no type_url" in words


@each_service
async def test_nobody_may_poll(raw: Raw, service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await raw.xds.unary_unary(f"/{service.name}/{service.fetch}")(b"")

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert refused.value.details() == (
        f"{service.name}: it is not polled here. Open a stream with {service.delta} or {service.sotw}"
    )
