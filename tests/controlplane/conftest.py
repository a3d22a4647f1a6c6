"""A registry on a real state file with clocks that a test moves, and a control plane that serves it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.api.proa.v1 import (
    agents_pb2,
    agents_pb2_grpc,
    documents_pb2,
    documents_pb2_grpc,
    status_pb2,
    status_pb2_grpc,
    tokens_pb2,
    tokens_pb2_grpc,
    workloads_pb2_grpc,
)
from mesh.controlplane import rotation, wire
from mesh.controlplane.main import serve
from mesh.controlplane.settings import Settings
from mesh.controlplane.tcp import first_contact
from mesh.identity.key import Key, new_key
from mesh.model.address import Address
from mesh.registry.registry import Registry
from mesh.registry.store import Store
from tests.mesh.running import patience
from tests.ports import free_port
from tests.unit.registry.builders import NOON, addresses, workload

SECONDS = 30
OPTIONS = [("grpc.ssl_target_name_override", "control-plane.proa")]


@dataclass
class Clock:
    """`uptime` is moved by `advance`; the time of day stands still."""

    seconds: float = 0.0

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def uptime(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    def now(self) -> datetime:
        return NOON


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


Open = Callable[[], Awaitable[Registry]]


@pytest.fixture
async def opened(path: Path, clock: Clock) -> AsyncIterator[Open]:
    """`await opened()` is the registry as a control plane that has just started finds it."""
    async with AsyncExitStack() as stack:

        async def open_registry() -> Registry:
            store = await Store.open(path)
            registry, problems = await Registry.load(store, now=clock.now, uptime=clock.uptime)
            stack.push_async_callback(registry.close)
            assert problems == ()
            return registry

        yield open_registry


@pytest.fixture
async def registry(opened: Open) -> Registry:
    return await opened()


class Client:
    """The API over a channel, and short words for what most tests say."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.documents: Any = documents_pb2_grpc.DocumentServiceStub(channel)
        self.workloads: Any = workloads_pb2_grpc.WorkloadServiceStub(channel)
        self.agents: Any = agents_pb2_grpc.AgentServiceStub(channel)
        self.status: Any = status_pb2_grpc.StatusServiceStub(channel)
        self.tokens: Any = tokens_pb2_grpc.TokenServiceStub(channel)

    async def apply(self, *texts: str) -> documents_pb2.ApplyDocumentsResponse:
        return await self.documents.ApplyDocuments(documents_pb2.ApplyDocumentsRequest(files=files(*texts)))

    async def start_with(self, *texts: str) -> documents_pb2.ReplaceFileSetResponse:
        return await self.documents.ReplaceFileSet(documents_pb2.ReplaceFileSetRequest(files=files(*texts)))

    async def token(self, **asked: Any) -> str:
        """A new one, for example for `namespace="shop", workload="orders"`."""
        made = await self.tokens.CreateToken(tokens_pb2.CreateTokenRequest(**asked))
        return str(made.token)

    async def signed(self, key: Key, **who: str) -> agents_pb2.SignCertificateResponse:
        """A first certificate."""
        request = agents_pb2.SignCertificateRequest(csr=key.csr, token=await self.token(**who), **who)
        signed: agents_pb2.SignCertificateResponse = await self.agents.SignCertificate(request)
        return signed

    async def plan(self, workload: str = "orders") -> agents_pb2.LaunchPlan:
        request = agents_pb2.GetLaunchPlanRequest(namespace="shop", workload=workload)
        return (await self.agents.GetLaunchPlan(request)).plan

    async def instances(
        self, until: Callable[[dict[str, status_pb2.Instance]], bool] = lambda _: True
    ) -> dict[str, status_pb2.Instance]:
        """All instances by name, as soon as `until` holds for them."""
        async with asyncio.timeout(SECONDS):
            async for response in self.status.WatchInstances(status_pb2.WatchInstancesRequest()):
                found = {instance.instance: instance for instance in response.instances}
                if until(found):
                    return found
        raise AssertionError("the stream ended")

    @asynccontextmanager
    async def attached(self, instance: str = "orders-0", **hello: Any) -> AsyncIterator["Agent"]:
        """An agent that has said hello and been answered."""
        call = self.agents.Attach()
        await call.write(agents_pb2.AttachRequest(hello=await self.hello(instance, **hello)))
        response = await call.read()
        assert isinstance(response, agents_pb2.AttachResponse), await call.code()
        try:
            yield Agent(call, response.attached)
        finally:
            call.cancel()

    async def hello(
        self, instance: str = "orders-0", generation: str = "", base_port: int = 20_000
    ) -> agents_pb2.Hello:
        workload = instance.rpartition("-")[0]
        return agents_pb2.Hello(
            namespace="shop",
            workload=workload,
            instance=instance,
            generation=generation or (await self.plan(workload)).generation,
            addresses=wire.addresses_message(addresses(base_port)),
        )


