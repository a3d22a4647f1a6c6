"""A proxy for tests: a delta xDS client over mutual TLS that acknowledges what it gets, or leaves that to the test."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.identity.key import new_key
from mesh.model.address import Address
from mesh.snapshot.types import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, RUNTIME

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
SECONDS = 30

EVERY_TYPE = (CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME, EXTENSION)
"""What an Envoy asks for. One that has yet to ask for a type counts as not there yet."""


@dataclass
class Proxy:
    """`has` holds the versions of its resources by type.

    With `acknowledges` off nothing is answered until `acknowledge`. A response with a resource that `refuses` has by
    type and name gets a NACK with these words.
    """

    call: Any
    acknowledges: bool = True
    refuses: dict[tuple[str, str], str] = field(default_factory=dict)
    has: dict[str, dict[str, str]] = field(default_factory=dict)
    responses: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    unanswered: list[discovery_pb2.DeltaDiscoveryRequest] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def subscribe(self, type_url: str, *names: str, node: str = "", **more: Any) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=names, **more)
        if node:
            request.node.CopyFrom(base_pb2.Node(id=node))
        await self._write(request)

    async def run(self) -> None:
        async for response in self.call:
            answer = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            named = ((response.type_url, resource.name) for resource in response.resources)
            if words := next((self.refuses[one] for one in named if one in self.refuses), ""):
                answer.error_detail.message = words
            else:
                self._take(response)
            self.responses += 1
            self.by_type[response.type_url] += 1
            self.changed.set()
            self.unanswered.append(answer)
            if self.acknowledges:
                await self.acknowledge()

    async def acknowledge(self) -> None:
        """Answers for what has come, and for all that comes from now on."""
        self.acknowledges = True
        while self.unanswered:
            await self._write(self.unanswered.pop(0))

    async def _write(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        async with self.writing:  # gRPC cannot do two at a time
            await self.call.write(request)

    def _take(self, response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        held = self.has.setdefault(response.type_url, {})
        held.update({resource.name: resource.version for resource in response.resources})
        for name in response.removed_resources:
            held.pop(name, None)

    async def until(self, *names: str) -> None:
        """Until it has resources of these names."""
        async with asyncio.timeout(SECONDS):
            while not {*names} <= {name for held in self.has.values() for name in held}:
                self.changed.clear()
                await self.changed.wait()


async def credentials(client: Any, workload: str) -> grpc.ChannelCredentials:
    """What the control plane signs for a workload."""
    key = new_key()
    signed = await client.signed(key, namespace="shop", workload=workload)
    return grpc.ssl_channel_credentials(signed.bundle_pem.encode(), key.pem.encode(), signed.chain_pem.encode())


@asynccontextmanager
async def proxy(
    xds: Address,
    node: str,
    trusted: grpc.ChannelCredentials,
    *endpoints: str,
    asks: Iterable[str] = (CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME, EXTENSION),
    held: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[Proxy]:
    """A proxy that has asked for everything it should have, and for `endpoints`; `held` is what it brings along.

    One that will be refused `asks` once: whether it hears the reason when it says more is a matter of luck.
    """
    options = [("grpc.ssl_target_name_override", "localhost")]
    async with grpc.aio.secure_channel(str(xds), trusted, options=options) as channel:
        method = channel.stream_stream(
            METHOD,
            request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
        )
        it = Proxy(method(wait_for_ready=True))
        for type_url in asks:
            it.has[type_url] = dict((held or {}).get(type_url, {}))
            names = endpoints if type_url == ENDPOINT else ()
            await it.subscribe(type_url, *names, node=node, initial_resource_versions=it.has[type_url])
        reading = asyncio.create_task(it.run())
        try:
            yield it
        finally:
            it.call.cancel()
            await asyncio.gather(reading, return_exceptions=True)
