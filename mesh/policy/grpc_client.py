"""What gRPC clients without a sidecar can do of what policies ask for."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from mesh.model.route import Rule
from mesh.model.traffic import BackendTrafficPolicy, Retry, Timeouts
from mesh.policy.by_method import ByMethod
from mesh.policy.calls import CallPolicy, Calls
from mesh.policy.retry import RetryPolicy
from mesh.policy.routing import Route, Share

CODES: Final = ("cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable")
"""The statuses that a gRPC client retries. https://github.com/grpc/proposal/blob/master/A44-xds-retry.md"""

MOST_RETRIES: Final = 4
"""Five attempts is what a gRPC library makes at most, whatever it is told."""


MOST_ROUTES: Final = 10_000
"""Of the methods of one service, with the rules that can fit each. A client looks at one after another."""


def client_calls(routes: Iterable[Route], calls: Calls) -> Calls:
    """What a gRPC client is told of `calls`. A schema comes from a service, and may have as many methods as it likes.

    Where these would be too many routes it is told nothing of any method: no limit, and no retry that could do harm.
    """
    if ByMethod(routes).are_more_than(MOST_ROUTES, (path for path, _ in calls.methods)):
        return Calls(CallPolicy(retry=None))
    return calls


def client_retry(retry: RetryPolicy | None) -> RetryPolicy | None:
    """What a gRPC client is told of `retry`; None for nothing.

    Some of it it does by itself: a request that no server has seen is sent again, elsewhere.
    """
    triggers = tuple(trigger for trigger in retry.triggers if trigger in CODES) if retry else ()
    if retry is None or not triggers:
        return None
    return replace(retry, triggers=triggers, num_retries=min(retry.num_retries, MOST_RETRIES), per_try_timeout=None)


def beyond_clients(policy: BackendTrafficPolicy) -> Iterator[str]:
    """A sentence for each part of `policy` that a gRPC client does not do."""
    yield from _beyond("", policy.timeouts, policy.retry)
    for one in policy.methods:
        yield from _beyond(f"{one}: ", one.timeouts, one.retry)
    if policy.affinity and policy.affinity.cookie:
        yield "loadBalancer.consistentHash by a cookie: a gRPC client has none; name a header"


def route_beyond_clients(route: Route) -> Iterator[str]:
    """A sentence for each part of `route` that a gRPC client does not do."""
    changed: tuple[Rule | Share, ...] = (route.rule, *route.shares)
    if any(one.request_headers.changes or one.response_headers.changes for one in changed):
        yield "a gRPC client changes no headers"
    if route.copies:
        yield "a gRPC client sends no copies"


def _beyond(where: str, timeouts: Timeouts | None, retry: Retry | None) -> Iterator[str]:
    if timeouts and timeouts.stream_idle:
        yield f"{where}timeouts.streamIdle: a gRPC client does not end streams that are silent"
    yield from (f"{where}{sentence}" for sentence in (_retry_beyond(retry) if retry else ()))


def _retry_beyond(retry: Retry) -> Iterator[str]:
    if retry.per_try_timeout is not None:
        yield "retry.perRetry.timeout: a gRPC client limits the whole call only, by its deadline"
    if retry.num_retries is not None and retry.num_retries > MOST_RETRIES:
        yield f"retry.numRetries {retry.num_retries}: a gRPC client makes {MOST_RETRIES} at most"
    # A connection that breaks is UNAVAILABLE to a gRPC client.
    triggers = retry.triggers or ()
    if "reset" in triggers and "unavailable" not in triggers:
        yield "retry.retryOn reset: a gRPC client retries by status, and this one is unavailable"
    if retry.disabled:
        yield "retry.disabled: a gRPC client sends a request again that no server has seen"
