"""Whatever a client asks and however it answers: once all is quiet, it has what it should have."""

from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from mesh.snapshot.types import CLUSTER, ENDPOINT, ROUTE
from mesh.xds.subscription import WILDCARD, WILDCARD_TYPES, Response
from tests.unit.xds.proxy import Proxy, a_state, removed, sent

TYPES = (CLUSTER, ENDPOINT, ROUTE)
NAMES = ("a", "b")
"""Few, so that most of what happens concerns what has happened before."""

types = st.sampled_from(TYPES)
names = st.sampled_from(NAMES)
contents = st.sampled_from("12")
some_names = st.frozensets(st.sampled_from((*NAMES, WILDCARD)), max_size=2)

PLENTY = 200
"""Responses after which a client that is still being told something never comes to rest."""


class Kept:
    """One resource type as a client keeps it: what it wants, what it has, what it refused, what it waits for."""

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.is_open = False
        self.names: set[str] = set()
        self.wildcard = False
        self.has: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.asked: set[str] = set()

    def covers(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def want(self, subscribe: frozenset[str], drop: frozenset[str]) -> None:
        star = {WILDCARD} if self.type_url in WILDCARD_TYPES else set()
        if star & subscribe or (star and not self.is_open and not subscribe):
            self.wildcard = True
            self.asked.update(NAMES)
        self.names |= subscribe - star
        self.asked |= subscribe | drop
        self.wildcard = self.wildcard and not star & drop
        self.names -= drop
        self.has = {name: content for name, content in self.has.items() if self.covers(name)}
        self.is_open = True

    def check(self, response: Response) -> None:
        for name, content in sent(response).items():
            was_refused = self.refused.pop(name, None) == content
            # Endpoints are sent again after each change of their cluster.
            assert not was_refused or name in self.asked or self.type_url == ENDPOINT, f"{name} comes again as it is"
        # What is deleted and comes back has changed.
        self.refused = {name: content for name, content in self.refused.items() if name not in removed(response)}
        self.asked -= {*sent(response), *removed(response)}

    def apply(self, response: Response) -> None:
        self.has |= {name: content for name, content in sent(response).items() if self.covers(name)}
        for name in removed(response):
            self.has.pop(name, None)


class AnyConversation(RuleBasedStateMachine):
    """The client takes messages in the order in which they come.

    Its clusters warm as Envoy's do: one that has changed waits for its endpoints, and the ACK waits with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.proxy = Proxy({type_url: dict.fromkeys(NAMES, "1") for type_url in TYPES})
        self.kept = {type_url: Kept(type_url) for type_url in TYPES}
        self.wire: list[Response] = []
        self.unacknowledged: set[str] = set()
        self.warming: set[str] = set()
        self.withheld: Response | None = None
        self.fresh = count()

    @initialize(is_envoy=st.booleans())
    def begin(self, is_envoy: bool) -> None:
        if is_envoy:
            self.ask(CLUSTER, frozenset(), frozenset())
            self.ask(ENDPOINT, frozenset(NAMES), frozenset())
            self.ask(ROUTE, frozenset(NAMES), frozenset())

    @rule(type_url=types, name=names, content=contents)
    def set(self, type_url: str, name: str, content: str) -> None:
        self.proxy.contents[type_url][name] = content

    @rule(type_url=types, name=names)
    def delete(self, type_url: str, name: str) -> None:
        self.proxy.contents[type_url].pop(name, None)

    @rule(type_url=types, subscribe=some_names, drop=some_names, nonce=st.sampled_from(["", "stale"]))
    def ask(self, type_url: str, subscribe: frozenset[str], drop: frozenset[str], nonce: str = "") -> None:
        self.kept[type_url].want(subscribe, drop)
        self.arrive(self.proxy.ask(type_url, *sorted(subscribe), drop=sorted(drop), nonce=nonce))
        self.warm()

    @rule(type_url=types, name=names)
    def forget(self, type_url: str, name: str) -> None:
        kept = self.kept[type_url]
        if kept.is_open and name in kept.names:
            kept.has.pop(name, None)
            self.ask(type_url, frozenset([name]), frozenset())

    @rule()
    def push(self) -> None:
        self.arrive(self.proxy.responses())

    @rule()
    def accept(self) -> None:
        if not self.wire:
            return
        response = self.wire.pop(0)
        kept = self.kept[response.type_url]
        if response.type_url == CLUSTER:
            changed = {name for name, content in sent(response).items() if kept.has.get(name) != content}
            self.warming |= changed & self.kept[ENDPOINT].names
        kept.apply(response)
        if response.type_url == ENDPOINT:
            self.warming -= {*sent(response), *removed(response)}
        if self.warming and response.type_url == CLUSTER:
            self.withheld = response
        else:
            self.acknowledge(response)
        self.warm()

    @rule()
    def refuse(self) -> None:
        if not self.wire or not sent(self.wire[0]):
            return
        response = self.wire.pop(0)
        self.kept[response.type_url].refused |= sent(response)
        if response.type_url == ENDPOINT:
            self.warming -= sent(response).keys()
        self.acknowledge(response, error="no")
        self.warm()

    @rule(order=st.permutations(TYPES))
    def reconnect(self, order: list[str]) -> None:
        self.proxy = Proxy(self.proxy.contents)
        self.wire, self.unacknowledged, self.warming, self.withheld = [], set(), set(), None
        for kept in self.kept.values():
            kept.is_open = False
            kept.refused.clear()
        for kept in (self.kept[type_url] for type_url in order):
            if kept.names or kept.wildcard:
                star = [WILDCARD] if kept.wildcard and kept.names else []
                kept.is_open = True
                self.arrive(self.proxy.ask(kept.type_url, *star, *sorted(kept.names), held=kept.has))

    def arrive(self, responses: list[Response]) -> None:
        for response in responses:
            assert response.type_url not in self.unacknowledged, "a second response before the first was acknowledged"
            self.unacknowledged.add(response.type_url)
            self.kept[response.type_url].check(response)
            self.wire.append(response)

    def acknowledge(self, response: Response, error: str | None = None) -> None:
        self.unacknowledged.remove(response.type_url)
        self.arrive(self.proxy.ask(response.type_url, nonce=response.nonce, error=error))

    def warm(self) -> None:
        self.warming &= self.kept[ENDPOINT].names
        if self.withheld and not self.warming:
            response, self.withheld = self.withheld, None
            self.acknowledge(response)

    def teardown(self) -> None:
        self.mend()
        self.push()
        for _ in range(PLENTY):
            self.accept()
        assert not self.wire, "it never comes to rest"
        assert not self.withheld, f"clusters wait for their endpoints: {self.warming}"
        for type_url, kept in self.kept.items():
            there = self.proxy.contents[type_url]
            assert kept.has == {name: content for name, content in there.items() if kept.covers(name)}, type_url
        has_asked = all(self.kept[type_url].is_open for type_url in (CLUSTER, ROUTE) if self.proxy.contents[type_url])
        assert self.proxy.stream.is_quiet(a_state(self.proxy.contents)) is has_asked

    def mend(self) -> None:
        """What was refused is not sent again as it is, so it changes."""
        for type_url, kept in self.kept.items():
            for name in kept.refused.keys() & self.proxy.contents[type_url].keys():
                self.proxy.contents[type_url][name] = f"mended {next(self.fresh)}"


TestAnyConversation = AnyConversation.TestCase
