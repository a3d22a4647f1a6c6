"""What is there: services with their ports, versions and identities, and the endpoints that are alive."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from mesh.model.address import Address
from mesh.model.documents import Documents
from mesh.model.names import Identity, Target
from mesh.model.schema import Method, Schema, union
from mesh.model.workload import NOWHERE, Locality, Port, Protocol


class EndpointHealth(StrEnum):
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One instance of a service at one port. `mtls` says that a sidecar of this mesh listens there."""

    address: Address
    health: EndpointHealth = EndpointHealth.HEALTHY
    locality: Locality = NOWHERE
    mtls: bool = True


@dataclass(frozen=True, slots=True, order=True)
class ServicePort:
    number: int
    name: str
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Service:
    """Implied by the workloads that name it. `ports` are in the order in which they were first written.

    `identities` holds (version, identity) pairs: who may answer for which version, declared, not observed.
    """

    namespace: str
    name: str
    ports: tuple[ServicePort, ...]
    identities: tuple[tuple[str, Identity], ...]

    def port(self, number: int | None) -> ServicePort | None:
        """The port with this number, or for None the first one."""
        return next((port for port in self.ports if number in (None, port.number)), None)

    @property
    def versions(self) -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted({version for version, _ in self.identities}))

    def identities_of(self, version: str = "") -> tuple[Identity, ...]:
        """Who may answer: for one version, or for all with an empty `version`."""
        return tuple(sorted({who for v, who in self.identities if version in ("", v)}))


Schemas = Mapping[tuple[str, str, str], Schema]
"""By namespace, service and version."""

NO_SCHEMAS: Final[Schemas] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Topology:
    """`schemas` holds what is known of each version of a service, and by version "" of all of them together.

    `revoked` are the SPIFFE ids of workloads that nobody may believe any more, sorted.
    """

    services: Mapping[tuple[str, str], Service] = field(default_factory=dict)
    schemas: Schemas = field(default_factory=dict)
    revoked: tuple[str, ...] = ()

    def service(self, namespace: str, name: str) -> Service | None:
        return self.services.get((namespace, name))

    def target(self, namespace: str, name: str, port: int | None) -> Target | None:
        """What a caller dials who names the service and perhaps a port, or None when it is not there."""
        service = self.service(namespace, name)
        found = service.port(port) if service else None
        return Target(namespace, name, found.number) if found else None

    def backend(self, namespace: str, name: str, port: int) -> Target | None:
        """What a route means by the name of a service, or of one version of it: `orders-v2`.

        Where a service has the name, it is meant; of two that a name can be split into, the one with the longer name.
        """
        service, version = self.versioned(namespace, name)
        if service is None or service.port(port) is None:
            return None
        return Target(namespace, service.name, port, version)

    def versioned(self, namespace: str, name: str) -> tuple[Service | None, str]:
        """The service and version that a name means, as `backend` has it; the version of a whole service is empty."""
        if service := self.service(namespace, name):
            return service, ""
        cuts = (at for at in range(len(name) - 1, 0, -1) if name[at] == "-")
        for name_of, version in ((name[:at], name[at + 1 :]) for at in cuts):
            service = self.service(namespace, name_of)
            if service and version in service.versions:
                return service, version
        return None, ""

    def backends(self, namespace: str) -> tuple[str, ...]:
        """Every name that `backend` knows, sorted."""
        there = [service for service in self.services.values() if service.namespace == namespace]
        versions = {f"{service.name}-{version}" for service in there for version in service.versions}
        return tuple(sorted({service.name for service in there} | versions))

    def port(self, target: Target) -> ServicePort | None:
        """None when the target is not there."""
        service = self.service(target.namespace, target.service)
        return service.port(target.port) if service else None

    def schema(self, namespace: str, name: str, version: str = "") -> Schema | None:
        """The methods of one version, or with an empty `version` of any; None when none of them is known."""
        return self.schemas.get((namespace, name, version))

    def versions_with(self, namespace: str, name: str, method: Method) -> tuple[str, ...]:
        """The versions of the service that are known to have a method of this name, sorted."""
        service = self.service(namespace, name)
        of_version = {v: self.schema(namespace, name, v) for v in (service.versions if service else ())}
        return tuple(v for v, schema in of_version.items() if schema and schema.method(method.service, method.name))


def topology_of(documents: Documents, schemas: Schemas = NO_SCHEMAS) -> Topology:
    """The services that the workloads imply, with what is known of their versions.

    Of two workloads that disagree on a port, the first by name counts.
    """
    services: dict[tuple[str, str], Service] = {}
    for workload in documents.workloads:
        key = (workload.namespace, workload.service)
        who = Identity(documents.mesh.trust_domain, workload.namespace, workload.service_account)
        known = services.get(key, Service(*key, ports=(), identities=()))
        services[key] = Service(
            *key,
            ports=_merged(known.ports, workload.ports),
            identities=tuple(sorted({*known.identities, (workload.version, who)})),
        )
    return Topology(services, {key: found for service in services.values() for key, found in _known(service, schemas)})


def _known(service: Service, schemas: Schemas) -> Iterator[tuple[tuple[str, str, str], Schema]]:
    of_version = {v: schemas.get((service.namespace, service.name, v)) for v, _ in service.identities}
    if known := {version: schema for version, schema in of_version.items() if schema}:
        for version, schema in known.items():
            yield (service.namespace, service.name, version), schema
        together = union(known[version] for version in sorted(known))
        complete = together.complete and len(known) == len(of_version)
        yield (service.namespace, service.name, ""), replace(together, complete=complete)


def _merged(known: tuple[ServicePort, ...], ports: tuple[Port, ...]) -> tuple[ServicePort, ...]:
    numbers = {port.number for port in known}
    return known + tuple(ServicePort(p.number, p.name, p.protocol) for p in ports if p.number not in numbers)
