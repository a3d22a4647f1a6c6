"""What one stream has asked for, and been told, of one resource type: the same in both variants. Pure.

Source: Envoy docs, "xDS REST and gRPC protocol".
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Final

from mesh.registry.status import Delivery, ResourceStatus
from mesh.snapshot.resource import Resource, digest
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER
from mesh.xds.messages import Acceptance, Answer, Delta, Refusal, Response
from mesh.xds.quarantine import Quarantine

WILDCARD: Final = "*"
WILDCARD_TYPES: Final = (CLUSTER, LISTENER)
"""The types of which a client may ask for everything it should have. For all others `*` is a name like any other."""


class Form(Enum):
    """What the resources of a response say about those that are not in it."""

    DELTA = "delta"
    """Nothing; what is gone is listed."""
    CHANGED = "changed"
    """Nothing; that something is gone cannot be said."""
    FULL = "full"
    """They are gone."""


class Told(Enum):
    """What a client knows of a name when it is not a resource."""

    OWED = "owed"
    """It has asked and waits for an answer, whatever it had before."""
    ABSENT = "absent"
    """It has heard that there is no such resource."""


UNTOLD: Final = {Told.OWED: Delivery.ASKED, Told.ABSENT: Delivery.ABSENT}


@dataclass(slots=True)
class Subscription:
    """Compares what the client was told with what there is, its `resources`: those of the type, by name.

    `told` holds every name that the client has asked for, and with a wildcard those that it was told about besides.
    `good` is what it has accepted last. At most one response waits for its ACK; while it does, changes add up to one
    next response.
    """

    type_url: str
    form: Form = Form.DELTA
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    told: dict[str, Resource | Told] = field(default_factory=dict)
    good: dict[str, Resource] = field(default_factory=dict)
    unanswered: bool = False
    in_flight: Response | None = None
    sent_at: timedelta = timedelta()
    sent: str = ""
    acked: str = ""
    nacked: str = ""
    quarantine: Quarantine = field(default_factory=Quarantine)
    _said: dict[str, timedelta] = field(default_factory=dict)
    _left: int = 0

    def subscribe(self, name: str) -> None:
        """The client is owed an answer, even if it is current: it may have lost what it had."""
        if self.is_wildcard(name):
            self.wildcard = self.unanswered = True
            # What is on its way was sent under an earlier subscription, but arrives under this one.
            on_its_way = self.in_flight.resources if self.in_flight else ()
            self.told = dict.fromkeys([*self.told, *(resource.name for resource in on_its_way)], Told.OWED)
        else:
            self.names.add(name)
            self.told[name] = Told.OWED

    def unsubscribe(self, name: str) -> None:
        if self.is_wildcard(name):
            self.wildcard = self.unanswered = False
            for other in self.told.keys() - self.names:
                self._forget(other)
        elif name in self.names:
            self.names.remove(name)
            if not self.wildcard:
                self._forget(name)
            elif self.form is Form.DELTA:
                # The wildcard may go on covering it; which of the two it is, the client must be told.
                self.told[name] = Told.OWED
                self._left += 1
            elif self.told[name] is Told.ABSENT:
                self._forget(name)
            elif self.told[name] is Told.OWED:
                self._left += 1

    def burden(self) -> int:
        """How many names the client makes us remember: those it asks for, and those it has left and not heard of."""
        return len(self.names) + self._left

    def owe(self, names: Iterable[str]) -> None:
        """Those of `names` that the client follows are to be sent again."""
        for name in names:
            if name in self.told:
                self.told[name] = Told.OWED

    def bring(self, resources: Mapping[str, Resource]) -> None:
        """The client has these already, as far as it asks for them."""
        brought = {name: one for name, one in resources.items() if self.wildcard or name in self.names}
        self.told |= brought
        self.good |= brought
        self.unanswered = self.unanswered and not brought
        self.sent = self.acked = self.version()

    def acknowledge(self, nonce: str, error: str | None) -> Answer | None:
        """An ACK, or with an `error` a NACK, of the response in flight; any other nonce is stale and means nothing.

        A client that refuses keeps what it had. What it refused counts as told, so it is not sent again as it is,
        except in smaller groups to find the cause.
        """
        if self.in_flight is None or nonce != self.in_flight.nonce:
            return None
        response, self.in_flight = self.in_flight, None
        if error is None:
            self.acked = response.version
            self.good |= {resource.name: resource for resource in response.resources if resource.name in self.told}
            return Acceptance(self.type_url)
        self.nacked = response.version
        news = tuple(resource for resource in response.resources if not self._is_filler(resource))
        # What was dropped or asked for again meanwhile is no suspect, but may have been the cause.
        suspects = tuple(resource for resource in news if self.told.get(resource.name) is resource)
        good = {resource.name: self.good[resource.name].version for resource in suspects if resource.name in self.good}
        self.quarantine.refuse(suspects, error, alone=len(news) == 1)
        if suspects:
            # The removals were refused along with them, and cannot be the cause.
            self.told |= {name: Told.OWED for name in response.removed if self.wildcard or name in self.names}
        return Refusal(self.type_url, suspects or response.resources, error, good)

    def note_absent(self, resources: Mapping[str, Resource]) -> None:
        """Where an absence cannot be said, it is not said: the client keeps what it has."""
        if self.form is Form.CHANGED:
            self.told |= dict.fromkeys(self.told.keys() - resources.keys(), Told.ABSENT)

    def answers(self, resources: Mapping[str, Resource]) -> Delta | None:
        """What the client has asked for by name and waits for. A first full set is never sent in part."""
        if self._owes_all():
            return None
        return _delta(resources, [name for name, told in self.told.items() if told is Told.OWED])

    def updates(self, resources: Mapping[str, Resource], held: Collection[str] = ()) -> Delta | None:
        """The answers, and what has appeared or changed since but for what is `held` back; then what is on trial."""
        if self._owes_all():
            # After a reconnect the client may still run what is held back, and would delete what is missing.
            held = ()
        due = [name for name in self._due(resources) if name not in held or self.told.get(name) is Told.OWED]
        if due or self.unanswered:
            return _delta(resources, due) or Delta()
        free = {name: one for name, one in resources.items() if name not in held} if self.quarantine else {}
        group = self.quarantine.next_group(free)
        return Delta(group) if group else None

    def changed(self, resources: Mapping[str, Resource]) -> list[str]:
        """The names of the updates that the client does not wait for, and of those on trial."""
        changed = [name for name in self._due(resources) if self.told.get(name) is not Told.OWED]
        return [*changed, *(self.quarantine.suspects() & resources.keys() - changed)]

    def removals(self, resources: Mapping[str, Resource]) -> Delta | None:
        """What the client has and is no longer there."""
        known = [name for name, told in self.told.items() if told is not Told.ABSENT]
        return _delta(resources, [name for name in known if name not in resources])

    def send(self, delta: Delta, nonce: str, now: timedelta, version: str = "") -> Response:
        """`delta` as a response, from now on in flight. The caller may choose the `version`."""
        self.told |= {resource.name: resource for resource in delta.resources}
        self.quarantine.release({resource.name for resource in delta.resources})
        for name in delta.removed:
            if name in self.names:
                self.told[name] = Told.ABSENT
                self.good.pop(name, None)
            else:
                self._forget(name)
        self.unanswered = False
        self._left = 0
        has = self.has()
        resources = tuple(has.values()) if self.form is Form.FULL else delta.resources
        self._said |= {resource.name: now for resource in resources if resource.ttl}
        # A chosen version stands for the whole state, which a client that has refused a part of it does not have.
        self.sent = self.version() if self.quarantine else version or self.version()
        self.sent_at = now
        self.in_flight = Response(self.type_url, nonce, self.sent, resources, delta.removed)
        return self.in_flight

    def send_heartbeats(self, nonce: str, now: timedelta) -> Response | None:
        """That resources which would expire still hold, for those that have lived half of their time."""
        due = tuple(one for one in self._expiring() if now >= self._next_heartbeat(one))
        if not due:
            return None
        self._said |= {resource.name: now for resource in due}
        self.sent_at = now
        self.in_flight = Response(self.type_url, nonce, self.sent, heartbeats=due)
        return self.in_flight

    def next_heartbeat(self) -> timedelta | None:
        return min(map(self._next_heartbeat, self._expiring()), default=None)

    def has(self) -> dict[str, Resource]:
        """What the client has once it has accepted what is on its way, sorted by name."""
        found = ((name, self._has(name, told)) for name, told in sorted(self.told.items(), key=_name))
        return {name: resource for name, resource in found if resource}

    def is_quiet(self, resources: Mapping[str, Resource]) -> bool:
        """Whether nothing is on its way, or a heartbeat behind which nothing waits."""
        if self.in_flight is None:
            return True
        return bool(self.in_flight.heartbeats) and not (self._due(resources) or self.removals(resources))

    def awaited(self) -> tuple[str, ...]:
        """The names on their way which others wait for.

        New endpoints of a cluster that has some are not among them; those that follow a changed cluster are.
        """
        if self.in_flight is None:
            return ()
        sent = (resource.name for resource in self.in_flight.resources if self._is_news(resource))
        return (*sent, *self.in_flight.removed)

    def unaccepted(self, resources: Mapping[str, Resource]) -> Iterator[str]:
        """What the client should have and has not accepted as it is; of endpoints, what it has none of."""
        covered = resources.keys() if self.wildcard else resources.keys() & self.names
        if self.type_url == ENDPOINT:
            return (name for name in covered if name not in self.good)
        return (name for name in covered if not self.accepts(resources[name]))

    def accepts(self, resource: Resource) -> bool:
        good = self.good.get(resource.name)
        return good is not None and good.version == resource.version

    def resources(self) -> Iterator[ResourceStatus]:
        """How far each name is that the client follows."""
        for name, told in sorted(self.told.items(), key=_name):
            if isinstance(told, Told):
                yield ResourceStatus(self.type_url, name, UNTOLD[told])
            elif self.quarantine.holds(told):
                yield ResourceStatus(self.type_url, name, Delivery.REFUSED, told.version)
            else:
                delivery = Delivery.ACCEPTED if self.accepts(told) else Delivery.SENT
                yield ResourceStatus(self.type_url, name, delivery, told.version)

    def version(self) -> str:
        """A digest of all that the client has; empty for nothing."""
        return version_of(self.has())

    def is_wildcard(self, name: str) -> bool:
        return name == WILDCARD and self.type_url in WILDCARD_TYPES

    def _owes_all(self) -> bool:
        return self.form is Form.FULL and self.unanswered

    def _due(self, resources: Mapping[str, Resource]) -> list[str]:
        names = self.told.keys() | resources.keys() if self.wildcard else self.told.keys()
        told = self.told
        # Most are the very objects that were sent, which is quick to see.
        differ = (
            (name, told.get(name), resources.get(name)) for name in names if told.get(name) is not resources.get(name)
        )
        return [name for name, was, now in differ if self._is_due(was, now)]

    def _is_due(self, told: Resource | Told | None, resource: Resource | None) -> bool:
        if told is Told.OWED or resource is None:
            return told is Told.OWED
        return not isinstance(told, Resource) or (told.version, told.ttl) != (resource.version, resource.ttl)

    def _has(self, name: str, told: Resource | Told) -> Resource | None:
        if isinstance(told, Resource) and not self.quarantine.holds(told):
            return told
        return None if told is Told.ABSENT else self.good.get(name)

    def _is_news(self, resource: Resource) -> bool:
        if self.type_url == ENDPOINT:
            return resource.name not in self.good or self.accepts(resource)
        return not self.accepts(resource)

    def _is_filler(self, resource: Resource) -> bool:
        """Whether it was only there so that it would not be missing."""
        return self.form is Form.FULL and self.accepts(resource)

    def _expiring(self) -> list[Resource]:
        return [resource for resource in self.has().values() if resource.ttl] if self._said else []

    def _next_heartbeat(self, resource: Resource) -> timedelta:
        return self._said.get(resource.name, timedelta()) + (resource.ttl or timedelta()) / 2

    def _forget(self, name: str) -> None:
        del self.told[name]
        self.good.pop(name, None)
        self._said.pop(name, None)
        self.quarantine.release({name})


def version_of(resources: Mapping[str, Resource]) -> str:
    """A digest of names and versions; empty for none."""
    held = [f"{name}={resource.version}".encode() for name, resource in sorted(resources.items(), key=_name)]
    return digest(*held) if held else ""


def _name(item: tuple[str, object]) -> str:
    return item[0]


def _delta(resources: Mapping[str, Resource], names: list[str]) -> Delta | None:
    if not names:
        return None
    return Delta(
        resources=tuple(resources[name] for name in sorted(names) if name in resources),
        removed=tuple(name for name in sorted(names) if name not in resources),
    )
