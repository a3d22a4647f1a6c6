"""What is said about a document in force: whether it counts, what it names is there, and proxies run it. Pure."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from mesh.errors import ConfigError
from mesh.model.documents import Documents, Key, Mesh, Resource, key_of
from mesh.model.topology import Topology
from mesh.model.workload import Workload
from mesh.policy.check import unresolved

NAMED = 3
"""Proxies, in the message of a condition."""


@dataclass(frozen=True, slots=True)
class Condition:
    """With the fields of a Kubernetes condition; types and reasons are those of Gateway API where it has them."""

    type: str
    status: bool
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a resource from a proxy, in `words`, and the documents that the resource was made from."""

    words: str
    origins: frozenset[Key]


@dataclass(frozen=True, slots=True)
class Standing:
    """A connected proxy, as documents see it.

    `origins` are all documents that its resources were made from. `refused` is what it has refused, `held` what is held
    back because it refers to something that the proxy has not accepted. It `lags` until it has answered for everything
    that it was sent. `problem` is why nothing new could be made for it, empty for none.
    """

    node_id: str
    origins: frozenset[Key]
    refused: tuple[Obstacle, ...] = ()
    held: tuple[Obstacle, ...] = ()
    lags: bool = False
    problem: str = ""


def conditions_of(
    resource: Resource, topology: Topology, conflicts: Iterable[ConfigError], standings: Iterable[Standing]
) -> Iterator[Condition]:
    """Conditions of one document; `conflicts` are those of all documents in force (`mesh.policy.check`)."""
    given_way = [error for error in conflicts if error.where == resource.where]
    yield Condition("Accepted", not given_way, "Conflicted" if given_way else "Accepted", _sentences(given_way))
    if not isinstance(resource, Mesh):
        missing = unresolved(Documents.of([resource]), topology)
        not_found = "BackendNotFound" if isinstance(resource, Workload) else "TargetNotFound"
        yield Condition("ResolvedRefs", not missing, not_found if missing else "ResolvedRefs", _sentences(missing))
    yield programmed(resource, standings)


def programmed(resource: Resource, standings: Iterable[Standing]) -> Condition:
    """Whether every connected proxy that has resources made from the document has acknowledged all it should have.

    A Mesh concerns every proxy. One that is not connected goes on with what it has, and counts when it is back.
    """
    key = key_of(resource)
    concerned = [one for one in standings if isinstance(resource, Mesh) or key in one.origins]
    refused = [f"{one.node_id}: {each.words}" for one in concerned for each in one.refused if key in each.origins]
    unmade = [f"{one.node_id}: {one.problem}" for one in concerned if one.problem]
    held = [f"{one.node_id}: {each.words}" for one in concerned for each in one.held if key in each.origins]
    lagging = [one.node_id for one in concerned if one.lags]
    for reason, said in (("Refused", refused), ("Invalid", unmade), ("Held", held)):
        if said:
            return Condition("Programmed", False, reason, _some(said, "; "))
    if lagging:
        return Condition("Programmed", False, "Pending", f"waiting for {_some(lagging, ', ')}")
    return Condition("Programmed", True, "Programmed", f"concerns {len(concerned)} of the connected proxies")


def _some(texts: Collection[str], between: str) -> str:
    rest = len(texts) - NAMED
    return between.join([*list(texts)[:NAMED], *([f"and {rest} more"] if rest > 0 else [])])


def _sentences(errors: Iterable[ConfigError]) -> str:
    return " ".join(f"{error.problem}. {error.remedy}." for error in errors).replace("?.", "?")
