"""What a client knows of one type, name by name: for whatever does not go its usual way. Pure.

Source: Envoy docs, "xDS REST and gRPC protocol".
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Final

from mesh.registry.status import Delivery, ResourceStatus
from mesh.snapshot.named import Named
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER
from mesh.xds.known import Form, Known, settled, total, version_of_total
from mesh.xds.messages import Content, Delta, Refusal, Response
from mesh.xds.quarantine import Quarantine

WILDCARD: Final = "*"
WILDCARD_TYPES: Final = (CLUSTER, LISTENER)
"""The types of which a client may ask for everything it should have. For all others `*` is a name like any other."""


class Told(Enum):
    """What a client knows of a name when it is not a resource."""

    OWED = "owed"
    """It has asked and waits for an answer, whatever it had before."""
    ABSENT = "absent"
    """It has heard that there is no such resource."""


UNTOLD: Final = {Told.OWED: Delivery.ASKED, Told.ABSENT: Delivery.ABSENT}


@dataclass(slots=True)
class Ledger:
    """Compares what the client was told with what there is, its `resources`: those of the type, by name.

    `told` holds every name that the client has asked for, and with a wildcard those that it was told about besides.
    `good` is what it has accepted last.
    """

    type_url: str
    form: Form
    wildcard: bool
    names: set[str]
    told: dict[str, Resource | Told]
    good: dict[str, Resource]
    unanswered: bool = False
    quarantine: Quarantine = field(default_factory=Quarantine)
    _said: dict[str, timedelta] = field(default_factory=dict)
    _left: int = 0

    def subscribe(self, name: str, on_its_way: Response | None) -> None:
        """The client is owed an answer, even if it is current: it may have lost what it had."""
        if name == WILDCARD and self.type_url in WILDCARD_TYPES:
            self.wildcard = self.unanswered = True
            # What is on its way was sent under an earlier subscription, but arrives under this one.
            sent = on_its_way.resources if on_its_way else ()
            self.told = dict.fromkeys([*self.told, *(resource.name for resource in sent)], Told.OWED)
        else:
            self.names.add(name)
            self.told[name] = Told.OWED

    def unsubscribe(self, name: str) -> None:
        if name == WILDCARD and self.type_url in WILDCARD_TYPES:
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

    def accept(self, response: Response) -> None:
        self.good |= {resource.name: resource for resource in response.resources if resource.name in self.told}

    def refuse(self, response: Response, error: str) -> Refusal:
        """The client keeps what it had.

        What it refused counts as told, so it is not sent again as it is, except in smaller groups to find the cause.
        """
        news = tuple(resource for resource in response.resources if not self._is_filler(resource))
        # What was dropped or asked for again meanwhile is no suspect, but may have been the cause.
        suspects = tuple(resource for resource in news if self.told.get(resource.name) is resource)
        good = {resource.name: self.good[resource.name].version for resource in suspects if resource.name in self.good}
        self.quarantine.refuse(suspects, error, alone=len(news) == 1)
        if suspects:
            # The removals were refused along with them, and cannot be the cause.
            self.told |= {name: Told.OWED for name in response.removed if self.wildcard or name in self.names}
        return Refusal(self.type_url, suspects or response.resources, error, good)

    def note_absent(self, resources: Named) -> None:
        """Where an absence cannot be said, it is not said: the client keeps what it has."""
        if self.form is Form.CHANGED:
            self.told |= dict.fromkeys(self.told.keys() - resources.keys(), Told.ABSENT)

    def answers(self, resources: Named) -> Delta | None:
        """What the client has asked for by name and waits for. A first full set is never sent in part."""
        if self._owes_all():
            return None
        return _delta(resources, [name for name, told in self.told.items() if told is Told.OWED])

    def updates(self, resources: Named, held: Collection[str] = ()) -> Delta | None:
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

    def changed(self, resources: Named) -> list[str]:
        """The names of the updates that the client does not wait for, and of those on trial."""
        changed = [name for name in self._due(resources) if self.told.get(name) is not Told.OWED]
        return [*changed, *(self.quarantine.suspects() & resources.keys() - changed)]

    def removals(self, resources: Named) -> Delta | None:
        """What the client has and is no longer there."""
        known = [name for name, told in self.told.items() if told is not Told.ABSENT]
        return _delta(resources, [name for name in known if name not in resources])

    def send(self, delta: Delta, now: timedelta, version: str) -> Content:
        """`delta` as a response, which is now on its way. The caller may choose the `version`."""
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
        chosen = "" if self.quarantine else version
        return Content(self.type_url, chosen or self.version(), resources, delta.removed)

    def heartbeats(self, now: timedelta) -> tuple[Resource, ...]:
        """Those of which the client is now told that they still hold: they have lived half of their time."""
        due = tuple(one for one in self._expiring() if now >= self._next_heartbeat(one))
        self._said |= {resource.name: now for resource in due}
        return due

    def next_heartbeat(self) -> timedelta | None:
        return min(map(self._next_heartbeat, self._expiring()), default=None)

    def has(self) -> dict[str, Resource]:
        """What the client has once it has accepted what is on its way, sorted by name."""
        found = ((name, self._has(name, told)) for name, told in sorted(self.told.items(), key=_name))
        return {name: resource for name, resource in found if resource}

    def is_news(self, resource: Resource) -> bool:
        """Whether others wait for it: not for new endpoints of a cluster that has some."""
        if self.type_url == ENDPOINT:
            return resource.name not in self.good or self.accepts(resource)
        return not self.accepts(resource)

    def has_updates(self, resources: Named) -> bool:
        return bool(self._due(resources) or self.removals(resources))

    def unaccepted(self, resources: Named) -> Iterator[str]:
        """What the client should have and has not accepted as it is; of endpoints, what it has none of."""
        covered = resources.keys() if self.wildcard else resources.keys() & self.names
        if self.type_url == ENDPOINT:
            return (name for name in covered if name not in self.good)
        return (name for name in covered if not self.accepts(resources[name]))

    def accepts(self, resource: Resource) -> bool:
        good = self.good.get(resource.name)
        return good is not None and good.version == resource.version

    def statuses(self) -> Iterator[ResourceStatus]:
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

    def settled(self, resources: Named) -> Known | None:
        """The same in short, when nothing is on its way and the client has all that it asks for."""
        if self.unanswered or self.quarantine or self._left:
            return None
        names = resources.keys() if self.wildcard else resources.keys() & self.names
        if len(self.good) != len(names) or self.told.keys() != names | self.names:
            return None
        for name in names:
            told, good, there = self.told[name], self.good.get(name), resources[name]
            if there.ttl or good is None or good.version != there.version:
                return None
            if isinstance(told, Told) or (told.version, told.ttl) != (there.version, None):
                return None
        if any(self.told[name] is not Told.ABSENT for name in self.names - names):
            return None
        return settled(self.type_url, self.form, frozenset(self.names), self.wildcard, resources)

    def _owes_all(self) -> bool:
        return self.form is Form.FULL and self.unanswered

    def _due(self, resources: Named) -> list[str]:
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


def ledger_of(known: Known, told: Known) -> Ledger:
    """The long form for a client that has accepted what is `known`, and was `told` what is on its way besides.

    Both are the same while nothing is on its way.
    """
    asked = known.asked
    absent = dict.fromkeys(asked.names, Told.ABSENT)
    found = {one.name: one for one in told.has()}
    owed = dict.fromkeys(told.owed, Told.OWED)
    good = {one.name: one for one in known.has() if one.name in found}
    return Ledger(
        asked.type_url,
        asked.form,
        asked.wildcard,
        set(asked.names),
        {**absent, **found, **owed},
        good,
        unanswered=told.is_unanswered,
    )


def asked_first(type_url: str, listed: Iterable[str]) -> tuple[frozenset[str], bool]:
    """What a first request that has `listed` these asks for by name, and whether it asks for everything."""
    names = frozenset(listed)
    if type_url in WILDCARD_TYPES and (not names or WILDCARD in names):
        return names - {WILDCARD}, True
    return names, False


def version_of(resources: Mapping[str, Resource]) -> str:
    """A digest of names and versions; empty for none."""
    return version_of_total(total(resources.values()))


def _name(item: tuple[str, object]) -> str:
    return item[0]


def _delta(resources: Named, names: list[str]) -> Delta | None:
    if not names:
        return None
    return Delta(
        resources=tuple(resources[name] for name in sorted(names) if name in resources),
        removed=tuple(name for name in sorted(names) if name not in resources),
    )
