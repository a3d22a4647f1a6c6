"""Leases: which instances are there, and for how long without a word from them. Pure; time is an argument.

A lease has no end while its agent is connected. A broken stream starts a term, after which the instance is forgotten.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from mesh.model.address import Address
from mesh.model.names import Identity, InstanceId, Target
from mesh.model.shape import Instance, InstancePort, InstanceUpstream, Role, Shape, client_shape, shape_of
from mesh.model.topology import Endpoint, EndpointHealth, Topology
from mesh.model.workload import Workload

TERM = timedelta(seconds=10)
"""Longer than a control plane needs to start again and an agent to reconnect."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of an instance listen: by port number, by key of the upstream; `admin` is a path."""

    inbound: Mapping[int, Address]
    app: Mapping[int, Address]
    upstreams: Mapping[str, Address]
    outbound: Address
    admin: str


NO_ADDRESSES = Addresses(inbound={}, app={}, upstreams={}, outbound=Address("127.0.0.1", 0), admin="")
"""Of what listens nowhere."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One combination of a leaf, what signed it, and roots that a proxy uses; certificates by their serial numbers."""

    serial: str
    issuer: str
    not_after: datetime
    roots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent last said about what runs beside it. Process ids are 0 while there is none."""

    healthy: bool = False
    reason: str = ""
    pid: int = 0
    agent_pid: int = 0
    envoy_pid: int = 0
    envoy_version: str = ""
    envoy_ready: bool = False
    service_restarts: int = 0
    envoy_restarts: int = 0
    exposed: tuple[str, ...] = ()
    loaded: tuple[Loaded, ...] = ()
    schema_told: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """An instance that was attached. `workload` and `document` are those it was started with."""

    id: InstanceId
    generation: str
    workload: Workload
    document: str
    identity: Identity
    addresses: Addresses
    report: Report = field(default_factory=Report)
    was_healthy: bool = False
    draining: bool = False

    @property
    def role(self) -> Role:
        return Role.SIDECAR if self.id.service_account is None else Role.GRPC_CLIENT


def reported(lease: Lease, report: Report) -> Lease:
    """The lease after a report. One by another agent is about new processes: never healthy yet, and not draining."""
    if lease.report.agent_pid not in (0, report.agent_pid):
        lease = replace(lease, was_healthy=False, draining=False)
    return replace(lease, report=report, was_healthy=lease.was_healthy or report.healthy)


def over(ends: Mapping[InstanceId, timedelta], now: timedelta) -> tuple[InstanceId, ...]:
    """Whose term is over. `ends` and `now` are on one monotonic clock."""
    return tuple(sorted(instance for instance, end in ends.items() if end <= now))


def next_end(ends: Mapping[InstanceId, timedelta], now: timedelta) -> timedelta | None:
    """How long until the next term is over, None when no term runs."""
    return max(min(ends.values()) - now, timedelta()) if ends else None


def endpoints_of(leases: Iterable[Lease]) -> dict[Target, tuple[Endpoint, ...]]:
    """The endpoints of each target that has any, sorted.

    An instance is an endpoint from when it was healthy for the first time until it drains: for its service as a whole
    and for its version.
    """
    found: dict[Target, set[Endpoint]] = {}
    for lease in leases:
        if lease.draining or not lease.was_healthy:
            continue
        for target, endpoint in _endpoints(lease):
            found.setdefault(target, set()).add(endpoint)
    return {target: tuple(sorted(endpoints)) for target, endpoints in sorted(found.items())}


def _endpoints(lease: Lease) -> Iterable[tuple[Target, Endpoint]]:
    workload = lease.workload
    health = EndpointHealth.HEALTHY if lease.report.healthy else EndpointHealth.UNHEALTHY
    for port in workload.ports:
        if address := lease.addresses.inbound.get(port.number):
            for version in {"", workload.version}:
                target = Target(workload.namespace, workload.service, port.number, version)
                yield target, Endpoint(address, health, workload.locality)


def instance_of(lease: Lease, topology: Topology) -> Instance:
    """The instance with its addresses. Ports and upstreams that it was not started with are left out."""
    return Instance(
        id=lease.id,
        identity=lease.identity,
        service=lease.workload.service,
        version=lease.workload.version,
        locality=lease.workload.locality,
        ports=tuple(_ports(lease)),
        upstreams=tuple(_upstreams(lease, topology)),
        outbound=lease.addresses.outbound,
        admin=lease.addresses.admin,
        role=lease.role,
    )


def shape_of_lease(lease: Lease, topology: Topology) -> Shape:
    """The shape of the instance, from the workload that it was started with."""
    if lease.role is Role.GRPC_CLIENT:
        return client_shape(lease.id.namespace)
    return shape_of(lease.workload, topology)


def _ports(lease: Lease) -> Iterable[InstancePort]:
    at = lease.addresses
    for port in lease.workload.ports:
        if port.number in at.inbound and port.number in at.app:
            yield InstancePort(port.number, port.protocol, at.inbound[port.number], at.app[port.number])


def _upstreams(lease: Lease, topology: Topology) -> Iterable[InstanceUpstream]:
    for upstream in lease.workload.upstreams:
        service = topology.service(upstream.namespace, upstream.service)
        port = service.port(upstream.port) if service else None
        address = lease.addresses.upstreams.get(upstream.key)
        if port and address:
            target = Target(upstream.namespace, upstream.service, port.number)
            yield InstanceUpstream(upstream.key, target, port.protocol, address)
