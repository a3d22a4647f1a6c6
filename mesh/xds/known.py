"""What a client knows of one type as long as all goes its usual way. Pure.

A thousand proxies that were told the same differ in their nonces alone. So what they know is one value that all of them
share, and what is to be said next is found out, and encoded, once for all of them. Nothing here keeps what no client
has any more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Final
from weakref import WeakValueDictionary, ref

from mesh.snapshot.memo import Memo
from mesh.snapshot.named import NOTHING, Named
from mesh.snapshot.resource import Resource, digest
from mesh.snapshot.types import ENDPOINT
from mesh.xds.messages import Content, Delta

NO_NAMES: Final[frozenset[str]] = frozenset()


class Form(Enum):
    """What the resources of a response say about those that are not in it."""

    DELTA = "delta"
    """Nothing; what is gone is listed."""
    CHANGED = "changed"
    """Nothing; that something is gone cannot be said."""
    FULL = "full"
    """They are gone."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class Asked:
    """What a client asks for of one type: `names`, and with a `wildcard` all there is. Equal ones are one object."""

    type_url: str
    form: Form
    names: frozenset[str]
    wildcard: bool

    def covered(self, resources: Named) -> Iterable[Resource]:
        """Those of `resources` that are meant, sorted by name."""
        if self.wildcard:
            return resources.values()
        return [resources[name] for name in sorted(self.names & resources.keys())]

    def everything(self, resources: Named) -> Delta:
        """What a client is told that has nothing yet."""
        return Delta(
            tuple(self.covered(resources)),
            removed=tuple(sorted(self.names - resources.keys())),
            whole=resources if self.wildcard else None,
        )

    def total(self, resources: Named) -> int:
        """A digest of what is meant, see `total`."""
        return resources.total % MODULUS if self.wildcard else total(self.covered(resources))


_asked: Final = Memo[tuple[str, Form, frozenset[str], bool], Asked](lambda key: Asked(*key))


@dataclass(slots=True, eq=False)
class Step:
    """The way from one knowledge to the next: what is to be said, if anything, and what the client knows afterwards.

    `awaited` are the names in it that others wait for, `total` is the digest of what the client has afterwards.
    """

    asked: Asked
    there: Named
    delta: Delta | None
    awaited: tuple[str, ...]
    total: int
    _version: str = ""
    _after: "ref[Known] | None" = None
    _content: Content | None = None

    def after(self) -> "Known":
        """What the client knows then. It is only kept by the clients: else who stays behind would keep all to come."""
        found = self._after() if self._after else None
        if found is None:
            found = known(self.asked, self.there)
            found.total = self.total
            self._after = ref(found)
        return found

    def content(self, version: str) -> Content:
        """What is said, under a `version` that somebody has chosen or under its own."""
        if self._content is None or self._content.version != (version or self._version):
            self._version = self._version or version_of_total(self.total)
            version = version or self._version
            said = self.delta or Delta()
            if self.asked.form is Form.FULL:
                said = replace(self.asked.everything(self.there), removed=said.removed)
            self._content = Content(self.asked.type_url, version, said.resources, said.removed, whole=said.whole)
        return self._content


