"""Kind BackendTrafficPolicy as users write it, in the words of Envoy Gateway and Gateway API."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mesh.config.fields import Label, PositiveDuration, Spec
from mesh.model.traffic import BackendTrafficPolicy, PolicyTarget, Retry

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

    def retry(self) -> Retry:
        return Retry(
            disabled=self.disabled,
            num_retries=self.num_retries,
            triggers=tuple(sorted(set(self.retry_on.triggers))) if self.retry_on else None,
            per_try_timeout=self.per_retry.timeout,
            base_interval=self.per_retry.back_off.base_interval,
            max_interval=self.per_retry.back_off.max_interval,
        )


class BackendTrafficPolicySpec(Spec):
    target_refs: Annotated[tuple[TargetRef, ...], Field(min_length=1)]
    retry: RetrySpec | None = None

    def resource(self, namespace: str, name: str, where: str, folder: str) -> BackendTrafficPolicy:
        targets = {PolicyTarget(ref.name, ref.section_name or "") for ref in self.target_refs}
        retry = self.retry.retry() if self.retry else None
        return BackendTrafficPolicy(namespace, name, where, tuple(sorted(targets)), retry)
