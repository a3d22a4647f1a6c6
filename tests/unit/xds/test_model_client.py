"""Whatever clients ask and however they answer: once all is quiet, they have what they should have.

One machine for both variants. Its clients refuse, as a whole, each response with a bad resource in it. Their clusters
warm as Envoy's do: one that has changed waits for its endpoints, and the ACK waits with it. A route refers to
the cluster of its name.
"""

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from mesh.xds.ledger import WILDCARD, WILDCARD_TYPES
from mesh.xds.messages import Response
from tests.unit.xds.proxy import Proxy, SotwProxy, removed, sent

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
NAMES = ("a", "b", "c")
"""Few, so that most of what happens concerns what has happened before."""
NEEDS = {(ROUTE, name): ((CLUSTER, name),) for name in NAMES}

types = st.sampled_from(TYPES)
names = st.sampled_from(NAMES)
contents = st.sampled_from(("1", "2", "bad"))
some_names = st.frozensets(st.sampled_from((*NAMES, WILDCARD)), max_size=2)

PLENTY = 300
"""Responses after which a client that is still being told something never comes to rest."""


class Kept:
    """One resource type as a client keeps it: what it wants, what it has, and the nonce that it has seen last."""

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.is_open = False
        self.names: set[str] = set()
        self.wildcard = False
        self.is_legacy = False
        self.has: dict[str, str] = {}
        self.brought: dict[str, str] = {}
        self.forgotten: set[str] = set()
        self.version = ""
        self.nonce = ""

    def covers(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def stars(self, names: frozenset[str]) -> frozenset[str]:
        return names & {WILDCARD} if self.type_url in WILDCARD_TYPES else frozenset()

    def add(self, subscribe: frozenset[str], drop: frozenset[str]) -> None:
        is_first, star = not self.is_open, self.stars(subscribe)
        self.wildcard |= bool(star) or (is_first and not subscribe and self.type_url in WILDCARD_TYPES)
        self.names |= subscribe - star
        self.wildcard &= not self.stars(drop)
        self.names -= drop
        self._prune()

    def follow(self, names: frozenset[str]) -> None:
        star = self.stars(names)
        self.is_legacy = not names and (self.is_legacy or not self.is_open) and self.type_url in WILDCARD_TYPES
        self.wildcard = bool(star) or self.is_legacy
        self.names = set(names - star)
        self._prune()

    def listed(self) -> list[str]:
        star = {WILDCARD} if self.wildcard and not self.is_legacy else set()
        return sorted(self.names | star)

    def apply(self, response: Response, is_all: bool) -> None:
        new = {name: content for name, content in sent(response).items() if self.covers(name)}
        self.has = new if is_all else {**self.has, **new}
        if not is_all:
            for name in removed(response):
                self.has.pop(name, None)
        self.brought = {} if is_all else {name: one for name, one in self.brought.items() if name not in new}
        self.version = response.version

    def _prune(self) -> None:
        self.has = {name: content for name, content in self.has.items() if self.covers(name)}
        self.is_open = True


class Conversation(RuleBasedStateMachine):
    """The client takes messages in the order in which they come."""

    proxy: Proxy | SotwProxy

    def __init__(self) -> None:
        super().__init__()
        self.proxy = self.connect({type_url: dict.fromkeys(NAMES, "1") for type_url in TYPES})
        self.kept = {type_url: Kept(type_url) for type_url in TYPES}
        self.wire: list[Response] = []
        self.unacknowledged: set[str] = set()
        self.warming: set[str] = set()
        self.withheld: Response | None = None

    def connect(self, contents: dict[str, dict[str, str]]) -> Proxy | SotwProxy:
        raise NotImplementedError

    def say(self, kept: Kept, subscribe: frozenset[str], drop: frozenset[str]) -> list[Response]:
        raise NotImplementedError

    def say_again(self, kept: Kept) -> list[Response]:
        raise NotImplementedError

    def answer(self, kept: Kept, response: Response, error: str | None) -> list[Response]:
        raise NotImplementedError

    @initialize(is_envoy=st.booleans())
    def begin(self, is_envoy: bool) -> None:
        for type_url in TYPES if is_envoy else ():
            named = frozenset[str]() if type_url in WILDCARD_TYPES else frozenset(NAMES)
            self.ask(type_url, named, frozenset())

    @rule(type_url=types, name=names, content=contents)
    def set(self, type_url: str, name: str, content: str) -> None:
        self.proxy.contents[type_url][name] = content

    @rule(content=contents)
    def set_all(self, content: str) -> None:
        for type_url in TYPES:
            self.proxy.contents[type_url] = dict.fromkeys(NAMES, content)

    @rule(type_url=types, name=names)
    def delete(self, type_url: str, name: str) -> None:
        self.proxy.contents[type_url].pop(name, None)

    @rule(type_url=types, subscribe=some_names, drop=some_names)
    def ask(self, type_url: str, subscribe: frozenset[str], drop: frozenset[str]) -> None:
        self.arrive(self.say(self.kept[type_url], subscribe, drop))
        self.warm()

    @rule()
    def push(self) -> None:
        self.arrive(self.proxy.responses())

    @rule()
    def fall_silent(self) -> None:
        self.proxy.now += timedelta(seconds=20)
        self.push()

    @rule()
    def take(self) -> None:
        if not self.wire:
            return
        response = self.wire.pop(0)
        kept = self.kept[response.type_url]
        if "bad" in sent(response).values():
            self.warming -= sent(response).keys() if response.type_url == ENDPOINT else set()
            self.acknowledge(response, error="bad")
        else:
            self.accept(kept, response)
        self.warm()

    def accept(self, kept: Kept, response: Response) -> None:
        if response.type_url == CLUSTER:
            covered = {name: content for name, content in sent(response).items() if kept.covers(name)}
            changed = {name for name, content in covered.items() if kept.has.get(name) != content}
            self.warming |= {name for name in changed if self.proxy.contents[ENDPOINT].get(name) != "bad"}
            self.warming &= self.kept[ENDPOINT].names
        kept.apply(response, is_all=isinstance(self.proxy, SotwProxy) and response.type_url in WILDCARD_TYPES)
        if response.type_url == ENDPOINT:
            self.warming -= {*sent(response), *removed(response)}
        if self.warming and response.type_url == CLUSTER:
            self.withheld = response
        else:
            self.acknowledge(response)

    @rule(order=st.permutations(TYPES))
    def reconnect(self, order: list[str]) -> None:
        self.proxy = self.connect(self.proxy.contents)
        self.wire, self.unacknowledged, self.warming, self.withheld = [], set(), set(), None
        for kept in self.kept.values():
            kept.is_open, kept.nonce, kept.brought = False, "", dict(kept.has)
        for kept in (self.kept[type_url] for type_url in order):
            if kept.names or kept.wildcard:
                kept.is_open = True
                self.arrive(self.say_again(kept))

    def arrive(self, responses: list[Response]) -> None:
        for response in responses:
            assert response.type_url not in self.unacknowledged, "a second response before the first was acknowledged"
            assert len(sent(response)) == len(response.resources), "a name is there twice"
            self.unacknowledged.add(response.type_url)
            self.wire.append(response)

    def acknowledge(self, response: Response, error: str | None = None) -> None:
        self.unacknowledged.remove(response.type_url)
        kept = self.kept[response.type_url]
        kept.nonce = response.nonce
        self.arrive(self.answer(kept, response, error))

    def warm(self) -> None:
        # Endpoints that are bad, or gone where that cannot be said, never come: Envoy then waits 15 s, and goes on.
        there = self.proxy.contents[ENDPOINT]
        may_come = {name for name in NAMES if isinstance(self.proxy, Proxy) or name in there}
        self.warming &= self.kept[ENDPOINT].names & {name for name in may_come if there.get(name) != "bad"}
        if self.withheld and not self.warming:
            response, self.withheld = self.withheld, None
            self.acknowledge(response)

    def teardown(self) -> None:
        self.push()
        for _ in range(PLENTY):
            self.warm()
            self.take()
        assert not self.wire, "it never comes to rest"
        assert not self.withheld, f"clusters wait for their endpoints: {self.warming}"
        for kept in self.kept.values():
            self.check(kept)

    def check(self, kept: Kept) -> None:
        """What the client has is what there is, unless it was refused or waits for what was refused."""
        state = self.proxy.state
        there = self.proxy.contents[kept.type_url]
        status = {one.type_url: one for one in self.proxy.stream.types(state)}.get(kept.type_url)
        refused = {one.name: one.last_good for one in status.refused} if status else {}
        waits = {wait.name for wait in self.proxy.stream.waits(state) if wait.type_url == kept.type_url}
        is_any_bad = any("bad" in named.values() for named in self.proxy.contents.values())
        assert is_any_bad or not waits
        for name in NAMES:
            expected = there.get(name) if kept.covers(name) else None
            has = kept.has.get(name)
            if name in refused:
                assert expected == "bad", f"{kept.type_url} {name} counts as refused"
                is_forgotten = has is None and name in kept.forgotten
                assert is_forgotten or has in (refused[name] or None, kept.brought.get(name)), f"{kept.type_url} {name}"
            elif expected is None and isinstance(self.proxy, SotwProxy) and kept.type_url not in WILDCARD_TYPES:
                continue  # that it is gone could not be said
            elif name not in waits:
                assert has == expected or self.was_never_told(kept), f"{kept.type_url} {name}"

    def was_never_told(self, kept: Kept) -> bool:
        """All that it was sent since it has connected was bad, so that it still has what it brought."""
        return isinstance(self.proxy, SotwProxy) and bool(kept.brought) and kept.has == kept.brought


class DeltaConversation(Conversation):
    def connect(self, contents: dict[str, dict[str, str]]) -> Proxy:
        return Proxy(contents, NEEDS)

    def say(self, kept: Kept, subscribe: frozenset[str], drop: frozenset[str], nonce: str = "") -> list[Response]:
        kept.add(subscribe, drop)
        assert isinstance(self.proxy, Proxy)
        return self.proxy.ask(kept.type_url, *sorted(subscribe), drop=sorted(drop), nonce=nonce)

    def say_again(self, kept: Kept) -> list[Response]:
        star = [WILDCARD] if kept.wildcard and kept.names else []
        assert isinstance(self.proxy, Proxy)
        return self.proxy.ask(kept.type_url, *star, *sorted(kept.names), held=kept.has)

    def answer(self, kept: Kept, response: Response, error: str | None) -> list[Response]:
        assert isinstance(self.proxy, Proxy)
        return self.proxy.ask(kept.type_url, nonce=response.nonce, error=error)

    @rule(type_url=types, name=names)
    def forget(self, type_url: str, name: str) -> None:
        kept = self.kept[type_url]
        if kept.is_open and name in kept.names:
            kept.has.pop(name, None)
            kept.forgotten.add(name)
            self.ask(type_url, frozenset([name]), frozenset())

    @rule(type_url=types, subscribe=some_names, drop=some_names)
    def ask_with_a_stale_nonce(self, type_url: str, subscribe: frozenset[str], drop: frozenset[str]) -> None:
        self.arrive(self.say(self.kept[type_url], subscribe, drop, nonce="stale"))
        self.warm()


class SotwConversation(Conversation):
    def connect(self, contents: dict[str, dict[str, str]]) -> SotwProxy:
        return SotwProxy(contents, NEEDS)

    def say(self, kept: Kept, subscribe: frozenset[str], drop: frozenset[str]) -> list[Response]:
        if kept.type_url in self.unacknowledged:
            # The server will ignore this, and hear it with the ACK; what came and went in between it cannot know of. A
            # name would drop the wildcard of an empty list.
            drop, subscribe = frozenset(), subscribe | ({WILDCARD} if kept.is_legacy else set())
        kept.follow((frozenset(kept.listed()) | subscribe) - drop)
        return self.request(kept)

    def say_again(self, kept: Kept) -> list[Response]:
        return self.request(kept)

    def answer(self, kept: Kept, response: Response, error: str | None) -> list[Response]:
        return self.request(kept, error)

    def request(self, kept: Kept, error: str | None = None) -> list[Response]:
        assert isinstance(self.proxy, SotwProxy)
        return self.proxy.ask(kept.type_url, *kept.listed(), nonce=kept.nonce, version=kept.version, error=error)


MANY = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_any_delta_client_ends_with_what_it_should_have() -> None:
    run_state_machine_as_test(DeltaConversation, settings=MANY)  # type: ignore[no-untyped-call]


def test_any_sotw_client_ends_with_what_it_should_have() -> None:
    run_state_machine_as_test(SotwConversation, settings=MANY)  # type: ignore[no-untyped-call]
