"""What a client of one type does, step by step, and how often it may be answered.

One table for the four variants. `*` and the legacy wildcard exist for clusters and listeners only.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tests.mesh.running import patience
from tests.xds.conformance.client import FULL_SET, WITHIN, Client
from tests.xds.raw import Raw


@dataclass(slots=True)
class Scene:
    """One client, and the node it is. `responses` is how many it should have heard so far."""

    raw: Raw
    client: Client
    node_id: str
    responses: int = 0
    checks: list[str] = field(default_factory=list)

    async def expect(self, held: Mapping[str, str], responses: int) -> None:
        self.responses += responses
        await self.client.has_heard(self.responses)
        if responses:
            assert self.client.held == held

    async def is_followed(self, *names: str) -> None:
        """Returns when the server knows that the client follows exactly these."""
        async with asyncio.timeout(WITHIN * patience()):
            while self._followed() != {*names}:  # noqa: ASYNC110 # what a stream follows notifies nobody
                await asyncio.sleep(0.001)

    def _followed(self) -> set[str]:
        followed = self.raw.board.resources(self.node_id) or ()
        return {one.name for one in followed if one.type_url == self.client.type_url}

    @property
    def is_full_set(self) -> bool:
        return not self.client.is_delta and self.client.type_url in FULL_SET


class Step(Protocol):
    async def play(self, scene: Scene) -> None: ...


class Put:
    """One change: these are at these versions from now on, whether they were there or not."""

    def __init__(self, **versions: str) -> None:
        self._versions = versions

    async def play(self, scene: Scene) -> None:
        await scene.raw.put(scene.client.type_url, self._versions, node_id=scene.node_id)


class Drop:
    """They are there no more."""

    def __init__(self, *names: str) -> None:
        self._names = names

    async def play(self, scene: Scene) -> None:
        await scene.raw.remove(scene.client.type_url, *self._names, node_id=scene.node_id)


class Ask:
    """The client wants exactly these from now on; without names all at first, and nothing once it has named any."""

    def __init__(self, *names: str) -> None:
        self._names = names

    async def play(self, scene: Scene) -> None:
        await scene.client.ask(*self._names)
        if not scene.client.wants_all():
            # That something is dropped is not answered, and a change on the other channel would overtake it.
            await scene.is_followed(*self._names)


class Refuse:
    """The client will refuse the next response."""

    async def play(self, scene: Scene) -> None:
        scene.client.refuse = "not like that"


class Has:
    """After `responses` more, the client has exactly these. `full`, `part`: in the state-of-the-world variant.

    There a response about clusters or listeners has them all, one about other types those that are new or changed.
    """

    def __init__(self, responses: int = 1, full: int | None = None, part: int | None = None, **held: str) -> None:
        self._responses = (responses, responses if full is None else full, responses if part is None else part)
        self._held = held

    async def play(self, scene: Scene) -> None:
        delta, full, part = self._responses
        count = delta if scene.client.is_delta else full if scene.is_full_set else part
        await scene.expect(self._held, count)


class IsTold:
    """A delta client knows of these that they are not there."""

    def __init__(self, *gone: str) -> None:
        self._gone = set(gone)

    async def play(self, scene: Scene) -> None:
        assert not scene.client.is_delta or scene.client.gone == self._gone


BY_NAME: Mapping[str, list[Step]] = {
    "what is named is sent, and nothing else": [Put(a="1", b="1"), Ask("a"), Has(a="1")],
    "several names in one request": [Put(a="1", b="1", c="1"), Ask("a", "b"), Has(a="1", b="1")],
    "one name after the other": [
        *(Put(a="1", b="1", c="1"), Ask("a"), Has(a="1")),
        *(Ask("a", "b"), Has(a="1", b="1")),
        *(Ask("a", "b", "c"), Has(a="1", b="1", c="1")),
    ],
    "a change is sent": [
        *(Put(a="1", b="1"), Ask("a", "b"), Has(a="1", b="1")),
        *(Put(a="2"), Has(a="2", b="1")),
        *(Put(a="3", b="3"), Has(a="3", b="3")),
    ],
    "a change of what nobody asked for is not": [
        *(Put(a="1", b="1"), Ask("a"), Has(a="1")),
        *(Put(b="2"), Put(a="2"), Has(a="2")),
    ],
    "what is set again as it is, is not": [Put(a="1"), Ask("a"), Has(a="1"), Put(a="1"), Put(b="1")],
    "content that goes back and forth is sent each time": [
        *(Put(a="1"), Ask("a"), Has(a="1"), Put(a="2"), Has(a="2")),
        *(Put(a="1"), Has(a="1"), Put(a="2"), Has(a="2")),
    ],
    "one that is missing comes when it is there": [
        *(Put(a="1"), Ask("a", "z"), Has(a="1"), IsTold("z")),
        *(Put(z="1"), Has(a="1", z="1"), IsTold()),
    ],
    "the only one that is missing comes when it is there": [
        *(Ask("z"), Has(part=0), IsTold("z")),
        *(Put(z="1"), Has(z="1"), IsTold()),
    ],
    "one that is removed, and comes back": [
        *(Put(a="1", b="1"), Ask("a", "b"), Has(a="1", b="1")),
        *(Drop("b"), Has(a="1", part=0), IsTold("b")),
        *(Put(b="2"), Has(a="1", b="2"), IsTold()),
    ],
    "unsubscribed changes are not sent": [
        *(Put(a="1", b="1"), Ask("a", "b"), Has(a="1", b="1")),
        *(Ask("a"), Put(b="2"), Put(a="2"), Has(a="2")),
    ],
    "one that is unsubscribed and asked for again is sent again": [
        *(Put(a="1", b="1"), Ask("a", "b"), Has(a="1", b="1")),
        *(Ask("a"), Ask("a", "b"), Has(a="1", b="1")),
    ],
    "without the last name it is told nothing more": [
        *(Put(a="1", b="1"), Ask("a"), Has(a="1")),
        *(Ask(), Put(a="2", b="2"), Drop("a")),
    ],
    "what was refused is not sent again before it changes": [
        *(Put(a="1"), Ask("a"), Has(a="1")),
        *(Refuse(), Put(a="2"), Has(a="1")),
        *(Put(b="1"), Put(a="3"), Has(a="3")),
    ],
    "even the first response can be refused": [Put(a="1"), Refuse(), Ask("a"), Has(), Put(a="2"), Has(a="2")],
    "names are opaque": [
        *(Put(**{"a": "1", "A": "2", "a/%2f": "3", "xdstp://x/y?z": "4"}), Ask("A"), Has(A="2")),
        *(Ask("A", "a/%2f", "xdstp://x/y?z"), Has(**{"A": "2", "a/%2f": "3", "xdstp://x/y?z": "4"})),
    ],
}

WILDCARD: Mapping[str, list[Step]] = {
    "a first request without names is for all": [
        *(Put(a="1", b="1"), Ask(), Has(a="1", b="1")),
        *(Put(a="2"), Has(a="2", b="1")),
        *(Put(c="1"), Has(a="2", b="1", c="1")),
        *(Drop("a"), Has(b="1", c="1")),
    ],
    "a star is for all": [
        *(Put(a="1"), Ask("*"), Has(a="1")),
        *(Put(b="1"), Has(a="1", b="1")),
        *(Drop("a"), Has(b="1")),
    ],
    "that there is nothing is an answer": [Ask(), Has(), Put(a="1"), Has(a="1")],
    "all but one is still all": [Put(a="1", b="1"), Ask("*"), Has(a="1", b="1"), Drop("a", "b"), Has()],
    "without its star it is told of what it has named": [
        *(Put(a="1", b="1"), Ask("*", "a"), Has(a="1", b="1")),
        *(Ask("a"), Put(b="2"), Put(a="2"), Has(a="2")),
    ],
    "a star that was put away does not come back by itself": [
        *(Put(a="1", b="1"), Ask("*"), Has(a="1", b="1")),
        *(Ask(), Put(a="2"), Put(c="1")),
    ],
}

NO_WILDCARD: Mapping[str, list[Step]] = {
    "no name is no subscription": [Put(a="1"), Ask(), Put(b="1"), Ask("a"), Has(a="1")],
}