@dataclass
class Agent:
    call: Any
    attached: agents_pb2.Attached

    async def report(self, healthy: bool = True, agent_pid: int = 7) -> None:
        report = agents_pb2.InstanceReport(healthy=healthy, agent_pid=agent_pid)
        await self.call.write(agents_pb2.AttachRequest(report=report))

    async def drain(self) -> None:
        await self.call.write(agents_pb2.AttachRequest(drain=agents_pb2.Drain()))

    async def drained(self) -> None:
        async with asyncio.timeout(SECONDS):
            response = await self.call.read()
        assert response.WhichOneof("event") == "drained"


def files(*texts: str) -> list[documents_pb2.SourceFile]:
    return [documents_pb2.SourceFile(path=f"{n}.yaml", text=text, folder="/srv") for n, text in enumerate(texts)]


@dataclass
class Plane:
    """A control plane in this process. Its state is `registry`, its certificates are really valid now."""

    client: Client
    registry: Registry
    settings: Settings


@pytest.fixture
def xds() -> Address:
    return Address("127.0.0.1", free_port())


@pytest.fixture
def quick_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation that waits as little after a step as tests can afford."""
    monkeypatch.setattr(rotation, "SETTLE", timedelta(milliseconds=20))
    monkeypatch.setattr(rotation, "LOOK", timedelta(milliseconds=50))


@pytest.fixture
async def plane(opened: Open, tmp_path: Path) -> AsyncIterator[Plane]:
    async with _serving(opened, tmp_path) as plane:
        yield plane


@pytest.fixture
async def listening(opened: Open, tmp_path: Path) -> AsyncIterator[Plane]:
    """One that takes other machines."""
    async with _serving(opened, tmp_path, listen=(Address("127.0.0.1", free_port(neighbours=1)),)) as plane:
        yield plane


@asynccontextmanager
async def _serving(opened: Open, tmp_path: Path, **more: Any) -> AsyncIterator[Plane]:
    registry, stop = await opened(), asyncio.Event()
    xds, metrics = Address("127.0.0.1", free_port()), Address("127.0.0.1", free_port())
    settings = Settings(tmp_path, tmp_path / "run" / "api.sock", xds, metrics, **more)
    serving = asyncio.create_task(serve(settings, registry, stop))
    async with connected(settings.api) as client:
        yield Plane(client, registry, settings)
    stop.set()
    await serving


@pytest.fixture
def client(plane: Plane) -> Client:
    return plane.client


@asynccontextmanager
async def connected(socket: Path) -> AsyncIterator[Client]:
    """A client of a control plane that may still be starting."""
    options = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 20)]
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=options) as channel:
        async with asyncio.timeout(SECONDS * patience()):
            await channel.channel_ready()
        yield Client(channel)


def today() -> datetime:
    return datetime.now(UTC)


@dataclass
class Remote:
    """The control plane as other machines see it."""

    plane: Plane
    api: Address
    roots: bytes

    @asynccontextmanager
    async def as_(self, key: Key, chain_pem: str) -> AsyncIterator[grpc.aio.Channel]:
        trusted = grpc.ssl_channel_credentials(self.roots, key.pem.encode(), chain_pem.encode())
        async with grpc.aio.secure_channel(str(self.api), trusted, options=OPTIONS) as channel:
            yield channel

    @asynccontextmanager
    async def as_stranger(self) -> AsyncIterator[grpc.aio.Channel]:
        trusted = grpc.ssl_channel_credentials(self.roots)
        async with grpc.aio.secure_channel(str(first_contact(self.api)), trusted, options=OPTIONS) as channel:
            yield channel

    @asynccontextmanager
    async def as_role(self, role: str) -> AsyncIterator[grpc.aio.Channel]:
        key, token = new_key(), await self.plane.client.token(role=role)
        async with self.as_stranger() as channel:
            redeem: Any = tokens_pb2_grpc.TokenServiceStub(channel).RedeemToken
            signed = await redeem(tokens_pb2.RedeemTokenRequest(token=token, csr=key.csr))
        async with self.as_(key, signed.chain_pem) as channel:
            yield channel

    @asynccontextmanager
    async def as_workload(self, name: str) -> AsyncIterator[grpc.aio.Channel]:
        key = new_key()
        signed = await self.plane.client.signed(key, namespace="shop", workload=name)
        async with self.as_(key, signed.chain_pem) as channel:
            yield channel


@pytest.fixture
async def remote(listening: Plane) -> Remote:
    await listening.client.start_with(workload("orders"), workload("stock"))
    await listening.client.signed(new_key(), namespace="shop", workload="orders")
    made = await listening.client.tokens.CreateToken(tokens_pb2.CreateTokenRequest(role="viewer"))
    return Remote(listening, listening.settings.listen[0], made.roots_pem.encode())
