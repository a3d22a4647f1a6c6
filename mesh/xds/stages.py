"""One stream as a state machine: requests in, responses out, and in which order a change reaches the client. Pure.

No I/O, no clock, no chance.

Source: Envoy docs, "xDS REST and gRPC protocol". Its "make before break" is kept by waiting for ACKs between stages:
sending in the right order is not enough, since what was sent is not yet in force.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import Final, Generic, TypeVar

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from mesh.errors import LimitError, ProtocolError
from mesh.model.printable import printable
from mesh.registry.status import ResourceStatus, TypeStatus, Wait
from mesh.snapshot.named import Named
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, RUNTIME, SECRET
from mesh.xds.messages import Answer, Delta, Moments, Response
from mesh.xds.source import State
from mesh.xds.subscription import Subscription

FOUNDATION: Final = (CLUSTER, ENDPOINT, SECRET, RUNTIME, EXTENSION)
"""One stage, sent without waiting inside it: the ACK of a cluster comes only after its endpoints."""
TRAFFIC: Final = (LISTENER, ROUTE)
"""What sends calls to the foundation. Removals go the other way: first what sends, then what it sends to."""

RANKS: Final = {type_url: rank for rank, type_url in enumerate((*FOUNDATION, "", *TRAFFIC))}

SILENCE: Final = timedelta(seconds=20)
"""After which a stage that the client does not answer holds back only what refers to it."""

MAX_TYPES: Final = 64
MAX_NAMES: Final = 50_000
"""Per stream, to bound what one peer can make us keep. The largest mesh that was measured has 1,000 names per type."""
MAX_NAME: Final = 2_048
"""Characters of a name, a type or a version. What a client asks for is remembered as long as its stream lives."""
MAX_ERROR: Final = 4_096
"""Characters; Envoy may quote a whole resource."""

Reference = tuple[str, str]
"""Type URL and name."""


R = TypeVar("R", bound=DeltaDiscoveryRequest | DiscoveryRequest)


class Stages(ABC, Generic[R]):
    """What both variants share. `name` differs from that of every other stream, so that nonces mean nothing elsewhere.

    With a `type_url` it is a stream of that type alone, which requests need not say.

    A change goes in stages, each after the ACKs of the one before: the foundation and all types that the mesh does not
    know, then traffic, then removals. What a client has asked for by name is answered at once in any stage, so that a
    client which waits for it before it ACKs anything cannot wait for ever. When a stage was refused, or there was no
    answer for 20 s, only that traffic still waits which needs what has not been accepted, and all removals: the client
    may still run what came before.
    """

    ttl_features: frozenset[str]
    """What a client must say that it supports before it is sent a time to live."""

    def __init__(self, name: str, type_url: str = "") -> None:
        self._name = name
        self._only = type_url
        self._responses = 0
        self._subscriptions: dict[str, Subscription] = {}
        self._busy: list[Subscription] = []
        self._noted: State | None = None
        self._unsettled_clusters: set[str] = set()
        self._now = timedelta()
        self._traffic_waits_since: timedelta | None = None
        self._sends_ttl = False

    def receive(self, request: R, now: timedelta) -> Answer | None:
        """Takes in one request, and returns what it answers, if it is an ACK or a NACK.

        Raises ProtocolError for one without a type or of another type than the stream is for, LimitError for one that
        asks for too much. `now` is any clock that never goes back.
        """
        self._now, self._noted = now, None
        if request.HasField("node"):
            self._take_node(request.node)
        type_url = self._type_url(request.type_url)
        subscription = self._subscriptions.get(type_url)
        if subscription is None:
            self._open(type_url, request)
            return None
        error = printable(request.error_detail.message, MAX_ERROR) if request.HasField("error_detail") else None
        answer = subscription.acknowledge(request.response_nonce, error, now)
        self._follow(subscription, request)
        return answer

    @abstractmethod
    def _open(self, type_url: str, request: R) -> None:
        """The first request of a type: one without any name asks for everything, if the type allows that."""

    @abstractmethod
    def _follow(self, subscription: Subscription, request: R) -> None:
        """A later one may say that the client asks for something else than before."""

    def next_response(self, state: State, now: timedelta) -> Response | None:
        """The next response that may be sent now, or None. Whoever asks must send it, and then ask again."""
        self._now = now
        self._note_busy(state)
        for subscription in self._busy:
            subscription.note_absent(state.of(subscription.type_url))
        self._note_waiting_traffic(state)
        if all(one.in_flight for one in self._busy):
            return None
        return self._next_update(state) or self._next_removal(state) or self._next_heartbeat()

    def rests(self, state: State) -> bool:
        """Whether nothing is on its way and nothing is to be said."""
        self._note_busy(state)
        return not self._busy

    def next_deadline(self) -> timedelta | None:
        """When to ask for the next response although nothing has happened."""
        gating = (one for one in self._foundation() if one.awaited())
        beating = _ready(self._subscriptions.values() if self._sends_ttl else ())
        deadlines = chain(map(self._patience_with, gating), (one.next_heartbeat() for one in beating))
        return min((deadline for deadline in deadlines if deadline and deadline > self._now), default=None)

    def is_quiet(self, state: State) -> bool:
        """Whether the client has answered for all there is. Ask when `next_response` has returned None.

        One that has yet to ask for a type has not. Endpoints are there for other proxies, too, so they do not count.
        One that asks for single listeners, as gRPC clients do, may never need another type.
        """
        subscriptions = self._subscriptions
        if not all(one.in_flight is None or one.only_beats(state.of(one.type_url)) for one in subscriptions.values()):
            return False
        listeners = subscriptions.get(LISTENER)
        if listeners and not listeners.wildcard:
            return True
        missing = (type_url for type_url, resources in state.resources.items() if resources and type_url != ENDPOINT)
        return all(type_url in subscriptions or self._only not in ("", type_url) for type_url in missing)

    def refuses(self, state: State) -> bool:
        """Whether a refusal stands."""
        return any(any(one.refused(state.of(one.type_url))) for one in self._subscriptions.values() if one.ledger)

    def types(self, state: State, waits: tuple[Wait, ...] | None = None) -> tuple[TypeStatus, ...]:
        """How far the client is, by resource type. `waits` are those of the state, if they are known."""
        waits = self.waits(state) if waits is None else waits
        return tuple(
            _status(one, state.of(type_url), tuple(wait.name for wait in waits if wait.type_url == type_url))
            for type_url, one in sorted(self._subscriptions.items())
        )

    def moments(self, type_url: str) -> Moments:
        """Since when what was sent, accepted and refused of a type that the client has asked for is what it is."""
        one = self._subscriptions[type_url]
        return Moments(one.sent_since, one.acked_at, one.nacked_at)

    def waits(self, state: State) -> tuple[Wait, ...]:
        """What is held back, and for what. Ask when `next_response` has returned None."""
        self._note_busy(state)
        return (*self._waiting_traffic(state), *self._waiting_removals(state))

    def asked(self, type_url: str) -> AbstractSet[str]:
        """The names of the type that the client asks for, one by one."""
        subscription = self._subscriptions.get(type_url)
        return frozenset(subscription.names) if subscription else frozenset()

    def resources(self) -> Iterator[ResourceStatus]:
        """How far the client is, by resource."""
        return chain.from_iterable(one.resources() for _, one in sorted(self._subscriptions.items()))

    def _take_node(self, node: base_pb2.Node) -> None:
        """Only the first request of a stream has to have one."""
        self._sends_ttl = self._sends_ttl or self.ttl_features <= {*node.client_features}

    def _type_url(self, type_url: str) -> str:
        if not type_url and not self._only:
            raise ProtocolError("xds", "a request has no type_url", "Say which type of resource it is about")
        if type_url and self._only not in ("", type_url):
            problem = f"a request is about {type_url}, and the stream about {self._only}"
            raise ProtocolError("xds", problem, "Leave the type_url out, or use the aggregated service")
        return type_url or self._only

    def _add(self, subscription: Subscription) -> None:
        if len(self._subscriptions) == MAX_TYPES:
            raise _too_much()
        self._subscriptions[subscription.type_url] = subscription
        self._check_limits([subscription.type_url])
        if subscription.type_url == ENDPOINT:
            subscription.owe(self._unsettled_clusters)
            self._unsettled_clusters.clear()

    def _check_limits(self, listed: Collection[str] = ()) -> None:
        if max(len(listed), sum(one.burden() for one in self._subscriptions.values())) > MAX_NAMES:
            raise _too_much()
        if max(map(len, listed), default=0) > MAX_NAME:
            raise LimitError("xds", f"a name or version has more than {MAX_NAME} characters", "Ask for what is there")

    def _note_busy(self, state: State) -> None:
        """What rests takes no part in what is to be done; what does is known until something is heard or changes."""
        if self._noted is state:
            return
        self._noted = state
        busy = [one for one in self._subscriptions.values() if not one.rests(state.of(one.type_url))]
        self._busy = sorted(busy, key=_rank) if len(busy) > 1 else busy

    def _next_update(self, state: State) -> Response | None:
        for subscription in _ready(self._foundation()):
            if delta := subscription.updates(state.of(subscription.type_url)):
                return self._send(subscription, delta, state)
        is_gated = any(self._gate())
        for subscription in _ready(self._traffic()):
            resources = state.of(subscription.type_url)
            if is_gated:
                delta = subscription.answers(resources)
            else:
                changed = subscription.changed(resources)
                held = _held(changed, resources, self._unaccepted(state)) if changed else {}
                delta = subscription.updates(resources, held)
            if delta:
                return self._send(subscription, delta, state)
        return None

    def _next_removal(self, state: State) -> Response | None:
        if any(self._obstacles(state)):
            return None
        for subscription in _ready((*self._traffic(), *self._foundation())):
            if delta := subscription.removals(state.of(subscription.type_url)):
                return self._send(subscription, delta, state)
        return None

    def _next_heartbeat(self) -> Response | None:
        beating = _ready(self._subscriptions.values() if self._sends_ttl else ())
        return next(filter(None, (one.send_heartbeats(self._nonce(), self._now) for one in beating)), None)

    def _send(self, subscription: Subscription, delta: Delta, state: State) -> Response:
        if subscription.type_url == CLUSTER:
            self._warm(delta.whole or (resource.name for resource in delta.resources))
            self._unsettled_clusters.difference_update(delta.removed)
        version = state.versions.get(subscription.type_url, "")
        response = subscription.send(delta, self._nonce(), self._now, version)
        if self._sends_ttl or not subscription.ledger or not any(one.ttl for one in response.resources):
            return response
        lasting = tuple(replace(one, ttl=None) for one in response.resources)
        return Response(response.nonce, replace(response.content, resources=lasting))

    def _nonce(self) -> str:
        self._responses += 1
        return f"{self._name}.{self._responses}"

    def _warm(self, clusters: Iterable[str]) -> None:
        """A changed cluster warms until its endpoints come, and a proxy that has them already does not ask again.

        So they follow right behind. The assignment of a cluster has the name of the cluster.
        """
        if endpoints := self._subscriptions.get(ENDPOINT):
            endpoints.owe(clusters)
            self._noted = None
        else:
            self._unsettled_clusters.update(clusters)

    def _gate(self) -> Iterator[Reference]:
        """What all traffic waits for: the foundation that is on its way, for as long as an answer may be expected."""
        for subscription in self._foundation():
            if self._now < self._patience_with(subscription):
                yield from _references(subscription)

    def _patience_with(self, subscription: Subscription) -> timedelta:
        """Until when all traffic waits for what is on its way, also if one change of it follows the other."""
        since = self._traffic_waits_since
        return (subscription.sent_at if since is None else min(subscription.sent_at, since)) + SILENCE

    def _note_waiting_traffic(self, state: State) -> None:
        if not any(one.type_url in TRAFFIC and one.changed(state.of(one.type_url)) for one in self._busy):
            self._traffic_waits_since = None
        elif self._traffic_waits_since is None:
            self._traffic_waits_since = self._now

    def _unaccepted(self, state: State) -> frozenset[Reference]:
        """The foundation that the client should have and has not accepted. A cluster is one with its endpoints."""
        return frozenset(
            (CLUSTER if one.type_url == ENDPOINT else one.type_url, name)
            for one in self._foundation()
            if one.type_url in FOUNDATION
            for name in one.unaccepted(state.of(one.type_url))
        )

    def _obstacles(self, state: State) -> Iterator[Reference]:
        """What removals wait for: whatever the client has not accepted, and what is held back for that."""
        for subscription in self._busy:
            yield from _references(subscription)
            for name in subscription.in_doubt(state.of(subscription.type_url)):
                yield subscription.type_url, name
        yield from ((wait.type_url, wait.name) for wait in self._waiting_traffic(state))

    def _waiting_traffic(self, state: State) -> Iterator[Wait]:
        for subscription in self._traffic():
            resources = state.of(subscription.type_url)
            if not (changed := subscription.changed(resources)):
                continue
            gate = tuple(self._gate())
            held = _held(changed, resources, self._unaccepted(state))
            for name in sorted(changed):
                if needs := gate or held.get(name):
                    yield Wait(subscription.type_url, name, needs)

    def _waiting_removals(self, state: State) -> Iterator[Wait]:
        obstacles = tuple(self._obstacles(state))
        for subscription in self._busy if obstacles else ():
            if delta := subscription.removals(state.of(subscription.type_url)):
                yield from (Wait(subscription.type_url, name, obstacles, is_removal=True) for name in delta.removed)

    def _foundation(self) -> list[Subscription]:
        """And all that the mesh does not know."""
        return [one for one in self._busy if one.type_url not in TRAFFIC]

    def _traffic(self) -> list[Subscription]:
        return [one for one in self._busy if one.type_url in TRAFFIC]


def _ready(subscriptions: Iterable[Subscription]) -> Iterator[Subscription]:
    """Those to which nothing is on its way."""
    return (one for one in subscriptions if one.in_flight is None)


def _rank(subscription: Subscription) -> int:
    """In the order in which updates are sent; what the mesh does not know comes between foundation and traffic."""
    return RANKS.get(subscription.type_url, len(FOUNDATION))


def _references(subscription: Subscription) -> Iterator[Reference]:
    return ((subscription.type_url, name) for name in subscription.awaited())


def _held(
    changed: Iterable[str], resources: Mapping[str, Resource], unaccepted: frozenset[Reference]
) -> dict[str, tuple[Reference, ...]]:
    """Those of the `changed` that need what is not accepted, and what that is."""
    lacking = {name: tuple(need for need in resources[name].needs if need in unaccepted) for name in changed}
    return {name: needs for name, needs in lacking.items() if needs}


def _status(subscription: Subscription, resources: Named, held: tuple[str, ...]) -> TypeStatus:
    refused = tuple(subscription.refused(resources))
    return TypeStatus(
        type_url=subscription.type_url,
        sent=subscription.sent,
        acked=subscription.acked,
        error=next((one.error for one in refused), ""),
        resources=subscription.count(),
        nacked=subscription.nacked,
        refused=refused,
        held=held,
    )


def _too_much() -> LimitError:
    return LimitError(
        "xds",
        f"one stream asked for more than {MAX_TYPES} types or {MAX_NAMES} names",
        "Ask for less, or on more streams",
    )
