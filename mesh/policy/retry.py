"""Which calls to a service are tried again, and how."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Final

from mesh.model.topology import ServicePort
from mesh.model.traffic import BackendTrafficPolicy, PolicyTarget, Retry

SAFE: Final = ("connect-failure", "refused-stream", "reset-before-request")
"""The request cannot have been processed. All that is retried of a method of which nothing is known."""

ASKED: Final = ("connect-failure", "refused-stream", "reset", "unavailable")
"""What a policy retries that says `retry` and no conditions."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Everything decided. `num_retries` come after the first attempt. None is no limit but the deadline of the call."""

    num_retries: int = 2
    triggers: tuple[str, ...] = SAFE
    per_try_timeout: timedelta | None = None
    base_interval: timedelta = timedelta(milliseconds=50)
    max_interval: timedelta = timedelta(milliseconds=500)


def retry_policy(
    service: str, namespace: str, port: ServicePort, policies: Iterable[BackendTrafficPolicy]
) -> RetryPolicy | None:
    """How calls to one port of a service are retried, None for not at all.

    Decided field by field: a policy for the port before one for the service before the default. Of two policies for
    the same target, the older one decides a field that both set.
    """
    said = [policy.retry for policy in policies_for(service, namespace, port, policies) if policy.retry]
    if not said:
        return RetryPolicy()
    merged = _merged(said)
    return None if merged.disabled else _decided(merged)


def policies_for(
    service: str, namespace: str, port: ServicePort, policies: Iterable[BackendTrafficPolicy]
) -> list[BackendTrafficPolicy]:
    """The policies that say something about calls to this port, in the order in which they decide."""
    return [
        policy
        for target in (PolicyTarget(service, port.name), PolicyTarget(service))
        for policy in sorted(policies, key=lambda policy: policy.seniority)
        if policy.namespace == namespace and target in policy.targets
    ]


def _merged(said: Iterable[Retry]) -> Retry:
    """Each field as the first of `said` has it that sets it."""
    merged = Retry()
    for retry in reversed(list(said)):
        merged = replace(merged, **{f.name: v for f in fields(Retry) if (v := getattr(retry, f.name)) is not None})
    return merged


def _decided(retry: Retry) -> RetryPolicy:
    default = RetryPolicy(triggers=ASKED)
    base = retry.base_interval or min(default.base_interval, retry.max_interval or default.base_interval)
    return RetryPolicy(
        num_retries=retry.num_retries or default.num_retries,
        triggers=retry.triggers or default.triggers,
        per_try_timeout=retry.per_try_timeout,
        base_interval=base,
        max_interval=retry.max_interval or max(default.max_interval, 10 * base),
    )
