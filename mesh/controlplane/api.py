"""The control API: every service on one server, with reflection and health."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mesh.api.envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from mesh.api.proa.v1 import (
    access_pb2,
    access_pb2_grpc,
    agents_pb2,
    agents_pb2_grpc,
    ca_pb2,
    ca_pb2_grpc,
    debug_pb2,
    debug_pb2_grpc,
    documents_pb2,
    documents_pb2_grpc,
    schema_pb2,
    schema_pb2_grpc,
    status_pb2,
    status_pb2_grpc,
    tokens_pb2,
    tokens_pb2_grpc,
    workloads_pb2,
    workloads_pb2_grpc,
)
from mesh.controlplane import unix_socket
from mesh.controlplane.access import AccessInterceptor, Door, SocketDoor
from mesh.controlplane.agent_service import AgentService
from mesh.controlplane.ca_service import CaService
from mesh.controlplane.csds import ClientStatusService
from mesh.controlplane.debug_service import DebugService
from mesh.controlplane.document_service import DocumentService
from mesh.controlplane.errors import ErrorInterceptor, Refused
from mesh.controlplane.identity_service import AuditService, IdentityService
from mesh.controlplane.schema_service import SchemaService
from mesh.controlplane.status_service import StatusService
from mesh.controlplane.token_service import TokenService
from mesh.controlplane.workload_service import WorkloadService

SERVICES: Final = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (documents_pb2, "DocumentService"),
        (workloads_pb2, "WorkloadService"),
        (agents_pb2, "AgentService"),
        (status_pb2, "StatusService"),
        (schema_pb2, "SchemaService"),
        (csds_pb2, "ClientStatusDiscoveryService"),
        (debug_pb2, "DebugService"),
        (ca_pb2, "CaService"),
        (tokens_pb2, "TokenService"),
        (access_pb2, "IdentityService"),
        (access_pb2, "AuditService"),
    )
)

OPTIONS: Final = (
    # All files of a mesh come in one call, as do descriptors of 16 MiB; all instances of a mesh go in one message.
    ("grpc.max_receive_message_length", 17 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
)

GRACE: Final = 0.5
"""Seconds for calls to end; streams of agents and of those who watch are then cut, and opened again elsewhere."""


class Api:
    """To be made when the state is loaded: as soon as it listens it says SERVING."""

    def __init__(
        self,
        documents: DocumentService,
        workloads: WorkloadService,
        agents: AgentService,
        status: StatusService,
        schemas: SchemaService,
        clients: ClientStatusService,
        debug: DebugService,
        authority: CaService,
        tokens: TokenService,
        identities: IdentityService,
        audit: AuditService,
        *,
        refused: Refused,
    ) -> None:
        self.refused = refused
        self._health = health.aio.HealthServicer()
        self._parts = (
            partial(documents_pb2_grpc.add_DocumentServiceServicer_to_server, documents),
            partial(workloads_pb2_grpc.add_WorkloadServiceServicer_to_server, workloads),
            partial(agents_pb2_grpc.add_AgentServiceServicer_to_server, agents),
            partial(status_pb2_grpc.add_StatusServiceServicer_to_server, status),
            partial(schema_pb2_grpc.add_SchemaServiceServicer_to_server, schemas),
            partial(csds_pb2_grpc.add_ClientStatusDiscoveryServiceServicer_to_server, clients),
            partial(debug_pb2_grpc.add_DebugServiceServicer_to_server, debug),
            partial(ca_pb2_grpc.add_CaServiceServicer_to_server, authority),
            partial(tokens_pb2_grpc.add_TokenServiceServicer_to_server, tokens),
            partial(access_pb2_grpc.add_IdentityServiceServicer_to_server, identities),
            partial(access_pb2_grpc.add_AuditServiceServicer_to_server, audit),
            partial(health_pb2_grpc.add_HealthServicer_to_server, self._health),
            partial(reflection.enable_server_reflection, (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)),
        )
        self._server = self.behind(SocketDoor())

    def behind(self, door: Door, options: Sequence[tuple[str, int]] = OPTIONS) -> grpc.aio.Server:
        """A server with all of it behind the door, that listens nowhere yet."""
        interceptors = [ErrorInterceptor(self.refused), AccessInterceptor(door, self.refused)]
        server = grpc.aio.server(interceptors=interceptors, options=options)
        for add_to in self._parts:
            add_to(server)
        return server

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Answers calls within the block. Raises StartError when it cannot listen at `path`."""
        unix_socket.claim(path)
        self._server.add_insecure_port(f"unix:{path}")
        await self._server.start()
        unix_socket.protect(path)
        for name in ("", *SERVICES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        try:
            yield
        finally:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(GRACE)
            path.unlink(missing_ok=True)
