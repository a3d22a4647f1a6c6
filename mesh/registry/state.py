"""What was written and what was asked for, as one frozen value per revision. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from mesh.config import Written
from mesh.model.documents import Documents, Key, Resource
from mesh.model.route import GRPCRoute, HTTPRoute
from mesh.model.topology import Topology, topology_of
from mesh.model.traffic import BackendTrafficPolicy
from mesh.registry.known import Known, Origin, by_version


@dataclass(frozen=True, slots=True)
class Kept:
    """A document, and since when its set has one of this name."""

    written: Written
    first_applied_at: datetime

    @property
    def resource(self) -> Resource:
        """What it means; policies and routes know their age, by which conflicts are decided."""
        resource = self.written.resource
        if isinstance(resource, BackendTrafficPolicy | GRPCRoute | HTTPRoute):
            return replace(resource, created=self.first_applied_at.isoformat(timespec="microseconds"))
        return resource


@dataclass(frozen=True, slots=True)
class Operation:
    """What was asked for a workload beyond its document. `replicas` None: what the document says."""

    replicas: int | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """Everything that was written and asked for, and what services tell of their methods. A change makes a new one.

    `file` is what `proa up` was started with and is replaced as a whole; `applied` came later and wins for the same
    name. `trust_domain` is empty until the first document is there, and never changes afterwards: certificates
    that proxies hold were issued in it. `revoked` has SPIFFE ids and serial numbers, and since when.
    """

    file: Mapping[Key, Kept] = field(default_factory=dict)
    applied: Mapping[Key, Kept] = field(default_factory=dict)
    operations: Mapping[Key, Operation] = field(default_factory=dict)
    revision: int = 0
    trust_domain: str = ""
    known: Mapping[Origin, Known] = field(default_factory=dict)
    revoked: Mapping[str, datetime] = field(default_factory=dict)

    def in_force(self) -> Mapping[Key, Kept]:
        """Sorted by key."""
        return dict(sorted({**self.file, **self.applied}.items()))

    def documents(self) -> Documents:
        """The documents in force. Without a Mesh document the trust domain is the one that was settled before."""
        documents = documents_of(self.in_force().values())
        trust_domain = self.trust_domain or documents.mesh.trust_domain
        return replace(documents, mesh=replace(documents.mesh, trust_domain=trust_domain))

    def topology(self) -> Topology:
        """The services that the documents in force imply, and the methods that are known of them."""
        documents = self.documents()
        found = topology_of(documents, by_version(documents, self.known))
        return replace(found, revoked=tuple(sorted(name for name in self.revoked if is_identity(name))))


def is_identity(revoked: str) -> bool:
    """Whether it is a SPIFFE id, and not a serial number."""
    return revoked.startswith("spiffe://")


def documents_of(kept: Iterable[Kept]) -> Documents:
    return Documents.of(one.resource for one in kept)
