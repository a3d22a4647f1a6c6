"""The services of the control API, and what each of them is made of."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import grpc

from mesh.api.envoy.service.status.v3 import csds_pb2_grpc
from mesh.api.proa.v1 import (
    access_pb2_grpc,
    agents_pb2_grpc,
    ca_pb2_grpc,
    debug_pb2_grpc,
    documents_pb2_grpc,
    schema_pb2_grpc,
    status_pb2_grpc,
    tokens_pb2_grpc,
    workloads_pb2_grpc,
)
from mesh.controlplane.agent_service import AgentService
from mesh.controlplane.attestation import Attestation
from mesh.controlplane.ca_service import CaService
from mesh.controlplane.clients import Clients
from mesh.controlplane.compiler import Compiler
from mesh.controlplane.csds import ClientStatusService
from mesh.controlplane.debug_service import DebugService
from mesh.controlplane.document_service import DocumentService
from mesh.controlplane.identity_service import AuditService, IdentityService
from mesh.controlplane.rotation import Rotation
from mesh.controlplane.schema_service import SchemaService
from mesh.controlplane.standing import Standings
from mesh.controlplane.status_service import StatusService
from mesh.controlplane.token_service import TokenService
from mesh.controlplane.workload_service import WorkloadService
from mesh.model.address import Address
from mesh.registry.registry import Registry
from mesh.registry.status import StatusBoard
from mesh.xds.cache import Cache

Service = tuple[Callable[[Any, grpc.aio.Server], None], Any]
"""A servicer, behind the function that adds it to a server."""


def services(
    registry: Registry,
    compiler: Compiler,
    cache: Cache,
    board: StatusBoard,
    rotation: Rotation,
    *,
    xds: Address,
    now: Callable[[], datetime],
) -> tuple[Service, ...]:
    """All that Proa implements itself. `xds` is where proxies of this machine find their configuration."""
    attestation = Attestation(registry, rotation.authority, now)
    agents = AgentService(registry, compiler, board, attestation, rotation=rotation, xds=xds, now=now)
    standings = Standings(registry, compiler, board)
    status = StatusService(registry, board, compiler, standings, Clients(registry, cache, board))
    clients = ClientStatusService(registry, cache, board)
    return (
        (documents_pb2_grpc.add_DocumentServiceServicer_to_server, DocumentService(registry, standings)),
        (workloads_pb2_grpc.add_WorkloadServiceServicer_to_server, WorkloadService(registry)),
        (agents_pb2_grpc.add_AgentServiceServicer_to_server, agents),
        (status_pb2_grpc.add_StatusServiceServicer_to_server, status),
        (schema_pb2_grpc.add_SchemaServiceServicer_to_server, SchemaService(registry, now)),
        (csds_pb2_grpc.add_ClientStatusDiscoveryServiceServicer_to_server, clients),
        (debug_pb2_grpc.add_DebugServiceServicer_to_server, DebugService(registry, compiler, cache)),
        (ca_pb2_grpc.add_CaServiceServicer_to_server, CaService(registry, rotation)),
        (tokens_pb2_grpc.add_TokenServiceServicer_to_server, TokenService(registry, rotation.authority, now)),
        (access_pb2_grpc.add_IdentityServiceServicer_to_server, IdentityService(registry)),
        (access_pb2_grpc.add_AuditServiceServicer_to_server, AuditService(registry)),
    )
