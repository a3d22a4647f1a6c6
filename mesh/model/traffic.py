"""Policies for calls to a service, as written. None means: not said here, inherit."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`request` is for unary calls only; streams have the other two."""

    request: timedelta | None = None
    stream_idle: timedelta | None = None
    max_stream_duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """`disabled` switches retries off. `triggers` are Envoy's retry conditions."""

    disabled: bool | None = None
    num_retries: int | None = None
    triggers: tuple[str, ...] | None = None
    per_try_timeout: timedelta | None = None
    base_interval: timedelta | None = None
    max_interval: timedelta | None = None


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

    @property
    def seniority(self) -> tuple[str, str, str]:
        """Orders policies that say different things about one field: the older wins, then by name."""
        return (self.created, self.namespace, self.name)