@dataclass(slots=True, weakref_slot=True, eq=False)
class Known:
    """The client has accepted what is `there` of what it asks for, and has heard that the rest of it is not there.

    Of the names that are `owed` it waits for an answer, whatever it had. One `is_new` that has heard nothing yet, and
    waits for an answer to all. Nothing that it has is bound to a time to live.
    """

    asked: Asked
    there: Named
    owed: frozenset[str]
    is_new: bool
    total: int | None = None
    _next: tuple[Named, Step | None] | None = None

    @property
    def is_unanswered(self) -> bool:
        """Whether the client is to be told even that there is nothing."""
        return self.is_new and self.asked.wildcard

    def step(self, there: Named) -> Step | None:
        """What comes next when `there` is what there is, or None for what has to be looked at name by name."""
        if self._next is None or self._next[0] is not there:
            self._next = (there, self._step(there))
        return self._next[1]

    def taken(self, delta: Delta) -> Step | None:
        """The step that `delta` came from."""
        step = self._next[1] if self._next else None
        return step if step and step.delta is delta else None

    def has(self) -> Iterable[Resource]:
        return self.asked.covered(self.there)

    def count(self) -> int:
        """How many resources the client has."""
        return len(self.there) if self.asked.wildcard else len(self.asked.names & self.there.keys())

    def owing(self, names: Iterable[str]) -> "Known":
        """The same client, when those of `names` that it asks for are to be sent again."""
        if self.is_new:
            return self
        return known(self.asked, self.there, self.owed | self.asked.names.intersection(names))

    def unaccepted(self, there: Named) -> Iterator[str]:
        """What the client should have and has not accepted as it is; of endpoints, what it has none of."""
        return (one.name for one in self._differing(there) if self._is_unaccepted(one))

    def _is_unaccepted(self, resource: Resource) -> bool:
        good = self.there.get(resource.name)
        return good is None or (self.asked.type_url != ENDPOINT and good.version != resource.version)

    def _differing(self, there: Named) -> Iterator[Resource]:
        names = there.differing(self.there)
        return (there[name] for name in (names if self.asked.wildcard else names & self.asked.names) if name in there)

    def _step(self, there: Named) -> Step | None:
        due = self.asked.everything(there) if self.is_new else self._due(there)
        if not self._is_usual(due, there):
            return None
        removed = () if self.asked.form is Form.CHANGED else due.removed
        delta = replace(due, removed=removed) if due.resources or removed or self.is_unanswered else None
        awaited = (*self._news(due), *removed)
        return Step(self.asked, there, delta, awaited, self._total_after(due, there))

    def _due(self, there: Named) -> Delta:
        """What is to be said of what there is, and that the rest is not there; both sorted by name."""
        names = there.differing(self.there)
        due = sorted(self.owed | (names if self.asked.wildcard else names & self.asked.names))
        found = tuple(there[name] for name in due if name in there)
        return Delta(found, tuple(name for name in due if name not in there))

    def _is_usual(self, due: Delta, there: Named) -> bool:
        """Removals have stages of their own, or no words, and who does not hear of them keeps what it has."""
        if there.expiring and any(one.ttl for one in due.resources):
            return False
        is_unsaid = self.asked.form is Form.CHANGED
        return not any(name not in self.owed or (is_unsaid and name in self.there) for name in due.removed)

    def _news(self, due: Delta) -> Iterable[str]:
        """The names of what others wait for."""
        if due.whole is not None:
            return due.whole
        return (one.name for one in due.resources if self.is_new or self._is_news(one))

    def _total_after(self, due: Delta, there: Named) -> int:
        """What `due` adds to the digest of what the client has, and takes from it."""
        if self.asked.wildcard:
            return self.asked.total(there)
        if self.total is None:
            self.total = self.asked.total(self.there)
        names = (*(one.name for one in due.resources), *due.removed)
        had = () if self.is_new else filter(None, map(self.there.get, names))
        return (self.total + total(due.resources) - total(had)) % MODULUS

    def _is_news(self, resource: Resource) -> bool:
        """New endpoints of a cluster that has some are none; those that follow a changed cluster are."""
        good = self.there.get(resource.name)
        is_same = good is not None and good.version == resource.version
        return good is None or is_same if self.asked.type_url == ENDPOINT else not is_same


_known: Final[WeakValueDictionary[tuple[Asked, int, frozenset[str], bool], Known]] = WeakValueDictionary()


FIRST_RESPONSES: Final = 64
FEW_NAMES: Final = 2_000
"""What so many clients were told first is kept for those that connect next, unless they ask for more names than a mesh
has: names are what a peer can make us keep."""


def newcomer(type_url: str, form: Form, names: frozenset[str] = NO_NAMES, *, wildcard: bool = False) -> Known:
    """A client that has heard nothing."""
    make = _newcomer if len(names) <= FEW_NAMES else _newcomer.__wrapped__
    return make(type_url, form, names, wildcard)


@lru_cache(maxsize=FIRST_RESPONSES)
def _newcomer(type_url: str, form: Form, names: frozenset[str], wildcard: bool) -> Known:
    return known(_asked.get((type_url, form, names, wildcard)), NOTHING, names, is_new=True)


def settled(type_url: str, form: Form, names: frozenset[str], wildcard: bool, there: Named) -> Known:
    """A client that has all that it asks for."""
    return known(_asked.get((type_url, form, names, wildcard)), there)


def known(asked: Asked, there: Named, owed: frozenset[str] = NO_NAMES, is_new: bool = False) -> Known:
    # The value keeps what the key has the address of.
    key = (asked, id(there), owed, is_new)
    found = _known.get(key)
    if found is None:
        found = _known[key] = Known(asked, there, owed, is_new)
    return found


MODULUS: Final = 2**128


def total(resources: Iterable[Resource]) -> int:
    """A digest of names and versions that can be added to and taken from."""
    return sum(one.mark for one in resources) % MODULUS


def version_of_total(marks: int) -> str:
    """Empty for nothing."""
    return digest(marks.to_bytes(16, "big")) if marks else ""
