"""Kind BackendTrafficPolicy as users write it, in the words of Envoy Gateway and Gateway API."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from mesh.config.fields import (
    Duration,
    HeaderName,
    Label,
    MethodName,
    OneOf,
    PositiveDuration,
    ServiceName,
    Spec,
    Token,
    twice,
)
from mesh.model.traffic import Affinity, BackendTrafficPolicy, MethodPolicy, PolicyTarget, Retry, Timeouts

Trigger = Literal[
    "cancelled",
    "connect-failure",
    "deadline-exceeded",
    "internal",
    "refused-stream",
    "reset",
    "reset-before-request",
    "resource-exhausted",
    "unavailable",
]
"""Envoy's conditions for gRPC and for connections. https://www.envoyproxy.io/docs (router filter, retry_on)."""


SPELLED: Final = {
    "timeouts.request": "timeouts.request",
    "timeouts.stream_idle": "timeouts.streamIdle",
    "timeouts.max_stream_duration": "timeouts.maxStreamDuration",
    "retry.disabled": "retry.disabled",
    "retry.num_retries": "retry.numRetries",
    "retry.triggers": "retry.retryOn.triggers",
    "retry.per_try_timeout": "retry.perRetry.timeout",
    "retry.base_interval": "retry.perRetry.backOff.baseInterval",
    "retry.max_interval": "retry.perRetry.backOff.maxInterval",
}
"""Fields of the model as users write them."""


class TargetRef(Spec):
    group: Literal["", "core"] = ""
    kind: Literal["Service"]
    name: Label
    section_name: Label | None = None


class BackOff(Spec):
    base_interval: PositiveDuration | None = None
    max_interval: PositiveDuration | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.base_interval and self.max_interval and self.max_interval < self.base_interval:
            raise ValueError("maxInterval is shorter than baseInterval; make it longer")
        return self


class PerRetry(Spec):
    timeout: PositiveDuration | None = None
    back_off: BackOff = BackOff()


class RetryOn(Spec):
    triggers: Annotated[tuple[Trigger, ...], Field(min_length=1)]


class RetrySpec(Spec):
    disabled: bool | None = None
    num_retries: Annotated[int, Field(ge=1, le=10)] | None = None
    retry_on: RetryOn | None = None
    per_retry: PerRetry = PerRetry()
    allow_unsafe: bool | None = None

    def retry(self) -> Retry:
        return Retry(
            disabled=self.disabled,
            num_retries=self.num_retries,
            triggers=tuple(sorted(set(self.retry_on.triggers))) if self.retry_on else None,
            per_try_timeout=self.per_retry.timeout,
            base_interval=self.per_retry.back_off.base_interval,
            max_interval=self.per_retry.back_off.max_interval,
            allow_unsafe=self.allow_unsafe,
        )


class TimeoutsSpec(Spec):
    """Zero switches one off, as in Gateway API."""

    request: Duration | None = None
    stream_idle: Duration | None = None
    max_stream_duration: Duration | None = None

    def timeouts(self) -> Timeouts:
        return Timeouts(self.request, self.stream_idle, self.max_stream_duration)


class CallsSpec(Spec):
    """What may be said of calls: of all in the mesh, of those to a service, of those of a method."""

    timeouts: TimeoutsSpec | None = None
    retry: RetrySpec | None = None

    def said(self) -> tuple[Timeouts | None, Retry | None]:
        return self.timeouts.timeouts() if self.timeouts else None, self.retry.retry() if self.retry else None


class MethodSpec(Spec):
    service: ServiceName
    method: MethodName


class MethodPolicySpec(CallsSpec):
    method: MethodSpec

    def policy(self) -> MethodPolicy:
        return MethodPolicy(self.method.service, self.method.method, *self.said())


class CookieSpec(Spec):
    name: Token
    ttl: Duration | None = None


class HeaderSpec(Spec):
    name: HeaderName


class ConsistentHash(OneOf):
    type: Literal["Header", "Cookie"]
    header: HeaderSpec | None = None
    cookie: CookieSpec | None = None

    def affinity(self) -> Affinity:
        return Affinity(
            header=self.header.name if self.header else "",
            cookie=self.cookie.name if self.cookie else "",
            ttl=self.cookie.ttl if self.cookie else None,
        )


class LoadBalancer(Spec):
    type: Literal["ConsistentHash"]
    consistent_hash: ConsistentHash


class BackendTrafficPolicySpec(CallsSpec):
    target_refs: Annotated[tuple[TargetRef, ...], Field(min_length=1)]
    methods: tuple[MethodPolicySpec, ...] = ()
    load_balancer: LoadBalancer | None = None

    @model_validator(mode="after")
    def _each_method_once(self) -> Self:
        if name := twice(str(one.policy()) for one in self.methods):
            raise ValueError(f"methods names {name} twice; make it one entry")
        return self

    def resource(self, namespace: str, name: str, where: str, folder: str) -> BackendTrafficPolicy:
        targets = {PolicyTarget(ref.name, ref.section_name or "") for ref in self.target_refs}
        timeouts, retry = self.said()
        return BackendTrafficPolicy(
            namespace=namespace,
            name=name,
            where=where,
            targets=tuple(sorted(targets)),
            timeouts=timeouts,
            retry=retry,
            methods=tuple(sorted((one.policy() for one in self.methods), key=str)),
            affinity=self.load_balancer.consistent_hash.affinity() if self.load_balancer else None,
        )
