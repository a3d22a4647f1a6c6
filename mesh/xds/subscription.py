"""What one stream has asked for, and been told, of one resource type: the same in both variants. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta

from mesh.registry.status import Refused, ResourceStatus
from mesh.snapshot.named import Named
from mesh.snapshot.resource import Resource
from mesh.xds.known import NO_NAMES, Form, newcomer
from mesh.xds.ledger import Ledger, ledger_of
from mesh.xds.messages import Acceptance, Answer, Content, Delta, Response


class Subscription:
    """At most one response waits for its ACK; while it does, changes add up to one next response.

    As long as all goes its usual way the client is `_known` to have something, and was `_told` something, the same
    unless a response is on its way; both are shared with other streams. For whatever else happens a ledger is opened,
    which says the same at length, and is closed when all has settled.
    """

    __slots__ = (
        "_awaited",
        "_known",
        "_told",
        "acked",
        "acked_at",
        "in_flight",
        "ledger",
        "nacked",
        "nacked_at",
        "sent",
        "sent_at",
        "sent_since",
        "type_url",
    )

    def __init__(self, type_url: str, form: Form, names: frozenset[str] = NO_NAMES, *, wildcard: bool = False) -> None:
        self.type_url = type_url
        self.in_flight: Response | None = None
        self.sent = self.acked = self.nacked = ""
        self.sent_at = timedelta()
        self.sent_since: timedelta | None = None
        self.acked_at: timedelta | None = None
        self.nacked_at: timedelta | None = None
        self._known = self._told = newcomer(type_url, form, names, wildcard=wildcard)
        self._awaited: tuple[str, ...] = ()
        self.ledger: Ledger | None = None

    @property
    def names(self) -> Collection[str]:
        """What the client asks for by name."""
        return self.ledger.names if self.ledger else self._known.asked.names

    @property
    def wildcard(self) -> bool:
        """Whether the client asks for all there is."""
        return self.ledger.wildcard if self.ledger else self._known.asked.wildcard

    def subscribe(self, name: str) -> None:
        """The client is owed an answer, even if it is current: it may have lost what it had."""
        self._opened().subscribe(name, self.in_flight)

    def unsubscribe(self, name: str) -> None:
        self._opened().unsubscribe(name)

    def bring(self, resources: Mapping[str, Resource]) -> None:
        """The client has these already, as far as it asks for them."""
        ledger = self._opened()
        ledger.bring(resources)
        self.sent = self.acked = ledger.version()

    def burden(self) -> int:
        """How many names the client makes us remember: those it asks for, and those it has left and not heard of."""
        return self.ledger.burden() if self.ledger else len(self._known.asked.names)

    def owe(self, names: Iterable[str]) -> None:
        """Those of `names` that the client follows are to be sent again."""
        if self.ledger or self.in_flight:
            self._opened().owe(names)
        else:
            self._known = self._told = self._known.owing(names)

    def rests(self, resources: Named) -> bool:
        """Whether nothing is on its way and nothing is to be said."""
        if self.in_flight:
            return False
        if self.ledger and not self._close(self.ledger, resources):
            return False
        known = self._known
        if known.there is resources and not known.owed and not known.is_new:
            return True
        step = known.step(resources)
        if step is None or step.delta:
            return False
        self._known = self._told = step.after()
        return True

    def acknowledge(self, nonce: str, error: str | None, now: timedelta) -> Answer | None:
        """An ACK, or with an `error` a NACK, of the response in flight; any other nonce is stale and means nothing.

        A client that refuses keeps what it had.
        """
        response = self.in_flight
        if response is None or nonce != response.nonce:
            return None
        if error is not None:
            refusal = self._opened().refuse(response, error)
            self.in_flight = None
            if self.nacked != response.version:
                self.nacked, self.nacked_at = response.version, now
            return refusal
        if self.ledger:
            self.ledger.accept(response)
        else:
            self._known, self._awaited = self._told, ()
        self.in_flight = None
        if self.acked != response.version:
            self.acked, self.acked_at = response.version, now
        return Acceptance(self.type_url)

    def note_absent(self, resources: Named) -> None:
        """Where an absence cannot be said, it is not said: the client keeps what it has."""
        if self.ledger:
            self.ledger.note_absent(resources)
        elif self._told.asked.form is Form.CHANGED and self._told.step(resources) is None:
            self._opened(resources)

    def answers(self, resources: Named) -> Delta | None:
        """What the client has asked for by name and waits for. A first full set is never sent in part."""
        known = self._known
        if not self.ledger:
            if not known.owed:
                return None
            if known.is_new and not known.asked.wildcard and (step := known.step(resources)):
                return step.delta
        return self._opened(resources).answers(resources)

    def updates(self, resources: Named, held: Collection[str] = ()) -> Delta | None:
        """The answers, and what has appeared or changed since but for what is `held` back; then what is on trial."""
        if not self.ledger and not held and (step := self._known.step(resources)):
            return step.delta
        return self._opened(resources).updates(resources, held)

    def changed(self, resources: Named) -> list[str]:
        """The names of the updates that the client does not wait for, and of those on trial."""
        if not self.ledger and (step := self._told.step(resources)):
            due = step.delta.resources if step.delta else ()
            return [one.name for one in due if one.name not in self._told.owed]
        return self._opened(resources).changed(resources)

    def removals(self, resources: Named) -> Delta | None:
        """What the client has and is no longer there."""
        if not self.ledger and self._told.step(resources):
            return None
        return self._opened(resources).removals(resources)

    def send(self, delta: Delta, nonce: str, now: timedelta, version: str = "") -> Response:
        """`delta` as a response, from now on in flight. The caller may choose the `version`."""
        step = None if self.ledger else self._known.taken(delta)
        if step:
            self._told, self._awaited = step.after(), step.awaited
            content = step.content(version)
        else:
            content = self._opened().send(delta, now, version)
        if self.sent != content.version:
            self.sent, self.sent_since = content.version, now
        self.sent_at = now
        self.in_flight = Response(nonce, content)
        return self.in_flight

    def send_heartbeats(self, nonce: str, now: timedelta) -> Response | None:
        """That resources which would expire still hold, for those that have lived half of their time."""
        due = self.ledger.heartbeats(now) if self.ledger else ()
        if not due:
            return None
        self.sent_at = now
        self.in_flight = Response(nonce, Content(self.type_url, self.sent, heartbeats=due))
        return self.in_flight

    def next_heartbeat(self) -> timedelta | None:
        return self.ledger.next_heartbeat() if self.ledger else None

    def only_beats(self, resources: Named) -> bool:
        """Whether what is on its way is a heartbeat behind which nothing waits."""
        is_heartbeat = self.in_flight is not None and self.in_flight.heartbeats
        return bool(self.ledger and is_heartbeat and not self.ledger.has_updates(resources))

    def awaited(self) -> tuple[str, ...]:
        """The names on their way which others wait for.

        New endpoints of a cluster that has some are not among them; those that follow a changed cluster are.
        """
        if self.in_flight is None:
            return ()
        if self.ledger is None:
            return self._awaited
        sent = (resource.name for resource in self.in_flight.resources if self.ledger.is_news(resource))
        return (*sent, *self.in_flight.removed)

    def unaccepted(self, resources: Named) -> Iterator[str]:
        """What the client should have and has not accepted as it is; of endpoints, what it has none of."""
        return (self.ledger or self._known).unaccepted(resources)

    def in_doubt(self, resources: Named) -> Iterator[str]:
        """The names of what the client has refused, or may have refused, as it is."""
        standing = self.ledger.quarantine.standing(resources) if self.ledger else ()
        return (resource.name for resource, _ in standing)

    def refused(self, resources: Named) -> Iterator[Refused]:
        """What the client has refused as it is, and what it goes on with."""
        if self.ledger:
            for one, error in self.ledger.quarantine.refused(resources):
                good = self.ledger.good.get(one.name)
                yield Refused(one.name, one.version, error, good.version if good else "")

    def count(self) -> int:
        """How many resources the client has once it has accepted what is on its way."""
        return len(self.ledger.has()) if self.ledger else self._told.count()

    def resources(self) -> Iterator[ResourceStatus]:
        """How far each name is that the client follows."""
        return (self.ledger or ledger_of(self._known, self._told)).statuses()

    def _opened(self, resources: Named | None = None) -> Ledger:
        if self.ledger is None:
            self.ledger = ledger_of(self._known, self._told)
            if resources is not None:
                self.ledger.note_absent(resources)
            # It would be kept for nothing.
            self._known = self._told = newcomer(self.type_url, self.ledger.form)
        return self.ledger

    def _close(self, ledger: Ledger, resources: Named) -> bool:
        settled = ledger.settled(resources)
        if settled:
            self._known = self._told = settled
            self.ledger = None
        return settled is not None
