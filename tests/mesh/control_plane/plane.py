"""The control plane of a mesh as somebody on the network finds it, and everything that goes on meanwhile."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.api.proa.v1 import agents_pb2, agents_pb2_grpc, documents_pb2, documents_pb2_grpc, tokens_pb2, tokens_pb2_grpc
from mesh.identity.key import new_key
from mesh.model.address import Address
from mesh.model.names import CONTROL_PLANE_HOST
from mesh.snapshot.types import CLUSTER
from tests.intruders import Authority, Credentials
from tests.mesh.load import connected, get_stock, load
from tests.mesh.running import RunningMesh, soon
from tests.scrape import Values, read, values

ORDERS = "spiffe://proa.local/ns/bookstore/sa/orders"
CATALOG = "spiffe://proa.local/ns/bookstore/sa/catalog"
ELSEWHERE = "spiffe://elsewhere.local/ns/bookstore/sa/orders"
WHO = {"namespace": "bookstore", "workload": "orders"}
NODE = "bookstore/orders/orders-0"

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
OPTIONS = (
    ("grpc.ssl_target_name_override", CONTROL_PLANE_HOST),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)
DENIED, INVALID = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED, UNAVAILABLE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE
PAUSE = 0.1
"""Seconds between two calls of a worker."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@dataclass(frozen=True)
class Plane:
    """The control plane of a mesh as somebody on the network finds it, and everything that goes on meanwhile."""

    mesh: RunningMesh
    api: Address
    ca: Authority
    folder: Path
    failures: list[str]

    @property
    def roots(self) -> bytes:
        return (self.mesh.state.folder / "ca" / "roots.pem").read_bytes()

    def address(self, port: str) -> Address:
        return {
            "xds": Address.parse(self.mesh.file["control_plane"]["xds"]),
            "api": self.api,
            "first contact": Address(self.api.host, self.api.port + 1),
        }[port]

    @asynccontextmanager
    async def channel(self, port: str, credentials: Credentials | None) -> AsyncIterator[grpc.aio.Channel]:
        shown = (credentials.key.encode(), credentials.chain.encode()) if credentials else (None, None)
        trusted = grpc.ssl_channel_credentials(self.roots, *shown)
        async with grpc.aio.secure_channel(str(self.address(port)), trusted, options=OPTIONS) as channel:
            yield channel

    async def tokens(self, call: Callable[[Any], Any]) -> Any:
        """As the owner of the socket."""
        async with grpc.aio.insecure_channel(self.mesh.file["control_plane"]["address"]) as channel:
            return await call(tokens_pb2_grpc.TokenServiceStub(channel))

    async def token(self, **asked: Any) -> str:
        made = await self.tokens(lambda stub: stub.CreateToken(tokens_pb2.CreateTokenRequest(**asked)))
        return str(made.token)

    async def numbers(self) -> Values:
        return values(await asyncio.to_thread(read, self.mesh.file["control_plane"]["metrics"]))

    def log(self) -> str:
        return self.mesh.state.control_plane_log.read_text()

    async def says(self, pattern: str, since: int) -> None:
        """Returns once the log has a line like this, written after so many characters."""
        await soon(lambda: re.search(pattern, self.log()[since:]), 10, lambda: f"{pattern}: {self.log()[since:]}")

    @asynccontextmanager
    async def noticed(self, words: str, *metric: str) -> AsyncIterator[None]:
        """What is done within is counted once, and a line of the log says why."""
        since, before = len(self.log()), await self.numbers()
        yield
        await self.says(words, since)
        if metric:
            assert (await self.numbers())[metric] == before[metric] + 1
        assert self.failures == []


async def legitimate(plane: Plane, over: asyncio.Event) -> None:
    """Calls of one service to another, and of an operator and a workload on another machine to the control plane."""
    person = await _person(plane)
    async with (
        connected(plane.mesh.upstream("orders", "inventory")) as inventory,
        plane.channel("api", person) as remote,
        plane.channel("api", plane.ca.leaf(CATALOG)) as workload,
    ):
        documents: Any = documents_pb2_grpc.DocumentServiceStub(remote)
        agents: Any = agents_pb2_grpc.AgentServiceStub(workload)
        plan = agents_pb2.GetLaunchPlanRequest(namespace="bookstore", workload="catalog")
        calls = (
            get_stock(inventory),
            lambda: documents.ListDocuments(documents_pb2.ListDocumentsRequest(), timeout=10),
            lambda: agents.GetLaunchPlan(plan, timeout=10),
        )
        async with load(*calls, pause=PAUSE) as seen:
            while not over.is_set():
                before = seen.calls
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await over.wait()
                plane.failures[:] = seen.failures if seen.calls > before else ["no call has ended for a second"]
    assert seen.failures == []


async def _person(plane: Plane) -> Credentials:
    key, token = new_key(), await plane.token(role="viewer")
    async with plane.channel("first contact", None) as channel:
        redeem: Any = tokens_pb2_grpc.TokenServiceStub(channel).RedeemToken
        got = await redeem(tokens_pb2.RedeemTokenRequest(token=token, csr=key.csr))
    return Credentials(got.chain_pem, key.pem)


async def code_of_view(channel: grpc.aio.Channel, *, says: bool = True) -> grpc.StatusCode:
    """Who is refused at once says nothing: whether it hears why when it does is a matter of luck."""
    call = channel.stream_stream(
        METHOD, request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString, response_deserializer=bytes
    )(timeout=10)
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        if says:
            await call.write(discovery_pb2.DeltaDiscoveryRequest(node=base_pb2.Node(id=NODE), type_url=CLUSTER))
        assert await call.read() is grpc.aio.EOF
    return await call.code()
