"""A source that somebody else fills, resource by resource: nothing is made and nothing is checked here."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Final

from mesh.model.workload import Locality
from mesh.snapshot.named import Named
from mesh.snapshot.resource import Resource, digest
from mesh.snapshot.types import ENDPOINT
from mesh.xds.source import State
from mesh.xds.watchers import Watchers

EVERY_NODE: Final = "*"
NONE: Final = State()


class RawStore:
    """Resources by node id, or for `EVERY_NODE`; a node's own goes before one of every node with its type and name.

    Each call is one change; one that changes nothing wakes nobody. A node for which nothing was set has nothing, which
    is a state like any other: its streams are answered, and do not wait.
    """

    def __init__(self) -> None:
        self._set: dict[str, State] = {}
        self._whole: dict[str, _Whole] = {}
        self._watchers = Watchers()

    def set(
        self,
        node_id: str,
        resources: Iterable[Resource],
        versions: Mapping[str, str] | None = None,
        replaced: Collection[str] = (),
    ) -> None:
        """Adds `resources`, or puts them in the place of those of the same type and name.

        `versions` are those of whole types; each holds until the type changes again. Of the types in `replaced` the
        node has nothing else from now on.
        """
        before = self._set.get(node_id, NONE)
        changed: dict[str, dict[str, Resource]] = {type_url: {} for type_url in replaced}
        for resource in resources:
            of_type = changed.setdefault(resource.type_url, dict(before.of(resource.type_url)))
            of_type[resource.name] = resource
        self._change(node_id, {type_url: Named(of_type) for type_url, of_type in changed.items()}, versions or {})

    def remove(self, node_id: str, type_url: str, names: Collection[str], version: str = "") -> None:
        """Those of `names` that are not there are nothing to do. `version` is that of what is left of the type."""
        before = self._set.get(node_id, NONE).of(type_url)
        left = Named((name, one) for name, one in before.items() if name not in names)
        self._change(node_id, {type_url: left}, {type_url: version} if version else {})

    def clear(self, node_id: str = "") -> None:
        """Forgets what was set for `node_id`, or all that was ever set."""
        for one in [node_id] if node_id else list(self._set):
            if self._set.pop(one, None):
                self._whole.pop(one, None)
                self._watchers.notify(one)

    def state(self, node_id: str, locality: Locality) -> State:
        return self._of(node_id).state

    def version(self, node_id: str) -> str:
        return self._of(node_id).version

    def watch(self, node_id: str, locality: Locality, changed: Callable[[], None]) -> AbstractContextManager[None]:
        return self._watchers.watching(node_id, EVERY_NODE, changed=changed)

    def _change(self, node_id: str, changed: Mapping[str, Named], versions: Mapping[str, str]) -> None:
        before = self._set.get(node_id, NONE)
        resources = {type_url: named for type_url, named in {**before.resources, **changed}.items() if named}
        kept = {type_url: version for type_url, version in before.versions.items() if type_url not in changed}
        after = State(resources, {**kept, **versions})
        if after != before:
            self._set[node_id] = after
            self._watchers.notify(node_id)

    def _of(self, node_id: str) -> "_Whole":
        """Made once after each change, and shared by all nodes that have nothing of their own."""
        key = node_id if node_id in self._set else EVERY_NODE
        of_every_node, own = self._set.get(EVERY_NODE, NONE), self._set.get(node_id, NONE)
        found = self._whole.get(key)
        if found is None or found.of_every_node is not of_every_node or found.own is not own:
            found = self._whole[key] = _Whole(of_every_node, own, found)
        return found


class _Whole:
    """What a node should have, made of what every node has and what is its own."""

    def __init__(self, of_every_node: State, own: State, before: "_Whole | None") -> None:
        self.of_every_node = of_every_node
        self.own = own
        types = sorted(of_every_node.resources.keys() | own.resources.keys())
        # A version that was chosen for what every node has is none of what this one has besides.
        versions = {url: version for url, version in of_every_node.versions.items() if not own.of(url)}
        self.state = State(
            {type_url: self._merged(type_url, before) for type_url in types}, {**versions, **own.versions}
        )

    def _merged(self, type_url: str, before: "_Whole | None") -> Named:
        """What has not changed stays the same object, which is quick to compare."""
        of_every_node, own = self.of_every_node.of(type_url), self.own.of(type_url)
        if not own:
            return of_every_node
        if before and before.of_every_node.of(type_url) is of_every_node and before.own.of(type_url) is own:
            return before.state.of(type_url)
        return Named({**of_every_node, **own})

    @cached_property
    def version(self) -> str:
        parts = [
            f"{type_url} {name} {named[name].version}"
            for type_url, named in self.state.resources.items()
            if type_url != ENDPOINT
            for name in sorted(named)
        ]
        return digest(*(part.encode() for part in parts)) if parts else ""
