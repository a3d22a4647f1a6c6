"""Snapshots: all that one proxy should have, as bytes, checked for contradictions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from google.protobuf.message import Message

from mesh.errors import SnapshotError
from mesh.model.names import LOCAL_CLUSTER, TELEMETRY_CLUSTER, XDS_CLUSTER
from mesh.snapshot.references import references
from mesh.snapshot.resource import Resource, digest, resource, type_url
from mesh.snapshot.types import CLUSTER, EXTENSION, LISTENER, ROUTE, RUNTIME
from mesh.translate.resources import Resources

IN_BOOTSTRAP: Final = frozenset({XDS_CLUSTER, TELEMETRY_CLUSTER, LOCAL_CLUSTER})
"""Clusters that every proxy has before it has a snapshot."""

REFERRING: Final = (LISTENER, ROUTE)
"""Types that name resources of other types."""

MISTAKE: Final = "This is a mistake in Proa; please report it"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """By type URL, then by name; both sorted. Endpoints are not in it. `version` is a digest of everything."""

    resources: Mapping[str, Mapping[str, Resource]]
    version: str

    def of(self, type_url: str) -> Mapping[str, Resource]:
        return self.resources.get(type_url, {})


@dataclass(frozen=True, slots=True)
class Part:
    """What several proxies share, or what one has of its own, as bytes: by type URL, then by name."""

    resources: Mapping[str, Mapping[str, Resource]]


def part(resources: Resources) -> Part:
    """`resources`, serialised. Raises SnapshotError when two of one type have one name."""
    by_type: Mapping[str, Iterable[Message]] = {
        CLUSTER: resources.clusters,
        LISTENER: resources.listeners,
        ROUTE: resources.routes,
        RUNTIME: resources.runtimes,
        EXTENSION: resources.extensions,
    }
    return Part({url: _sealed(messages) for url, messages in sorted(by_type.items())})


def seal(shared: Part, own: Part) -> Snapshot:
    """Both as one snapshot. Raises SnapshotError when something refers to what is not there, or is there twice.

    A listener without its routes would never become active, and a route without its cluster answers UNAVAILABLE.
    """
    resources = {
        url: MappingProxyType(_joined(of_type, own.resources[url])) for url, of_type in shared.resources.items()
    }
    _check_needs(resources)
    versions = [one.version.encode() for of_type in resources.values() for one in of_type.values()]
    return Snapshot(MappingProxyType(resources), digest(*versions))


def _sealed(messages: Iterable[Message]) -> dict[str, Resource]:
    sealed: dict[str, Resource] = {}
    for message in messages:
        name: str = message.name  # type: ignore[attr-defined]
        refers = type_url(message) in REFERRING
        if name in sealed:
            raise _twice(name)
        sealed[name] = resource(name, message, references(message) if refers else ())
    return dict(sorted(sealed.items()))


def _joined(some: Mapping[str, Resource], more: Mapping[str, Resource]) -> dict[str, Resource]:
    if twice := some.keys() & more.keys():
        raise _twice(min(twice))
    return dict(sorted({**some, **more}.items())) if more else dict(some)


def _twice(name: str) -> SnapshotError:
    return SnapshotError(name, "two resources of one type have this name", MISTAKE)


def _check_needs(resources: Mapping[str, Mapping[str, Resource]]) -> None:
    known = {CLUSTER: IN_BOOTSTRAP | resources[CLUSTER].keys(), ROUTE: resources[ROUTE].keys()}
    for referring in (one for url in REFERRING for one in resources[url].values()):
        for url, name in referring.needs:
            if name not in known[url]:
                where = f"{_short(referring.type_url)} {referring.name}"
                raise SnapshotError(where, f"it names {_short(url)} {name}, which is not there", MISTAKE)


def _short(url: str) -> str:
    return url.rpartition(".")[2]
