"""Routes as written: Gateway API's GRPCRoute, HTTPRoute and ReferenceGrant, with everything defaulted and checked."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

GATEWAY_GROUP = "gateway.networking.k8s.io"

SEGMENT = "[^/]+"
"""One part of a gRPC path, whatever it is; RE2."""


@dataclass(frozen=True, slots=True, order=True)
class ValueMatch:
    """A header (name in lower case) or query parameter whose whole value equals, or matches the regular expression."""

    name: str
    value: str
    regex: bool = False


@dataclass(frozen=True, slots=True, order=True)
class MethodMatch:
    """gRPC methods by service and method name; an empty one stands for any. With `regex` both are expressions (RE2)."""

    service: str = ""
    method: str = ""
    regex: bool = False

    @property
    def pattern(self) -> str:
        """The path as a regular expression (RE2), for what is neither one path nor one prefix."""
        if self.regex:
            return f"/(?:{self.service or SEGMENT})/(?:{self.method or SEGMENT})"
        return f"/{self.service.replace('.', '[.]') or SEGMENT}/{self.method or SEGMENT}"


@dataclass(frozen=True, slots=True)
class GrpcMatch:
    method: MethodMatch = MethodMatch()
    headers: tuple[ValueMatch, ...] = ()


class PathType(StrEnum):
    EXACT = "Exact"
    PREFIX = "PathPrefix"
    REGEX = "RegularExpression"


@dataclass(frozen=True, slots=True, order=True)
class PathMatch:
    """A prefix ends where a part of the path ends: `/a` holds `/a` and `/a/b`, not `/ab`; it has no `/` at its end."""

    type: PathType = PathType.PREFIX
    value: str = "/"


@dataclass(frozen=True, slots=True)
class HttpMatch:
    """An empty `method` stands for any."""

    path: PathMatch = PathMatch()
    method: str = ""
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()


Match = GrpcMatch | HttpMatch


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """Values that replace, values that are added to those there, and names that go."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        return bool(self.set or self.add or self.remove)


NO_CHANGE = HeaderChange()


@dataclass(frozen=True, slots=True, order=True)
class ServiceRef:
    """A port of a Service, or of one version of it (`orders-v2`)."""

    namespace: str
    name: str
    port: int

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class BackendRef:
    """Gets its weight's share of the calls, with changes to headers that only these see."""

    service: ServiceRef
    weight: int = 1
    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of `numerator` of `denominator` calls goes there; nobody waits for its answer."""

    service: ServiceRef
    numerator: int = 100
    denominator: int = 100


@dataclass(frozen=True, slots=True)
class PathChange:
    """`full` replaces the whole path, `prefix` what the rule's prefix matched."""

    full: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer that sends the caller elsewhere. What is empty stays as it was called."""

    scheme: str = ""
    hostname: str = ""
    port: int | None = None
    path: PathChange = PathChange()
    status: int = 302


@dataclass(frozen=True, slots=True)
class Rewrite:
    hostname: str = ""
    path: PathChange = PathChange()


@dataclass(frozen=True, slots=True)
class RouteRetry:
    """What an HTTPRoute says of retries. None: not said."""

    codes: tuple[int, ...] = ()
    attempts: int | None = None
    backoff: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to the calls that one of `matches` fits. `name` is empty unless it was given one.

    Timeouts of None are not said; zero switches off.
    """

    matches: tuple[Match, ...]
    backends: tuple[BackendRef, ...] = ()
    name: str = ""
    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE
    mirrors: tuple[Mirror, ...] = ()
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    request_timeout: timedelta | None = None
    backend_timeout: timedelta | None = None
    retry: RouteRetry | None = None


@dataclass(frozen=True, slots=True, order=True)
class ParentRef:
    """A Service that calls are made to, all its ports or those with this number and name."""

    namespace: str
    service: str
    port: int | None = None
    section: str = ""

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"{self.namespace}/{self.service}{port}{f' ({self.section})' if self.section else ''}"


@dataclass(frozen=True, slots=True)
class Route:
    """What both kinds of routes have. `created` is when it was first applied, RFC 3339 in UTC; empty offline.

    `hostnames` say nothing for calls to a Service (GEP-1294).
    """

    namespace: str
    name: str
    where: str
    parents: tuple[ParentRef, ...]
    rules: tuple[Rule, ...]
    hostnames: tuple[str, ...] = ()
    created: str = ""

    @property
    def seniority(self) -> tuple[str, str]:
        """Orders routes of one namespace that fit one call equally well: the older first, then by name."""
        return (self.created, self.name)


@dataclass(frozen=True, slots=True)
class GRPCRoute(Route):
    """Routes gRPC calls; its matches are `GrpcMatch`."""


@dataclass(frozen=True, slots=True)
class HTTPRoute(Route):
    """Routes HTTP requests; its matches are `HttpMatch`."""


@dataclass(frozen=True, slots=True, order=True)
class GrantFrom:
    group: str
    kind: str
    namespace: str


@dataclass(frozen=True, slots=True, order=True)
class GrantTo:
    """An empty `name` stands for every resource of the kind."""

    group: str
    kind: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceGrant:
    """Lets resources of other namespaces refer to resources of its own."""

    namespace: str
    name: str
    where: str
    sources: tuple[GrantFrom, ...]
    targets: tuple[GrantTo, ...]

    def allows(self, kind: str, namespace: str, service: ServiceRef) -> bool:
        """Whether a route of this kind in `namespace` may send calls to the service."""
        return (
            service.namespace == self.namespace
            and GrantFrom(GATEWAY_GROUP, kind, namespace) in self.sources
            and any((to.group, to.kind) == ("", "Service") and to.name in ("", service.name) for to in self.targets)
        )
