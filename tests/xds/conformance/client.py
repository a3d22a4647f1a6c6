"""A plain client of either variant, with a stream of one type alone or of all: keeps the rules, and counts."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import status_pb2

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.snapshot.types import CLUSTER, LISTENER
from mesh.xds.services import AGGREGATED, SERVICES
from tests.mesh.running import patience

WITHIN = 10.0
NODE = "conformance"
FULL_SET = (CLUSTER, LISTENER)
"""In the state-of-the-world variant a response has all resources of these types; one that is missing is no more."""


@dataclass(frozen=True, slots=True)
class Variant:
    delta: bool
    aggregated: bool

    def __str__(self) -> str:
        return f"{'delta' if self.delta else 'sotw'}-{'aggregated' if self.aggregated else 'per-type'}"

    def method(self, type_url: str) -> str:
        service = AGGREGATED if self.aggregated else next(one for one in SERVICES if one.type_url == type_url)
        return f"/{service.name}/{service.delta if self.delta else service.sotw}"


VARIANTS = tuple(Variant(delta, aggregated) for delta in (False, True) for aggregated in (True, False))


class Connection:
    """One stream. Only its first message has a node, and on one of a single type no message says which type it is."""

    def __init__(self, channel: grpc.aio.Channel, variant: Variant, type_url: str, node_id: str = NODE) -> None:
        kind = discovery_pb2.DeltaDiscoveryRequest if variant.delta else discovery_pb2.DiscoveryRequest
        response = discovery_pb2.DeltaDiscoveryResponse if variant.delta else discovery_pb2.DiscoveryResponse
        method = channel.stream_stream(
            variant.method(type_url),
            request_serializer=kind.SerializeToString,
            response_deserializer=response.FromString,
        )
        self.variant = variant
        self._call: Any = method()
        self._node: base_pb2.Node | None = base_pb2.Node(id=node_id)
        self._clients: dict[str, Client] = {}
        self._nonces: set[str] = set()
        self._reading = asyncio.create_task(self._read())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()
        with suppress(asyncio.CancelledError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await self._reading

    def client(self, type_url: str) -> "Client":
        self._clients[type_url] = Client(self, type_url)
        return self._clients[type_url]

    async def send(self, request: Any, type_url: str) -> None:
        if self._node:
            request.node.CopyFrom(self._node)
            self._node = None
        if self.variant.aggregated:
            request.type_url = type_url
        await self._call.write(request)

    async def _read(self) -> None:
        async for response in self._call:
            assert response.nonce, "a response without a nonce"
            assert response.nonce not in self._nonces, "a nonce that was there before on this stream"
            self._nonces.add(response.nonce)
            await self._clients[response.type_url].hear(response)


class Client:
    """What a client has of one type, as versions by name: `held`, and `gone` for those it was told are not there.

    It accepts each response at once, unless it was told to `refuse` it. `responses` are all that it has heard.
    """

    def __init__(self, connection: Connection, type_url: str) -> None:
        self.type_url = type_url
        self.held: dict[str, str] = {}
        self.gone: set[str] = set()
        self.responses: list[Any] = []
        self.refuse = ""
        self._connection = connection
        self._names: tuple[str, ...] = ()
        self._has_named = False
        self._accepted = ""
        self._nonce = ""
        self._brought: dict[str, str] = {}
        self._heard = asyncio.Condition()

    @property
    def is_delta(self) -> bool:
        return self._connection.variant.delta

    async def ask(self, *names: str, nonce: str | None = None) -> None:
        """From now on it wants exactly these; without any name: at first all, later nothing."""
        before, self._names = self._names, names
        self._has_named |= bool(names)
        if not self.wants_all():
            self.held = {name: version for name, version in self.held.items() if name in names}
        if self.is_delta:
            await self._send_delta(
                [name for name in names if name not in before], [name for name in before if name not in names], nonce
            )
        else:
            await self._send(self._nonce if nonce is None else nonce)

    def bring(self, former: "Client") -> None:
        """What it had on a stream before this one."""
        self.held, self._accepted = dict(former.held), former._accepted
        self._brought = dict(former.held)

    async def acknowledge(self, nonce: str, error: str = "") -> None:
        """An ACK or a NACK of whatever `nonce` belongs to."""
        if self.is_delta:
            await self._send_delta((), (), nonce, error)
        else:
            await self._send(nonce, error)

    async def hear(self, response: Any) -> None:
        async with self._heard:
            self._nonce = response.nonce
            self.responses.append(response)
            error, self.refuse = self.refuse, ""
            if not error:
                self._accept(response)
            await self.acknowledge(response.nonce, error)
            self._heard.notify_all()

    async def has_heard(self, responses: int) -> None:
        """Waits until there have been so many responses in all."""
        async with asyncio.timeout(WITHIN * patience()), self._heard:
            await self._heard.wait_for(lambda: len(self.responses) >= responses)

    def wants_all(self) -> bool:
        return "*" in self._names or not self._has_named

    def _accept(self, response: Any) -> None:
        if self.is_delta:
            resources = contents([resource.resource for resource in response.resources], self.type_url)
            assert {one.name: one.version for one in response.resources} == resources
            self._accepted = response.system_version_info
            self.gone = (self.gone - resources.keys()) | set(response.removed_resources)
            self.held = {name: version for name, version in (self.held | resources).items() if name not in self.gone}
        else:
            resources = contents(response.resources, self.type_url)
            self._accepted = response.version_info
            self.held = resources if self.type_url in FULL_SET else self.held | resources

    async def _send_delta(
        self, subscribe: Iterable[str], unsubscribe: Iterable[str], nonce: str | None, error: str = ""
    ) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(
            resource_names_subscribe=subscribe,
            resource_names_unsubscribe=unsubscribe,
            response_nonce=nonce or "",
            error_detail=status_pb2.Status(message=error) if error else None,
            initial_resource_versions=self._brought,
        )
        self._brought = {}
        await self._connection.send(request, self.type_url)

    async def _send(self, nonce: str, error: str = "") -> None:
        request = discovery_pb2.DiscoveryRequest(
            version_info=self._accepted,
            resource_names=self._names,
            response_nonce=nonce,
            error_detail=status_pb2.Status(message=error) if error else None,
        )
        await self._connection.send(request, self.type_url)


def contents(resources: Iterable[AnyMessage], type_url: str) -> dict[str, str]:
    """Versions by name, as `tests.xds.raw` packs them."""
    assert all(resource.type_url == type_url for resource in resources)
    pairs = [resource.value.decode().partition("=") for resource in resources]
    found = {name: version for name, _, version in pairs}
    assert len(found) == len(pairs), "one name twice in a response"
    return found
