"""What is said about a document in force: whether it counts, and whether what it names is there. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mesh.errors import ConfigError
from mesh.model.documents import Documents, Mesh, Resource
from mesh.model.topology import Topology
from mesh.model.workload import Workload
from mesh.policy.check import unresolved


@dataclass(frozen=True, slots=True)
class Condition:
    """With the fields of a Kubernetes condition; types and reasons are those of Gateway API where it has them."""

    type: str
    status: bool
    reason: str
    message: str = ""


def conditions_of(resource: Resource, topology: Topology, conflicts: Iterable[ConfigError]) -> Iterator[Condition]:
    """Conditions of one document; `conflicts` are those of all documents in force (`mesh.policy.check`)."""
    given_way = [error for error in conflicts if error.where == resource.where]
    yield Condition("Accepted", not given_way, "Conflicted" if given_way else "Accepted", _sentences(given_way))
    if not isinstance(resource, Mesh):
        missing = unresolved(Documents.of([resource]), topology)
        not_found = "BackendNotFound" if isinstance(resource, Workload) else "TargetNotFound"
        yield Condition("ResolvedRefs", not missing, not_found if missing else "ResolvedRefs", _sentences(missing))


def _sentences(errors: Iterable[ConfigError]) -> str:
    return " ".join(f"{error.problem}. {error.remedy}." for error in errors).replace("?.", "?")
