"""A real gRPC client with the bootstrap and the resources of a STRICT mesh: whom it believes, and as whom it calls."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh.agent.client_folder import ClientFolder
from mesh.identity.key import new_key
from mesh.model.names import Identity, InstanceId, Target
from mesh.model.shape import client_shape
from mesh.model.topology import Address, Endpoint, topology_of
from mesh.policy.view import view_for
from mesh.snapshot.resource import Resource, resource
from mesh.snapshot.seal import part
from mesh.translate.endpoint import load_assignment
from mesh.translate.resources import resources_for
from tests.builders import a_workload, documents
from tests.xds.conformance.test_grpc_client import SERVICE, Caller
from tests.xds.control_plane import HERE, ControlPlane, now

CLIENT = InstanceId.of_client("shop", "reporter", "1f2e")
REPORTER = Identity("proa.local", "shop", "reporter")
STOCK = Identity("proa.local", "shop", "stock")
TARGET = Target("shop", "stock", 50051)
LIFETIME = timedelta(seconds=9)
AT_ONCE = 5.0
"""Seconds in which an answer is no timeout: gRPC's own is 15."""


class Shop:
    """A control plane that tells one client of `stock`, and who answers there."""

    def __init__(self, folder: ClientFolder) -> None:
        self.plane = ControlPlane()
        self.plane.identities[CLIENT.node_id] = REPORTER.uri
        self.folder = folder
        self.callers: set[int] = set()

    def sign(self, lifetime: timedelta = timedelta(hours=1)) -> None:
        """A new certificate for the client."""
        key, authority = new_key(), self.plane.authority
        chain = authority.issue(key.csr, REPORTER, (), now(), lifetime).chain_pem
        self.folder.keep_certificate(chain_pem=chain, key_pem=key.pem, bundle_pem=authority.bundle_pem)

    def publish(self, *endpoints: Endpoint, account: str = "stock", service: str = "stock") -> None:
        """The mesh has the service, which runs as the account, and these endpoints."""
        self.plane.publish(
            *_shared(service, account),
            resource(TARGET.cluster, load_assignment(TARGET, endpoints, HERE)),
            node_id=CLIENT.node_id,
        )

    @asynccontextmanager
    async def answering(self, **options: int) -> AsyncIterator[Endpoint]:
        """A callee that is `STOCK` and asks for a certificate."""
        key, chain = self.plane.leaf(STOCK)
        roots = self.plane.authority.bundle_pem.encode()
        credentials = grpc.ssl_server_credentials([(key.encode(), chain.encode())], roots, require_client_auth=True)
        server = grpc.aio.server(interceptors=[_Certificates(self.callers)], options=_options(options))
        await _serve_health(server)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        try:
            yield Endpoint(Address("127.0.0.1", port))
        finally:
            await server.stop(None)


class _Certificates(grpc.aio.ServerInterceptor):
    """Notes the serial numbers of callers' certificates."""

    def __init__(self, seen: set[int]) -> None:
        self._seen = seen

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)

        async def noted(request: Any, context: Any) -> Any:
            [pem] = context.auth_context()["x509_pem_cert"]
            self._seen.add(x509.load_pem_x509_certificate(pem).serial_number)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            noted,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _shared(service: str, account: str) -> Iterable[Resource]:
    mesh = documents(a_workload(service, f"port: 50051, serviceAccount: {account}"))
    shared = part(resources_for(view_for(client_shape("shop"), topology_of(mesh), mesh)))
    return [one for named in shared.resources.values() for one in named.values()]


def _options(options: dict[str, int]) -> list[tuple[str, int]]:
    return [(f"grpc.{name}", value) for name, value in options.items()]


async def _serve_health(server: grpc.aio.Server) -> None:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    folder = ClientFolder(tmp_path / "client")
    folder.claim()
    shop = Shop(folder)
    shop.sign()
    async with shop.plane.serving():
        folder.keep_bootstrap(CLIENT, Address("127.0.0.1", shop.plane.port))
        yield shop


