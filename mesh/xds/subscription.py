"""What one stream has asked for, and been told, of one resource type. Pure.

Source: Envoy docs, "xDS REST and gRPC protocol", the incremental variant.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from mesh.registry.status import Delivery, ResourceStatus
from mesh.snapshot.resource import Resource, digest
from mesh.snapshot.types import CLUSTER, LISTENER

WILDCARD: Final = "*"
WILDCARD_TYPES: Final = (CLUSTER, LISTENER)
"""The types of which a client may ask for everything it should have. For all others `*` is a name like any other."""


class Told(Enum):
    """What a client knows of a name when it is not a version."""

    OWED = "owed"
    """It has asked and waits for an answer, whatever it had before."""
    ABSENT = "absent"
    """It has heard that there is no such resource."""


UNTOLD: Final = {Told.OWED: Delivery.ASKED, Told.ABSENT: Delivery.ABSENT}


@dataclass(frozen=True, slots=True)
class Delta:
    """What a client is to be told. An empty one is an answer, too: there is nothing."""

    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """A message on its way. `version` is what the client has of the type once it has accepted this.

    `heartbeats` are resources that the client has, of which it only hears that they still hold.
    """

    type_url: str
    nonce: str
    version: str
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()
    heartbeats: tuple[Resource, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A NACK: the resources of the response that a client refused, and why, in its words.

    `good` is what the client goes on with, as far as it is known: name -> version that it has accepted last.
    """

    type_url: str
    resources: tuple[Resource, ...]
    error: str
    good: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Subscription:
    """One resource type on one stream: compares what the client was told with what there is.

    `told` holds every name that the client has asked for, and with a wildcard those that it was told about besides.
    At most one response waits for its ACK; while it does, changes add up to one next response.
    """

    type_url: str
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    told: dict[str, str | Told] = field(default_factory=dict)
    unanswered: bool = False
    in_flight: Response | None = None
    sent: str = ""
    acked: str = ""
    _refused: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def opened(cls, type_url: str, subscribe: Iterable[str], held: Mapping[str, str]) -> "Subscription":
        """The first request of a stream for this type.

        `held` are the versions that the client brings from an earlier stream: those are not sent again. Without any
        name it asks for everything, if the type allows that (the legacy form of `*`), else for nothing.
        """
        names = set(subscribe)
        wildcard = type_url in WILDCARD_TYPES and (not names or WILDCARD in names)
        if wildcard:
            names.discard(WILDCARD)
        told: dict[str, str | Told] = {name: held.get(name, Told.OWED) for name in names}
        if wildcard:
            told = {**held, **told}
        subscription = cls(type_url, wildcard, names, told, unanswered=wildcard and not held)
        subscription.sent = subscription.acked = subscription._version()
        return subscription

    def change(self, subscribe: Iterable[str], unsubscribe: Iterable[str]) -> None:
        """A later request: each name in `subscribe` is owed an answer, even if current: the client may have lost it."""
        for name in subscribe:
            self._subscribe(name)
        for name in unsubscribe:
            self._unsubscribe(name)

    def owe(self, names: Iterable[str]) -> None:
        """Those of `names` that the client follows are to be sent again."""
        for name in names:
            if name in self.told:
                self.told[name] = Told.OWED

    def acknowledge(self, nonce: str, error: str | None) -> Refusal | None:
        """An ACK, or with an `error` a NACK, of the response in flight; any other nonce is stale and means nothing.

        A client that refuses keeps what it had. What it refused counts as told, so it is not sent again as it is.
        """
        if self.in_flight is None or nonce != self.in_flight.nonce:
            return None
        response, self.in_flight = self.in_flight, None
        if error is None:
            self.acked = response.version
            return None
        resources = response.resources
        self._refused |= {resource.name: (resource.version, error) for resource in resources}
        if resources:
            # The removals were refused along with them, and cannot be the cause.
            self.told |= {name: Told.OWED for name in response.removed if self.wildcard or name in self.names}
        return Refusal(self.type_url, resources, error)

    def answers(self, resources: Mapping[str, Resource]) -> Delta | None:
        """What the client has asked for and waits for."""
        return _delta(resources, [name for name, told in self.told.items() if told is Told.OWED])

    def updates(self, resources: Mapping[str, Resource]) -> Delta | None:
        """The answers, and what has appeared or changed since."""
        names = self.told.keys() | resources.keys() if self.wildcard else self.told.keys()
        due = _delta(resources, [name for name in names if self._is_due(name, resources.get(name))])
        return due or (Delta() if self.unanswered else None)

    def removals(self, resources: Mapping[str, Resource]) -> Delta | None:
        """What the client has and is no longer there."""
        known = [name for name, told in self.told.items() if told is not Told.ABSENT]
        return _delta(resources, [name for name in known if name not in resources])

    def send(self, delta: Delta, nonce: str) -> Response:
        """`delta` as a response, from now on in flight."""
        for resource in delta.resources:
            self.told[resource.name] = resource.version
            self._refused.pop(resource.name, None)
        for name in delta.removed:
            self._refused.pop(name, None)
            if name in self.names:
                self.told[name] = Told.ABSENT
            else:
                del self.told[name]
        self.unanswered = False
        self.sent = self._version()
        self.in_flight = Response(self.type_url, nonce, self.sent, delta.resources, delta.removed)
        return self.in_flight

    def refused(self, resources: Mapping[str, Resource]) -> tuple[str, ...]:
        """The client's words about each of `resources` that it was sent and has refused as it is now."""
        return tuple(
            error
            for name, (version, error) in self._refused.items()
            if name in resources and resources[name].version == self.told.get(name) == version
        )

    def resources(self) -> Iterator[ResourceStatus]:
        """How far each name is that the client follows."""
        in_flight = {resource.name for resource in self.in_flight.resources} if self.in_flight else ()
        for name, told in sorted(self.told.items()):
            if isinstance(told, Told):
                yield ResourceStatus(self.type_url, name, UNTOLD[told])
            elif name in self._refused:
                yield ResourceStatus(self.type_url, name, Delivery.REFUSED, told)
            else:
                delivery = Delivery.SENT if name in in_flight else Delivery.ACCEPTED
                yield ResourceStatus(self.type_url, name, delivery, told)

    def count(self) -> int:
        """How many resources the client has."""
        return sum(isinstance(told, str) for told in self.told.values())

    def _subscribe(self, name: str) -> None:
        if self._is_wildcard(name):
            self.wildcard = self.unanswered = True
            # What is on its way was sent under an earlier subscription, but arrives under this one.
            on_its_way = self.in_flight.resources if self.in_flight else ()
            self.told = dict.fromkeys([*self.told, *(resource.name for resource in on_its_way)], Told.OWED)
        else:
            self.names.add(name)
            self.told[name] = Told.OWED

    def _unsubscribe(self, name: str) -> None:
        if self._is_wildcard(name):
            self.wildcard = self.unanswered = False
            self.told = {name: told for name, told in self.told.items() if name in self.names}
        elif name in self.names:
            self.names.remove(name)
            if self.wildcard:
                # The wildcard may go on covering it; which of the two it is, the client must be told.
                self.told[name] = Told.OWED
            else:
                del self.told[name]

    def _is_wildcard(self, name: str) -> bool:
        return name == WILDCARD and self.type_url in WILDCARD_TYPES

    def _is_due(self, name: str, resource: Resource | None) -> bool:
        told = self.told.get(name)
        return told is Told.OWED or (resource is not None and told != resource.version)

    def _version(self) -> str:
        held = sorted(f"{name}={told}" for name, told in self.told.items() if isinstance(told, str))
        return digest(*(each.encode() for each in held)) if held else ""


def _delta(resources: Mapping[str, Resource], names: list[str]) -> Delta | None:
    if not names:
        return None
    return Delta(
        resources=tuple(resources[name] for name in sorted(names) if name in resources),
        removed=tuple(name for name in sorted(names) if name not in resources),
    )
