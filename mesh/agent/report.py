"""What the agent tells the control plane. Pure."""

from collections.abc import Iterable

from mesh.agent.service import ServiceState
from mesh.agent.sidecar import SidecarState
from mesh.api.proa.v1 import agents_pb2


def report_of(
    service: ServiceState,
    sidecar: SidecarState,
    agent_pid: int,
    loaded: Iterable[agents_pb2.LoadedCertificate] = (),
    *,
    schema_told: bool,
) -> agents_pb2.InstanceReport:
    """An instance is healthy when its service is and callers can reach it, which takes an Envoy that listens."""
    return agents_pb2.InstanceReport(
        healthy=service.healthy and sidecar.ready,
        reason=sidecar.reason if not sidecar.ready else service.reason,
        pid=service.pid,
        agent_pid=agent_pid,
        envoy_pid=sidecar.pid,
        envoy_version=sidecar.version,
        envoy_ready=sidecar.ready,
        service_restarts=service.restarts,
        envoy_restarts=sidecar.restarts,
        exposed=service.exposed,
        loaded=loaded,
        schema_told=schema_told,
    )
