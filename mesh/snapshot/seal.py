"""Snapshots: all that one proxy should have, as bytes, checked for contradictions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Final

from google.protobuf.message import Message

from mesh.errors import SnapshotError
from mesh.model.names import LOCAL_CLUSTER, TELEMETRY_CLUSTER, XDS_CLUSTER
from mesh.snapshot.named import NOTHING, Named
from mesh.snapshot.references import references
from mesh.snapshot.resource import Resource, digest, resource, type_url
from mesh.snapshot.types import CLUSTER, EXTENSION, LISTENER, ROUTE, RUNTIME
from mesh.translate.resources import Resources

ALWAYS: Final = {CLUSTER: frozenset({XDS_CLUSTER, TELEMETRY_CLUSTER, LOCAL_CLUSTER})}
"""What every proxy has before it has a snapshot: the clusters of its bootstrap."""

REFERRING: Final = (LISTENER, ROUTE)
"""Types that name resources of other types."""

MISTAKE: Final = "This is a mistake in Proa; please report it"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """By type URL, then by name; both sorted. Endpoints are not in it. `version` is a digest of everything."""

    resources: Mapping[str, Named]
    version: str

    def of(self, type_url: str) -> Named:
        return self.resources.get(type_url, NOTHING)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Part:
    """What several proxies share, or what one has of its own, as bytes: by type URL, then by name.

    `needs` are the resources elsewhere that it refers to, each with the first that does.
    """

    resources: Mapping[str, Named]
    needs: Mapping[tuple[str, str], Resource]
    version: str


def part(resources: Resources) -> Part:
    """`resources`, serialised. Raises SnapshotError when two of one type have one name."""
    by_type: Mapping[str, Iterable[Message]] = {
        CLUSTER: resources.clusters,
        LISTENER: resources.listeners,
        ROUTE: resources.routes,
        RUNTIME: resources.runtimes,
        EXTENSION: resources.extensions,
    }
    return part_of({url: by_name(map(sealed, messages)) for url, messages in by_type.items()})


def part_of(resources: Mapping[str, Named]) -> Part:
    versions = (one.version.encode() for _, named in sorted(resources.items()) for one in named.values())
    return Part(resources, _needs_of(resources), digest(*versions))


def sealed(message: Message) -> Resource:
    """`message` under its own name, with what it refers to."""
    name: str = getattr(message, "name", "")
    return resource(name, message, references(message) if type_url(message) in REFERRING else ())


def by_name(resources: Iterable[Resource]) -> Named:
    """Raises SnapshotError when two have one name."""
    named: dict[str, Resource] = {}
    for one in resources:
        if one.name in named:
            raise _twice(one.name)
        named[one.name] = one
    return Named(named)


def seal(shared: Part, own: Part, before: Snapshot | None = None) -> Snapshot:
    """Both as one snapshot. Raises SnapshotError when something refers to what is not there, or is there twice.

    A listener without its routes would never become active, and a route without its cluster answers UNAVAILABLE. What
    is of one type is the same object as in `before` when it is equal.
    """
    resources = {
        url: _joined(
            shared.resources.get(url, NOTHING), own.resources.get(url, NOTHING), before.of(url) if before else NOTHING
        )
        for url in sorted(shared.resources.keys() | own.resources.keys())
    }
    _check_needs(resources, chain(shared.needs.items(), own.needs.items()))
    return Snapshot(MappingProxyType(resources), digest(shared.version.encode(), own.version.encode()))


def _needs_of(resources: Mapping[str, Named]) -> Mapping[tuple[str, str], Resource]:
    needs: dict[tuple[str, str], Resource] = {}
    for one in (one for url in REFERRING for one in resources.get(url, NOTHING).values()):
        for url, name in one.needs:
            if name not in resources.get(url, NOTHING) and name not in ALWAYS.get(url, ()):
                needs.setdefault((url, name), one)
    return needs


def _joined(some: Named, more: Named, before: Named) -> Named:
    if not (some and more):
        return some or more
    if twice := some.keys() & more.keys():
        raise _twice(min(twice))
    joined = Named.joined(some, more)
    return before if joined == before else joined


def _twice(name: str) -> SnapshotError:
    return SnapshotError(name, "two resources of one type have this name", MISTAKE)


def _check_needs(
    resources: Mapping[str, Mapping[str, Resource]], needs: Iterable[tuple[tuple[str, str], Resource]]
) -> None:
    for (url, name), referring in needs:
        if name not in resources.get(url, NOTHING):
            where = f"{_short(referring.type_url)} {referring.name}"
            raise SnapshotError(where, f"it names {_short(url)} {name}, which is not there", MISTAKE)


def _short(url: str) -> str:
    return url.rpartition(".")[2]
