"""A STRICT mesh of one service for a real gRPC client, without an Envoy: who tells the client, and who answers it."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
from cryptography import x509
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse as Answer

from mesh.agent.client_folder import ClientFolder
from mesh.identity.key import new_key
from mesh.model.address import Address
from mesh.model.documents import Documents
from mesh.model.names import Identity, InstanceId, Target
from mesh.model.shape import client_shape
from mesh.model.topology import Endpoint, topology_of
from mesh.policy.view import view_for
from mesh.snapshot.resource import Resource, resource
from mesh.snapshot.seal import part
from mesh.translate.endpoint import load_assignment
from mesh.translate.resources import resources_for
from tests.builders import a_workload, documents
from tests.xds.conformance.test_grpc_client import SERVICE
from tests.xds.control_plane import HERE, ControlPlane, now

CLIENT = InstanceId.of_client("shop", "reporter", "1f2e")
REPORTER = Identity("proa.local", "shop", "reporter")
STOCK = Identity("proa.local", "shop", "stock")
TARGET = Target("shop", "stock", 50051)
Status = Answer.ServingStatus.ValueType


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
        self.publish_all({"": endpoints}, a_workload(service, f"port: 50051, serviceAccount: {account}"))

    def publish_all(self, endpoints: Mapping[str, Iterable[Endpoint]], *texts: str) -> None:
        """The mesh is that of these documents; `endpoints` by version of `stock`."""
        targets = {replace(TARGET, version=version): found for version, found in endpoints.items()}
        assignments = (resource(to.cluster, load_assignment(to, found, HERE)) for to, found in targets.items())
        self.plane.publish(*_shared(documents(*texts)), *assignments, node_id=CLIENT.node_id)

    @asynccontextmanager
    async def answering(
        self, status: Status = Answer.SERVING, *meanwhile: grpc.aio.ServerInterceptor, **options: int
    ) -> AsyncIterator[Endpoint]:
        """A callee that is `STOCK` and asks for a certificate."""
        key, chain = self.plane.leaf(STOCK)
        roots = self.plane.authority.bundle_pem.encode()
        credentials = grpc.ssl_server_credentials([(key.encode(), chain.encode())], roots, require_client_auth=True)
        server = grpc.aio.server(interceptors=[_Certificates(self.callers), *meanwhile], options=_options(options))
        await serve_health(server, status)
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


def _shared(mesh: Documents) -> Iterable[Resource]:
    shared = part(resources_for(view_for(client_shape("shop"), topology_of(mesh), mesh)))
    return [one for named in shared.resources.values() for one in named.values()]


def _options(options: dict[str, int]) -> list[tuple[str, int]]:
    return [(f"grpc.{name}", value) for name, value in options.items()]


async def serve_health(server: grpc.aio.Server, status: Status = Answer.SERVING) -> None:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set(SERVICE, status)
