"""What was written: all documents of one revision, valid and frozen."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from mesh.model.names import DEFAULT_NAMESPACE
from mesh.model.route import GRPCRoute, HTTPRoute, ReferenceGrant
from mesh.model.traffic import BackendTrafficPolicy, Retry, Timeouts
from mesh.model.workload import Workload

GROUP_VERSION = "proa.mesh/v1alpha1"


@dataclass(frozen=True, slots=True)
class Mesh:
    """Settings of the whole mesh. There is one, named `default`. Timeouts and retries are those of every service."""

    where: str = "built-in"
    trust_domain: str = "proa.local"
    leaf_lifetime: timedelta = timedelta(hours=24)
    namespace: str = DEFAULT_NAMESPACE
    name: str = "default"
    timeouts: Timeouts | None = None
    retry: Retry | None = None


Resource = Mesh | Workload | GRPCRoute | HTTPRoute | ReferenceGrant | BackendTrafficPolicy


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What makes a document one of its kind."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def key_of(resource: Resource) -> Key:
    return Key(type(resource).__name__, resource.namespace, resource.name)


@dataclass(frozen=True, slots=True)
class Documents:
    """Sorted by key, so that equal content is equal whatever the order in which it was written."""

    mesh: Mesh = Mesh()
    workloads: tuple[Workload, ...] = ()
    routes: tuple[GRPCRoute | HTTPRoute, ...] = ()
    grants: tuple[ReferenceGrant, ...] = ()
    traffic_policies: tuple[BackendTrafficPolicy, ...] = ()

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> "Documents":
        """The documents among which no two share a key; for two that do, the later one counts."""
        by_key = {key_of(resource): resource for resource in resources}
        ordered = [by_key[key] for key in sorted(by_key)]
        return cls(
            mesh=next((r for r in ordered if isinstance(r, Mesh)), Mesh()),
            workloads=tuple(r for r in ordered if isinstance(r, Workload)),
            routes=tuple(r for r in ordered if isinstance(r, GRPCRoute | HTTPRoute)),
            grants=tuple(r for r in ordered if isinstance(r, ReferenceGrant)),
            traffic_policies=tuple(r for r in ordered if isinstance(r, BackendTrafficPolicy)),
        )
