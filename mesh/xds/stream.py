"""One delta ADS stream as a state machine: requests in, responses out. Pure: no I/O, no clock, no chance.

Source: Envoy docs, "xDS REST and gRPC protocol". Its "make before break" is kept by waiting for ACKs between stages:
sending in the right order is not enough, since what was sent is not yet in force.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import chain
from typing import Final, Protocol, TypeVar

from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from mesh.errors import LimitError, ProtocolError
from mesh.registry.status import ResourceStatus, TypeStatus, Wait
from mesh.snapshot.types import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, RUNTIME, SECRET
from mesh.xds.source import State
from mesh.xds.subscription import Delta, Refusal, Response, Subscription

FOUNDATION: Final = (CLUSTER, ENDPOINT, SECRET, RUNTIME, EXTENSION)
"""One stage, sent without waiting inside it: the ACK of a cluster comes only after its endpoints."""
TRAFFIC: Final = (LISTENER, ROUTE)
"""What sends calls to the foundation. Removals go the other way: first what sends, then what it sends to."""

MAX_TYPES: Final = 64
MAX_NAMES: Final = 50_000
"""Per stream, to bound what one peer can make us keep. The largest mesh that was measured has 1,000 names per type."""
MAX_ERROR: Final = 4_096
"""Characters; Envoy may quote a whole resource."""


R = TypeVar("R", bound=DeltaDiscoveryRequest | DiscoveryRequest)
R_contra = TypeVar("R_contra", contravariant=True)


class Stream(Protocol[R_contra]):
    """One stream, in either variant of the protocol. `now` is any clock that never goes back."""

    def receive(self, request: R_contra, now: timedelta) -> Refusal | None:
        """Takes in one request, and returns what it refuses, if it is a NACK.

        Raises ProtocolError for one without a type or of another type than the stream is for, LimitError for one that
        asks for too much.
        """

    def next_response(self, state: State, now: timedelta) -> Response | None:
        """The next response that may be sent now, or None. Whoever asks must send it, and then ask again."""

    def next_deadline(self) -> timedelta | None:
        """When to ask for the next response although nothing has happened."""

    def is_quiet(self, state: State) -> bool:
        """Whether the client has answered for all there is. Ask when `next_response` has returned None."""

    def types(self, state: State) -> tuple[TypeStatus, ...]:
        """How far the client is, by resource type. Knows no times."""

    def waits(self, state: State) -> tuple[Wait, ...]:
        """What is held back, and for what. Ask when `next_response` has returned None."""

    def resources(self) -> Iterator[ResourceStatus]:
        """How far the client is, by resource."""


class DeltaStream:
    """`name` differs from that of every other stream, so that the nonces of one mean nothing on another.

    With a `type_url` it is a stream of that type alone, which requests need not say.

    A change reaches the client in stages, each after the ACKs of the one before: the foundation and all types that the
    mesh does not know, then traffic, then removals. What a client has asked for by name is answered at once in any
    stage, so that a client which waits for it before it ACKs anything cannot wait for ever. What a client has refused
    counts as settled, but as long as a refusal stands nothing is removed: the client still runs what came before.
    """

    def __init__(self, name: str, type_url: str = "") -> None:
        self._name = name
        self._only = type_url
        self._responses = 0
        self._subscriptions: dict[str, Subscription] = {}
        self._unsettled_clusters: set[str] = set()

    def receive(self, request: DeltaDiscoveryRequest, now: timedelta) -> Refusal | None:
        """Takes in one request, and returns what it refuses, if it is a NACK.

        Raises ProtocolError for a request without a type, LimitError for one that asks for too much.
        """
        request.type_url = self._type_url(request.type_url)
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            self._open(request)
            return None
        error = request.error_detail.message[:MAX_ERROR] if request.HasField("error_detail") else None
        refusal = subscription.acknowledge(request.response_nonce, error)
        # A stale nonce says nothing about a response, but its subscriptions count.
        subscription.change(request.resource_names_subscribe, request.resource_names_unsubscribe)
        self._check_limits()
        return refusal

    def next_response(self, state: State, now: timedelta) -> Response | None:
        """The next response that may be sent now, or None. Whoever asks must send it, and then ask again."""
        return self._next_update(state) or self._next_removal(state)

    def is_quiet(self, state: State) -> bool:
        """Whether the client has answered for all there is. Ask when `next_response` has returned None.

        One that has yet to ask for a type has not. Endpoints are there for other proxies, too, so they do not count.
        """
        expected = (type_url for type_url, resources in state.resources.items() if resources and type_url != ENDPOINT)
        return all(map(self._subscriptions.__contains__, expected)) and not self._in_flight(*self._subscriptions)

    def next_deadline(self) -> timedelta | None:
        """When to ask for the next response although nothing has happened."""
        return None

    def waits(self, state: State) -> tuple[Wait, ...]:
        """What is held back, and for what. Ask when `next_response` has returned None."""
        return ()

    def resources(self) -> Iterator[ResourceStatus]:
        """How far the client is, by resource."""
        return chain.from_iterable(
            self._subscriptions[type_url].resources() for type_url in sorted(self._subscriptions)
        )

    def types(self, state: State) -> tuple[TypeStatus, ...]:
        """How far the client is, by resource type."""
        return tuple(
            TypeStatus(
                type_url=type_url,
                sent=subscription.sent,
                acked=subscription.acked,
                error=next(iter(subscription.refused(state.of(type_url))), ""),
                resources=subscription.count(),
            )
            for type_url, subscription in sorted(self._subscriptions.items())
        )

    def _type_url(self, type_url: str) -> str:
        if not type_url and not self._only:
            raise ProtocolError("xds", "a request has no type_url", "Say which type of resource it is about")
        if type_url and self._only not in ("", type_url):
            problem = f"a request is about {type_url}, and the stream about {self._only}"
            raise ProtocolError("xds", problem, "Leave the type_url out, or use the aggregated service")
        return type_url or self._only

    def _open(self, request: DeltaDiscoveryRequest) -> None:
        if len(self._subscriptions) == MAX_TYPES or len(request.initial_resource_versions) > MAX_NAMES:
            raise _too_much()
        subscription = Subscription.opened(
            request.type_url, request.resource_names_subscribe, held=dict(request.initial_resource_versions)
        )
        subscription.change((), request.resource_names_unsubscribe)
        self._subscriptions[request.type_url] = subscription
        self._check_limits()
        if request.type_url == ENDPOINT:
            subscription.owe(self._unsettled_clusters)
            self._unsettled_clusters.clear()

    def _check_limits(self) -> None:
        if sum(len(subscription.names) for subscription in self._subscriptions.values()) > MAX_NAMES:
            raise _too_much()

    def _next_update(self, state: State) -> Response | None:
        for subscription in self._ready(*FOUNDATION, *self._others()):
            if delta := subscription.updates(state.of(subscription.type_url)):
                return self._send(subscription, delta)
        gated = self._in_flight(*FOUNDATION, *self._others())
        for subscription in self._ready(*TRAFFIC):
            resources = state.of(subscription.type_url)
            if delta := subscription.answers(resources) if gated else subscription.updates(resources):
                return self._send(subscription, delta)
        return None

    def _next_removal(self, state: State) -> Response | None:
        if self._in_flight(*self._subscriptions) or self._is_refused(state):
            return None
        for subscription in self._ready(*TRAFFIC, *FOUNDATION, *self._others()):
            if delta := subscription.removals(state.of(subscription.type_url)):
                return self._send(subscription, delta)
        return None

    def _send(self, subscription: Subscription, delta: Delta) -> Response:
        self._responses += 1
        if subscription.type_url == CLUSTER:
            self._warm(resource.name for resource in delta.resources)
        return subscription.send(delta, nonce=f"{self._name}.{self._responses}")

    def _warm(self, clusters: Iterable[str]) -> None:
        """A changed cluster warms until its endpoints come, and a proxy that has them already does not ask again.

        So they follow right behind. The assignment of a cluster has the name of the cluster.
        """
        if endpoints := self._subscriptions.get(ENDPOINT):
            endpoints.owe(clusters)
        else:
            self._unsettled_clusters.update(clusters)

    def _others(self) -> Iterator[str]:
        return (type_url for type_url in self._subscriptions if type_url not in FOUNDATION + TRAFFIC)

    def _ready(self, *type_urls: str) -> Iterator[Subscription]:
        """Those to which nothing is on its way."""
        found = (self._subscriptions.get(type_url) for type_url in type_urls)
        return (subscription for subscription in found if subscription and not subscription.in_flight)

    def _in_flight(self, *type_urls: str) -> bool:
        found = (self._subscriptions.get(type_url) for type_url in type_urls)
        return any(subscription and subscription.in_flight for subscription in found)

    def _is_refused(self, state: State) -> bool:
        return any(one.refused(state.of(type_url)) for type_url, one in self._subscriptions.items())


def _too_much() -> LimitError:
    return LimitError(
        "xds",
        f"one stream asked for more than {MAX_TYPES} types or {MAX_NAMES} names",
        "Ask for less, or on more streams",
    )
