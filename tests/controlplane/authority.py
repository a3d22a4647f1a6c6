"""A control plane whose authority is looked at, and proxies that follow it, or do not."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from mesh.api.proa.v1 import agents_pb2, ca_pb2, ca_pb2_grpc
from mesh.controlplane.main import serve
from mesh.controlplane.settings import Settings
from mesh.identity.key import new_key
from mesh.model.address import Address
from tests.controlplane.conftest import SECONDS, Client, Open, connected

ORDERS = "shop/orders/orders-0"
TRUST, RENEW, RETIRE, STEADY = (
    ca_pb2.ROTATION_STEP_TRUST,
    ca_pb2.ROTATION_STEP_RENEW,
    ca_pb2.ROTATION_STEP_RETIRE,
    ca_pb2.ROTATION_STEP_STEADY,
)


class Mesh:
    """A control plane and what an operator asks it."""

    def __init__(self, client: Client, xds: Address) -> None:
        self.client = client
        self.xds = xds
        self.ca: Any = ca_pb2_grpc.CaServiceStub(client.channel)

    async def authority(self, until: Callable[[ca_pb2.Authority], object] = lambda _: True) -> ca_pb2.Authority:
        """As soon as `until` holds for it."""
        async with asyncio.timeout(SECONDS):
            while True:
                found: ca_pb2.Authority = (await self.ca.GetAuthority(ca_pb2.GetAuthorityRequest())).authority
                if until(found):
                    return found
                await asyncio.sleep(0.01)

    async def at(self, step: ca_pb2.RotationStep, waits_for: int = 0) -> ca_pb2.Authority:
        return await self.authority(lambda found: found.step == step and len(found.waits_for) == waits_for)

    async def beyond(self, step: ca_pb2.RotationStep) -> ca_pb2.Authority:
        return await self.authority(lambda found: found.step != step)

    async def rotate(self, *, force: bool = False) -> ca_pb2.Authority:
        answer = await self.ca.RotateRoot(ca_pb2.RotateRootRequest(force=force))
        authority: ca_pb2.Authority = answer.authority
        return authority

    async def sign(self, workload: str = "orders") -> tuple[str, agents_pb2.SignCertificateResponse]:
        """A key and its certificate."""
        key = new_key()
        return key.pem, await self.client.signed(key, namespace="shop", workload=workload)


@asynccontextmanager
async def serving(opened: Open, folder: Path, xds: Address, ca: Path | None = None) -> AsyncIterator[Mesh]:
    """A control plane that has just started on this state."""
    registry, stop = await opened(), asyncio.Event()
    settings = Settings(folder, folder / "run" / "api.sock", xds, ca=ca)
    running = asyncio.create_task(serve(settings, registry, stop))
    async with connected(settings.api) as client:
        yield Mesh(client, xds)
    stop.set()
    await running


class Proxy:
    """An agent whose Envoy loads what it is told, as long as it `follows`."""

    def __init__(self, mesh: Mesh, call: Any, trust: agents_pb2.Trust) -> None:
        self.trust = trust
        self.follows = True
        self._mesh = mesh
        self._call = call
        self._signed = agents_pb2.SignCertificateResponse()

    async def run(self) -> None:
        await self.load()
        while True:
            response = await self._call.read()
            if not isinstance(response, agents_pb2.AttachResponse):
                return
            if response.WhichOneof("event") == "trust":
                self.trust = response.trust
            if self.follows:
                await self.load()

    async def load(self) -> None:
        if self._signed.trust.issuer != self.trust.issuer:
            _, self._signed = await self._mesh.sign()
        loaded = agents_pb2.LoadedCertificate(
            serial=self._signed.serial,
            issuer=self._signed.trust.issuer,
            not_after=self._signed.not_after,
            roots=self.trust.roots,
        )
        report = agents_pb2.InstanceReport(healthy=True, agent_pid=7, loaded=[loaded])
        await self._call.write(agents_pb2.AttachRequest(report=report))


@asynccontextmanager
async def proxied(mesh: Mesh, instance: str = "orders-0") -> AsyncIterator[Proxy]:
    async with mesh.client.attached(instance) as agent:
        it = Proxy(mesh, agent.call, agent.attached.trust)
        running = asyncio.create_task(it.run())
        yield it
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def key_ids(authority: ca_pb2.Authority) -> list[str]:
    return [one.key_id for one in authority.certificates]


async def shakes_hands(mesh: Mesh, key: str, signed: agents_pb2.SignCertificateResponse) -> bool:
    """Whether xDS believes this certificate, and is believed by whoever has the bundle of now."""
    _, now = await mesh.sign()
    context = ssl.create_default_context(cadata=now.bundle_pem)
    context.set_alpn_protocols(["h2"])
    with NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(key + signed.chain_pem)
        file.flush()
        context.load_cert_chain(file.name)
    reader, writer = await dialled(mesh.xds, context)
    try:
        # TLS 1.3: a client learns with its first read that its certificate was refused.
        async with asyncio.timeout(SECONDS):
            return bool(await reader.read(1))
    except ssl.SSLError:
        return False
    finally:
        writer.transport.abort()


async def dialled(xds: Address, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection, as soon as somebody listens."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return await asyncio.open_connection(xds.host, xds.port, ssl=context, server_hostname="localhost")
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
