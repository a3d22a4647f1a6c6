"""Policies for calls to a service, as written. None means: not said here, inherit."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`request` is for unary calls only; streams have the other two. Zero switches one off."""

    request: timedelta | None = None
    stream_idle: timedelta | None = None
    max_stream_duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """`disabled` switches retries off. `triggers` are Envoy's retry conditions.

    `allow_unsafe` lets those count which may run a call twice, for methods that do not say that this is harmless.
    """

    disabled: bool | None = None
    num_retries: int | None = None
    triggers: tuple[str, ...] | None = None
    per_try_timeout: timedelta | None = None
    base_interval: timedelta | None = None
    max_interval: timedelta | None = None
    allow_unsafe: bool | None = None


@dataclass(frozen=True, slots=True)
class MethodPolicy:
    """What a policy says of one gRPC method."""

    service: str
    method: str
    timeouts: Timeouts | None = None
    retry: Retry | None = None

    def __str__(self) -> str:
        return f"{self.service}/{self.method}"


@dataclass(frozen=True, slots=True)
class Affinity:
    """Calls with one value of a header (name in lower case), or of a cookie, go to one endpoint while it is there.

    With a `ttl` Envoy gives a cookie to callers without one; zero is one that lives as long as the caller's session.
    """

    header: str = ""
    cookie: str = ""
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True, order=True)
class PolicyTarget:
    """A Service of the policy's namespace, or with `section` one port of it, by name."""

    service: str
    section: str = ""


@dataclass(frozen=True, slots=True)
class BackendTrafficPolicy:
    """`created` is when it was first applied, RFC 3339 in UTC; empty offline."""

    namespace: str
    name: str
    where: str
    targets: tuple[PolicyTarget, ...]
    retry: Retry | None = None
    created: str = ""
    timeouts: Timeouts | None = None
    methods: tuple[MethodPolicy, ...] = ()
    affinity: Affinity | None = None

    @property
    def seniority(self) -> tuple[str, str]:
        """Orders policies of one namespace that say different things about one field: the older wins, then by name."""
        return (self.created, self.name)
