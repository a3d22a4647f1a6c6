"""Snapshots: all that one proxy should have, as bytes, checked for contradictions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Final

from google.protobuf.message import Message

from mesh.errors import SnapshotError
from mesh.model.names import LOCAL_CLUSTER, TELEMETRY_CLUSTER, XDS_CLUSTER
from mesh.snapshot.references import references
from mesh.snapshot.resource import Resource, digest, resource
from mesh.snapshot.types import CLUSTER, EXTENSION, LISTENER, ROUTE, RUNTIME
from mesh.translate.resources import Resources

IN_BOOTSTRAP: Final = frozenset({XDS_CLUSTER, TELEMETRY_CLUSTER, LOCAL_CLUSTER})
"""Clusters that every proxy has before it has a snapshot."""

MISTAKE: Final = "This is a mistake in Proa; please report it"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """By type URL, then by name; both sorted. Endpoints are not in it. `version` is a digest of everything."""

    resources: Mapping[str, Mapping[str, Resource]]
    version: str

    def of(self, type_url: str) -> Mapping[str, Resource]:
        return self.resources.get(type_url, {})


def seal(shared: Resources, own: Resources) -> Snapshot:
    """Both as one snapshot. Raises SnapshotError when something refers to what is not there, or is there twice.

    A listener without its routes would never become active, and a route without its cluster answers UNAVAILABLE.
    """
    both = {
        CLUSTER: _named(chain(shared.clusters, own.clusters)),
        LISTENER: _named(chain(shared.listeners, own.listeners)),
        ROUTE: _named(chain(shared.routes, own.routes)),
        RUNTIME: _named(chain(shared.runtimes, own.runtimes)),
        EXTENSION: _named(chain(shared.extensions, own.extensions)),
    }
    needs = {type_url: _needs(both[type_url]) for type_url in (LISTENER, ROUTE)}
    _check_references(both, needs)
    resources = {
        type_url: MappingProxyType(
            {name: resource(name, messages[name], needs.get(type_url, {}).get(name, ())) for name in sorted(messages)}
        )
        for type_url, messages in sorted(both.items())
    }
    versions = [one.version.encode() for of_type in resources.values() for one in of_type.values()]
    return Snapshot(MappingProxyType(resources), digest(*versions))


def _named(messages: Iterable[Message]) -> dict[str, Message]:
    named: dict[str, Message] = {}
    for message in messages:
        name: str = message.name  # type: ignore[attr-defined]
        if name in named:
            raise SnapshotError(name, "two resources of one type have this name", MISTAKE)
        named[name] = message
    return named


def _needs(messages: Mapping[str, Message]) -> dict[str, tuple[tuple[str, str], ...]]:
    return {name: tuple(references(message)) for name, message in messages.items()}


def _check_references(
    messages: Mapping[str, Mapping[str, Message]], needs: Mapping[str, Mapping[str, Iterable[tuple[str, str]]]]
) -> None:
    known = {CLUSTER: IN_BOOTSTRAP | messages[CLUSTER].keys(), ROUTE: messages[ROUTE].keys()}
    for referring in (LISTENER, ROUTE):
        for name, needed in needs[referring].items():
            for type_url, missing in needed:
                if missing not in known[type_url]:
                    where = f"{_short(referring)} {name}"
                    raise SnapshotError(where, f"it names {_short(type_url)} {missing}, which is not there", MISTAKE)


def _short(type_url: str) -> str:
    return type_url.rpartition(".")[2]