@pytest.fixture
async def caller(shop: Shop) -> AsyncIterator[Caller]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("grpc_call.py")),
        "xds:///stock",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP": str(shop.folder.bootstrap)},
    )
    try:
        yield Caller(process)
    finally:
        process.kill()
        await process.wait()


async def test_a_client_proves_who_it_is_to_the_control_plane_and_to_the_callee(shop: Shop, caller: Caller) -> None:
    async with shop.answering() as endpoint:
        shop.publish(endpoint)
        assert await caller.call() == "SERVING"

    [proxy] = shop.plane.board.proxies()
    assert (proxy.node_id, proxy.identity) == (CLIENT.node_id, REPORTER.uri)
    assert len(shop.callers) == 1


async def test_a_callee_with_the_certificate_of_somebody_else_is_not_believed(shop: Shop, caller: Caller) -> None:
    """Signed by the authority of the mesh, but not for the account that the service runs as."""
    async with shop.answering() as endpoint:
        shop.publish(endpoint, account="clerk")
        refused = await caller.call()
        assert refused.startswith("UNAVAILABLE")
        assert "SANs" in refused

        shop.publish(endpoint, account="stock")
        await caller.until("SERVING")


async def test_an_endpoint_without_mtls_is_not_called_in_plaintext(shop: Shop, caller: Caller) -> None:
    server = grpc.aio.server()
    await _serve_health(server)
    plaintext = Endpoint(Address("127.0.0.1", server.add_insecure_port("127.0.0.1:0")), mtls=False)
    await server.start()
    shop.publish(plaintext)
    assert (await caller.call()).startswith("UNAVAILABLE")

    async with shop.answering() as endpoint:
        shop.publish(plaintext, endpoint)
        await caller.until("SERVING")
        assert {await caller.call() for _ in range(20)} == {"SERVING"}, "it goes to those that can"
    await server.stop(None)


async def test_a_control_plane_of_another_authority_is_not_believed(shop: Shop, caller: Caller) -> None:
    """Whoever takes the port does not get to say where calls go."""
    async with shop.answering() as endpoint:
        impostor = ControlPlane()
        key, authority = new_key(), impostor.authority
        chain = shop.plane.authority.issue(key.csr, REPORTER, (), now()).chain_pem
        shop.folder.keep_certificate(chain_pem=chain, key_pem=key.pem, bundle_pem=authority.bundle_pem)
        shop.publish(endpoint)

        assert (await caller.call()).startswith("UNAVAILABLE")
    assert shop.callers == set()


async def test_a_name_that_means_nothing_fails_at_once_and_works_when_it_means_something(
    shop: Shop, caller: Caller
) -> None:
    async with shop.answering() as endpoint:
        shop.publish(endpoint, service="mail")
        began = time.monotonic()
        refused = await caller.call()
        took = time.monotonic() - began

        shop.publish(endpoint)
        await caller.until("SERVING")
        shop.publish(endpoint, service="mail")
        await caller.until("UNAVAILABLE")
        shop.publish(endpoint)
        await caller.until("SERVING")
    assert refused.startswith("UNAVAILABLE")
    assert "stock" in refused
    assert took < AT_ONCE


async def test_certificates_are_renewed_under_load_and_no_call_fails(shop: Shop, caller: Caller) -> None:
    """Each lives for 9 s and every connection for a second, so that whoever goes on with an old one fails."""
    shop.sign(LIFETIME)

    async def renew() -> None:
        while True:
            await asyncio.sleep(LIFETIME.total_seconds() / 4)
            shop.sign(LIFETIME)

    async with shop.answering(max_connection_age_ms=1000) as endpoint, asyncio.TaskGroup() as tasks:
        shop.publish(endpoint)
        renewing = tasks.create_task(renew())
        ends = time.monotonic() + 1.5 * LIFETIME.total_seconds()
        answers = []
        while time.monotonic() < ends:
            answers.append(await caller.call())
        renewing.cancel()

    assert set(answers) == {"SERVING"}
    assert len(shop.callers) >= 3
