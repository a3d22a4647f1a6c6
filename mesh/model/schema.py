"""What a service's protos say: its methods, how each may be called, and what they ask of the mesh."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum

from mesh.model.traffic import Retry, Timeouts


class Idempotency(StrEnum):
    """`google.protobuf.MethodOptions.idempotency_level`."""

    UNKNOWN = "unknown"
    IDEMPOTENT = "idempotent"
    NO_SIDE_EFFECTS = "no_side_effects"


CAUTION = (Idempotency.UNKNOWN, Idempotency.IDEMPOTENT, Idempotency.NO_SIDE_EFFECTS)
"""The one that promises less comes first."""


@dataclass(frozen=True, slots=True, order=True)
class HttpRule:
    """One binding of `google.api.http`. `verb` is upper case; `body` is a field, `*`, or "" for none."""

    verb: str
    path: str
    body: str = ""
    response_body: str = ""


@dataclass(frozen=True, slots=True)
class RateLimit:
    requests: int
    per: timedelta


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What `proa/v1/options.proto` lets a proto say. None and () mean: not said there."""

    timeouts: Timeouts | None = None
    retry: Retry | None = None
    rate_limit: RateLimit | None = None
    callers: tuple[str, ...] = ()


NOTHING_SAID = CallOptions()


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a gRPC service, with what is said at the method and what is said at its whole service."""

    service: str
    name: str
    client_streaming: bool = False
    server_streaming: bool = False
    idempotency: Idempotency = Idempotency.UNKNOWN
    http: tuple[HttpRule, ...] = ()
    deprecated: bool = False
    options: CallOptions = NOTHING_SAID
    service_options: CallOptions = NOTHING_SAID

    @property
    def path(self) -> str:
        """What gRPC sends as `:path`."""
        return f"/{self.service}/{self.name}"

    @property
    def streams(self) -> bool:
        return self.client_streaming or self.server_streaming


@dataclass(frozen=True, slots=True)
class Schema:
    """The methods of a service, sorted by gRPC service and name. One service of the mesh may have several of gRPC.

    When it is not `complete`, a method that is not in it may be there all the same: a version of the service, or one of
    its gRPC services, does not tell what it has.
    """

    methods: tuple[Method, ...] = ()
    complete: bool = True

    @classmethod
    def of(cls, methods: Iterable[Method], *, complete: bool = True) -> "Schema":
        """Of two methods with one name the first counts."""
        found: dict[tuple[str, str], Method] = {}
        for method in methods:
            found.setdefault(_key(method), method)
        return cls(tuple(found[key] for key in sorted(found)), complete)

    def method(self, service: str, name: str) -> Method | None:
        at = bisect_left(self.methods, (service, name), key=_key)
        found = self.methods[at : at + 1]
        return found[0] if found and _key(found[0]) == (service, name) else None

    def methods_of(self, service: str) -> tuple[Method, ...]:
        return tuple(method for method in self.methods if method.service == service)

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of the gRPC services that have methods, sorted."""
        return tuple(dict.fromkeys(method.service for method in self.methods))

    def nearest(self, service: str, name: str = "") -> str | None:
        """The name that somebody probably meant who wrote one that is not there: `package.Service[/Method]`."""
        if name and service in self.services:
            near = _near(name, (method.name for method in self.methods_of(service)))
            return f"{service}/{near}" if near else None
        if not (meant := _near_service(service, self.services)):
            return None
        if not name:
            return meant
        return self.nearest(meant, name) or meant


def union(schemas: Iterable[Schema]) -> Schema:
    """What callers may rely on who reach any of these versions of one service.

    Every method that one of them has; where they disagree, what promises less: streaming, not idempotent, deprecated.
    Bindings and options are those of the first that has the method.
    """
    schemas = tuple(schemas)
    found: dict[tuple[str, str], Method] = {}
    for method in (method for schema in schemas for method in schema.methods):
        known = found.get(_key(method))
        found[_key(method)] = _cautious(known, method) if known and known != method else method
    return Schema.of(found.values(), complete=all(schema.complete for schema in schemas))


def _cautious(one: Method, other: Method) -> Method:
    return replace(
        one,
        client_streaming=one.client_streaming or other.client_streaming,
        server_streaming=one.server_streaming or other.server_streaming,
        idempotency=min(one.idempotency, other.idempotency, key=CAUTION.index),
        deprecated=one.deprecated or other.deprecated,
    )


def _key(method: Method) -> tuple[str, str]:
    return method.service, method.name


def _near_service(service: str, known: Iterable[str]) -> str | None:
    """Often only the package is missing, or another one is given."""
    known = tuple(known)
    same_name = [name for name in known if _last(name).lower() == _last(service).lower()]
    return _near(service, same_name or known) or next(iter(same_name), None)


def _near(word: str, known: Iterable[str]) -> str | None:
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[near[0]] if near else None


def _last(name: str) -> str:
    return name.rpartition(".")[2]
