"""What is said about a document in force: whether it counts, what it names is there, and proxies run it. Pure."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from mesh.errors import ConfigError
from mesh.model.documents import Documents, Key, Mesh, Resource, key_of
from mesh.model.route import GRPCRoute, HTTPRoute, ParentRef, ReferenceGrant
from mesh.model.topology import Topology
from mesh.model.workload import Workload
from mesh.policy.references import backend_errors, parent_error, unchecked, unknown_methods, unresolved

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


@dataclass(frozen=True, slots=True)
class ParentStatus:
    """What is said of a route for one of its parents."""

    parent: ParentRef
    conditions: tuple[Condition, ...]


def conditions_of(
    resource: Resource,
    topology: Topology,
    grants: Iterable[ReferenceGrant],
    conflicts: Iterable[ConfigError],
    standings: Iterable[Standing],
) -> Iterator[Condition]:
    """Conditions of one document; `grants` and `conflicts` are those of all documents in force (`mesh.policy`)."""
    given_way = [error for error in conflicts if error.where == resource.where]
    yield _accepted(given_way)
    if not isinstance(resource, Mesh):
        yield _refs(list(_missing(resource, topology, grants)), unchecked(Documents.of([resource]), topology))
    yield programmed(resource, standings)


def parents_of(
    resource: Resource, topology: Topology, grants: Iterable[ReferenceGrant], conflicts: Iterable[ConfigError]
) -> Iterator[ParentStatus]:
    """What Gateway API has under `status.parents`, for routes. A parent that is there may still lack backends."""
    if not isinstance(resource, GRPCRoute | HTTPRoute):
        return
    given_way = [error for error in conflicts if error.where == resource.where]
    refs = _refs([(str(reason), error) for reason, error in backend_errors(resource, topology, grants)])
    for parent in resource.parents:
        if error := parent_error(resource, parent, topology):
            accepted = Condition("Accepted", False, "NoMatchingParent", _sentences([error]))
        else:
            accepted = _accepted(given_way)
        yield ParentStatus(parent, (accepted, refs))


def _missing(
    resource: Resource, topology: Topology, grants: Iterable[ReferenceGrant]
) -> Iterator[tuple[str, ConfigError]]:
    """What the document names and is not there, each with a reason."""
    alone = Documents.of([resource])
    if isinstance(resource, GRPCRoute | HTTPRoute):
        parents = (parent_error(resource, parent, topology) for parent in resource.parents)
        yield from (("NoMatchingParent", error) for error in parents if error)
        yield from ((str(reason), error) for reason, error in backend_errors(resource, topology, grants))
    else:
        not_found = "BackendNotFound" if isinstance(resource, Workload) else "TargetNotFound"
        yield from ((not_found, error) for error in unresolved(alone, topology))
    yield from (("MethodNotFound", error) for error in unknown_methods(alone, topology))


def _accepted(given_way: Collection[ConfigError]) -> Condition:
    return Condition("Accepted", not given_way, "Conflicted" if given_way else "Accepted", _sentences(given_way))


def _refs(missing: Collection[tuple[str, ConfigError]], doubts: Iterable[ConfigError] = ()) -> Condition:
    """What is not known to be there is said, and no reason not to count."""
    reason = next((reason for reason, _ in missing), "ResolvedRefs")
    return Condition("ResolvedRefs", not missing, reason, _sentences([*(error for _, error in missing), *doubts]))


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
