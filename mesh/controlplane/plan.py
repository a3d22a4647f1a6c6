"""The launch plan of an instance: what its agent needs to know to start it. Pure."""

from dataclasses import asdict
from typing import Final

from mesh.api.proa.v1 import agents_pb2
from mesh.model.names import Identity
from mesh.model.workload import Port, Protocol, Workload
from mesh.registry.operations import Desired

PROTOCOLS: Final = {
    Protocol.GRPC: agents_pb2.APP_PROTOCOL_GRPC,
    Protocol.HTTP: agents_pb2.APP_PROTOCOL_HTTP,
    Protocol.HTTP2: agents_pb2.APP_PROTOCOL_HTTP2,
    Protocol.TCP: agents_pb2.APP_PROTOCOL_TCP,
}


def launch_plan(wanted: Desired, trust_domain: str) -> agents_pb2.LaunchPlan:
    """Upstreams that are not there yet have their addresses, too: they answer once the service is there."""
    workload = wanted.workload
    return agents_pb2.LaunchPlan(
        command=workload.command,
        working_directory=workload.working_directory,
        env=dict(workload.env),
        ports=[_port(port) for port in workload.ports],
        upstreams=_upstreams(workload),
        health=agents_pb2.HealthPlan(**asdict(workload.health)),
        drain=workload.stop.drain,
        grace=workload.stop.grace,
        where=workload.where,
        identity=Identity(trust_domain, workload.namespace, workload.service_account).uri,
        service=workload.service,
        generation=wanted.generation,
        descriptor_set=workload.descriptor_set,
    )


def _port(port: Port) -> agents_pb2.PlannedPort:
    return agents_pb2.PlannedPort(
        name=port.name, number=port.number, protocol=PROTOCOLS[port.protocol], target_port=port.target_port or 0
    )


def _upstreams(workload: Workload) -> list[agents_pb2.PlannedUpstream]:
    return [agents_pb2.PlannedUpstream(key=upstream.key, env=upstream.env) for upstream in workload.upstreams]
