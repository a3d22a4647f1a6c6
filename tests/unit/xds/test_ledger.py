"""What is kept in short says the same as what is kept at length, whatever clients ask and however they answer."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.snapshot.named import Named
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from mesh.xds.ledger import Ledger
from mesh.xds.messages import Response
from mesh.xds.subscription import Subscription
from tests.unit.xds.proxy import Proxy, SotwProxy

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET)
NAMES = ("a", "b", "c")
NEEDS = {(ROUTE, name): ((CLUSTER, name),) for name in NAMES}
Client = Proxy | SotwProxy


class AtLength(Subscription):
    """One whose ledger is never closed."""

    def rests(self, resources: Named) -> bool:
        self._opened()
        return super().rests(resources)

    def _close(self, ledger: Ledger, resources: Named) -> bool:
        return False


class Pair:
    """Two clients of which the same is said and heard."""

    def __init__(self, client: type[Client]) -> None:
        contents = {type_url: dict.fromkeys(NAMES, "1") for type_url in TYPES}
        self.short, self.long = client(contents, NEEDS), client(contents, NEEDS)
        self.unanswered: list[tuple[Response, Response]] = []

    def both(self, act: Callable[[Client, int], list[Response]]) -> None:
        in_short = act(self.short, 0)
        with patch("mesh.xds.delta.Subscription", AtLength), patch("mesh.xds.sotw.Subscription", AtLength):
            at_length = act(self.long, 1)
        assert [self.said(one) for one in in_short] == [self.said(one) for one in at_length]
        self.unanswered += zip(in_short, at_length, strict=True)
        assert self.status(self.short) == self.status(self.long)

    @staticmethod
    def said(response: Response) -> tuple[object, ...]:
        return response.type_url, response.version, response.resources, response.removed

    @staticmethod
    def status(client: Client) -> tuple[object, ...]:
        stream, state = client.stream, client.state
        waits = stream.waits(state)
        return stream.types(state, waits), {*waits}, stream.is_quiet(state), stream.next_deadline()


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, str, tuple[str, ...], str]:
    kind = draw(st.sampled_from(["change", "change", "ask", "ack", "ack", "ack", "nack", "silence"]))
    names = draw(st.lists(st.sampled_from([*NAMES, "*", "missing"]), max_size=3, unique=True))
    return kind, draw(st.sampled_from(TYPES)), tuple(names), draw(st.sampled_from("123"))


@pytest.mark.parametrize("client", [Proxy, SotwProxy], ids=["delta", "sotw"])
@settings(max_examples=100, deadline=None)
@given(conversation=st.lists(steps(), min_size=10, max_size=40))
def test_what_is_kept_in_short_says_the_same(
    client: type[Client], conversation: list[tuple[str, str, tuple[str, ...], str]]
) -> None:
    pair = Pair(client)
    for type_url in TYPES:
        names = () if type_url in (CLUSTER, LISTENER) else NAMES
        pair.both(lambda one, _, url=type_url, names=names: one.ask(url, *names))
    for kind, type_url, names, content in conversation:
        if kind == "change":
            there = {name: content for name in names if name != "*"}
            pair.both(lambda one, _, url=type_url, there=there: one.change(url, {**one.contents[url], **there}))
        elif kind == "ask":
            pair.both(lambda one, _, url=type_url, names=names: one.ask(url, *names))
        elif kind == "silence":
            pair.both(lambda one, _: one.wait(20))
        elif pair.unanswered:
            answered = pair.unanswered.pop(0)
            is_ack = kind == "ack"
            pair.both(
                lambda one, which, is_ack=is_ack, answered=answered: (
                    one.ack(answered[which]) if is_ack else one.nack(answered[which])
                )
            )
