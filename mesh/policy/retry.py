"""How calls are tried again, and which policies have a say in it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mesh.model.topology import ServicePort
from mesh.model.traffic import BackendTrafficPolicy, PolicyTarget

SAFE: Final = ("connect-failure", "refused-stream", "reset-before-request")
"""The request cannot have been processed. All that is retried of a method of which nothing is known."""

HARMLESS: Final = ("connect-failure", "refused-stream", "reset", "unavailable")
"""What is retried of a method that may be called twice without harm."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Everything decided. `num_retries` come after the first attempt. None is no limit but the deadline of the call."""

    num_retries: int = 2
    triggers: tuple[str, ...] = SAFE
    per_try_timeout: timedelta | None = None
    base_interval: timedelta = timedelta(milliseconds=50)
    max_interval: timedelta = timedelta(milliseconds=500)


USUAL: Final = RetryPolicy()

LONGEST_GUESS: Final = timedelta(hours=1)


def longest_wait(base: timedelta) -> timedelta:
    """Between two tries, when only the first wait is said: ten times that, within reason."""
    return max(base, USUAL.max_interval, min(10 * base, LONGEST_GUESS))


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
